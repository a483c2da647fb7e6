//! UNet2DConditionModel, tapped.

use candle_core::{DType, Device, Tensor};

use super::config::UnetConfig;
use crate::Result;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::conv::Conv2d;
use crate::backbones::layers::embeddings::{Sinusoids, TimestepEmbedding};
use crate::backbones::layers::norm::GroupNorm;
use crate::backbones::layers::resnet::ResnetKind;
use crate::backbones::layers::transformer::SpatialTransformer;
use crate::backbones::tap::Tap;
use crate::backbones::weights::Weights;

mod blocks;

use blocks::{DownBlock, MidBlock, UpBlock};

/// The denoiser of Stable Diffusion XL and its kin.
#[derive(Debug)]
pub struct Unet {
    config: UnetConfig,
    time_sinusoids: Sinusoids,
    time_embedding: TimestepEmbedding,
    added: Option<(Sinusoids, TimestepEmbedding)>,
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: Option<MidBlock>,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    dtype: DType,
    device: Device,
}

/// What one call of the UNet is conditioned on, row by row.
pub struct Conditions<'a> {
    /// In the scheduler's units.
    pub timesteps: &'a [f32],
    /// (1, tokens, text channels) each
    pub texts: &'a [&'a Tensor],
    /// (rows, pooled channels), where the model has an added embedding.
    pub pooled: Option<&'a Tensor>,
    /// Six numbers a row: original height and width, crop top and left, target height and width.
    pub numbers: &'a [f32],
}

/// What the way down and the middle leave for the way up; every tensor has a row a latent.
pub struct Halfway {
    /// (rows, height, width, channels) at the deepest point.
    pub x: Tensor,
    /// (rows, time channels)
    pub time: Tensor,
    /// (rows, height, width, channels) each, the last of them first used.
    pub skips: Vec<Tensor>,
}

/// Module paths, in forward order.
pub struct CrossAttentions {
    pub down: Vec<String>,
    pub mid: Vec<String>,
    pub up: Vec<String>,
}

impl Unet {
    pub fn load(config: UnetConfig, weights: &Weights, dtype: DType) -> Result<Self> {
        let root = weights.root("");
        let sinusoids = |channels| Sinusoids {
            channels,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
        };
        let first = config.first_channels();
        let kind = ResnetKind {
            groups: config.groups,
            eps: config.eps,
            act: config.act,
            time_channels: Some(config.time_channels),
            time_scales: config.time_scales,
            output_scale: 1.0,
        };
        let mut skips = vec![first];
        let mut inputs = first;
        let mut down = Vec::new();
        for (i, block) in config.down.iter().enumerate() {
            let scope = root.at("down_blocks").at(i);
            let last = i + 1 == config.down.len();
            down.push(DownBlock::load(&scope, inputs, block, kind, &config, last)?);
            inputs = block.channels;
            skips.extend(vec![inputs; block.resnets + usize::from(!last)]);
        }
        let mid = MidBlock::load(&root.at("mid_block"), &config, kind)?;
        let mut up = Vec::new();
        for (i, block) in config.up.iter().enumerate() {
            let scope = root.at("up_blocks").at(i);
            let last = i + 1 == config.up.len();
            let from = skips.split_off(skips.len() - block.resnets);
            up.push(UpBlock::load(
                &scope, inputs, &from, block, kind, &config, last,
            )?);
            inputs = block.channels;
        }
        let unet = Self {
            time_sinusoids: sinusoids(first),
            time_embedding: TimestepEmbedding::load(
                &root.at("time_embedding"),
                first,
                config.time_channels,
                config.act,
                config.time_post_act,
            )?,
            added: config
                .added
                .map(|added| -> Result<_> {
                    // diffusers gives this embedding SiLU whatever act_fn says.
                    let embedding = TimestepEmbedding::load(
                        &root.at("add_embedding"),
                        added.inputs,
                        config.time_channels,
                        Activation::Silu,
                        None,
                    )?;
                    Ok((sinusoids(added.number_channels), embedding))
                })
                .transpose()?,
            conv_in: Conv2d::load_same(
                &root.at("conv_in"),
                config.channels,
                first,
                config.conv_in_kernel,
            )?,
            down,
            mid,
            up,
            norm_out: GroupNorm::load(&root.at("conv_norm_out"), config.groups, first, config.eps)?,
            conv_out: Conv2d::load_same(
                &root.at("conv_out"),
                first,
                config.channels,
                config.conv_out_kernel,
            )?,
            dtype,
            device: weights.device().clone(),
            config,
        };
        weights.finish(&[]);
        Ok(unet)
    }

    /// Module paths of the cross-attentions.
    pub fn cross_attentions(&self) -> CrossAttentions {
        let names = |attentions: &[SpatialTransformer]| -> Vec<String> {
            attentions
                .iter()
                .flat_map(|a| a.cross_attentions().map(str::to_owned))
                .collect()
        };
        CrossAttentions {
            down: self
                .down
                .iter()
                .flat_map(|b| names(&b.attentions))
                .collect(),
            mid: match &self.mid {
                Some(mid) => names(mid.attention.as_slice()),
                None => Vec::new(),
            },
            up: self.up.iter().flat_map(|b| names(&b.attentions)).collect(),
        }
    }

    /// The way down and the middle of (rows, channels, height, width).
    pub fn begin(
        &self,
        latents: &Tensor,
        conditions: &Conditions<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<Halfway> {
        let mut x = latents
            .to_dtype(self.dtype)?
            .permute((0, 2, 3, 1))?
            .contiguous()?;
        if self.config.center_input {
            x = ((x * 2.0)? - 1.0)?;
        }
        let time = self.config.act.forward(&self.time(conditions)?)?;
        let texts = conditions.texts;
        x = self.conv_in.forward(&x)?;
        let mut skips = vec![x.clone()];
        for block in &self.down {
            x = block.forward(x, &time, texts, tap, &mut skips)?;
        }
        if let Some(mid) = &self.mid {
            x = mid.forward(&x, &time, texts, tap)?;
        }
        if tap.wants_middle() {
            tap.keep_middle(x.permute((0, 3, 1, 2))?.contiguous()?);
        }
        Ok(Halfway { x, time, skips })
    }

    /// The way up, with the texts that [`Unet::begin`] was given: the prediction, (rows, channels,
    /// height, width).
    pub fn finish(&self, halfway: Halfway, texts: &[&Tensor], tap: &mut Tap<'_>) -> Result<Tensor> {
        let Halfway {
            mut x,
            time,
            mut skips,
        } = halfway;
        for block in &self.up {
            x = block.forward(x, &time, texts, tap, &mut skips)?;
        }
        let x = self.norm_out.forward_act(&x, self.config.act)?;
        let x = self.conv_out.forward(&x)?;
        Ok(x.permute((0, 3, 1, 2))?.contiguous()?)
    }

    /// The time's embedding and the added one, (rows, time channels).
    fn time(&self, conditions: &Conditions<'_>) -> Result<Tensor> {
        let sinusoids =
            self.time_sinusoids
                .forward(conditions.timesteps, self.dtype, &self.device)?;
        let mut time = self.time_embedding.forward(&sinusoids)?;
        if let (Some((sinusoids, embedding)), Some(pooled)) = (&self.added, conditions.pooled) {
            let rows = conditions.timesteps.len();
            let numbers = sinusoids
                .forward(conditions.numbers, self.dtype, &self.device)?
                .reshape((rows, ()))?;
            time = (time + embedding.forward(&Tensor::cat(&[pooled, &numbers], 1)?)?)?;
        }
        match self.config.time_act {
            Some(act) => act.forward(&time),
            None => Ok(time),
        }
    }
}
