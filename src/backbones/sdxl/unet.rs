//! UNet2DConditionModel, tapped.

use candle_core::{DType, Device, Tensor};

use super::config::{BlockConfig, MidKind, UnetConfig};
use crate::Result;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::conv::{Conv2d, Downsample, Upsample};
use crate::backbones::layers::embeddings::{Sinusoids, TimestepEmbedding};
use crate::backbones::layers::norm::GroupNorm;
use crate::backbones::layers::resnet::{Resnet, ResnetKind};
use crate::backbones::layers::transformer::{SpatialTransformer, TransformerKind};
use crate::backbones::tap::Tap;
use crate::backbones::weights::{Scope, Weights};

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

    /// Module paths of the cross-attentions, in forward order, and which of them are in the middle.
    pub fn cross_attentions(&self) -> (Vec<String>, Vec<String>) {
        let names = |attentions: &[SpatialTransformer]| -> Vec<String> {
            attentions
                .iter()
                .flat_map(|a| a.cross_attentions().map(str::to_owned))
                .collect()
        };
        let mid = match &self.mid {
            Some(mid) => names(mid.attention.as_slice()),
            None => Vec::new(),
        };
        let mut all: Vec<String> = self
            .down
            .iter()
            .flat_map(|b| names(&b.attentions))
            .collect();
        all.extend(mid.clone());
        all.extend(self.up.iter().flat_map(|b| names(&b.attentions)));
        (all, mid)
    }

    /// (rows, channels, height, width) → the prediction, of the same shape.
    pub fn forward(
        &self,
        latents: &Tensor,
        conditions: &Conditions<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
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

fn transformers(
    scope: &Scope<'_>,
    block: &BlockConfig,
    config: &UnetConfig,
) -> Result<Vec<SpatialTransformer>> {
    let depths = block.transformers.as_deref().unwrap_or_default();
    depths
        .iter()
        .take(block.resnets)
        .enumerate()
        .map(|(i, &layers)| {
            let kind = TransformerKind {
                channels: block.channels,
                heads: block.heads,
                layers,
                text_channels: block.text_channels,
                groups: config.groups,
                linear_projection: config.linear_projection,
            };
            SpatialTransformer::load(&scope.at("attentions").at(i), kind)
        })
        .collect()
}

#[derive(Debug)]
struct DownBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<SpatialTransformer>,
    downsample: Option<Downsample>,
}

impl DownBlock {
    fn load(
        scope: &Scope<'_>,
        inputs: usize,
        block: &BlockConfig,
        kind: ResnetKind,
        config: &UnetConfig,
        last: bool,
    ) -> Result<Self> {
        let resnets = (0..block.resnets)
            .map(|i| {
                let from = if i == 0 { inputs } else { block.channels };
                Resnet::load(&scope.at("resnets").at(i), from, block.channels, kind)
            })
            .collect::<Result<_>>()?;
        let downsample = (!last)
            .then(|| {
                Downsample::load(
                    &scope.at("downsamplers").at(0),
                    block.channels,
                    config.downsample_padding,
                )
            })
            .transpose()?;
        Ok(Self {
            resnets,
            attentions: transformers(scope, block, config)?,
            downsample,
        })
    }

    fn forward(
        &self,
        mut x: Tensor,
        time: &Tensor,
        texts: &[&Tensor],
        tap: &mut Tap<'_>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(&x, Some(time))?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, texts, tap)?;
            }
            skips.push(x.clone());
        }
        if let Some(downsample) = &self.downsample {
            x = downsample.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

#[derive(Debug)]
struct MidBlock {
    first: Resnet,
    attention: Option<SpatialTransformer>,
    second: Option<Resnet>,
}

impl MidBlock {
    fn load(scope: &Scope<'_>, config: &UnetConfig, kind: ResnetKind) -> Result<Option<Self>> {
        let Some(deepest) = config.down.last() else {
            return Ok(None);
        };
        let channels = deepest.channels;
        let kind = ResnetKind {
            output_scale: config.mid_scale,
            ..kind
        };
        let resnet = |i: usize| Resnet::load(&scope.at("resnets").at(i), channels, channels, kind);
        match config.mid {
            MidKind::Absent => Ok(None),
            MidKind::Plain => Ok(Some(Self {
                first: resnet(0)?,
                attention: None,
                second: None,
            })),
            MidKind::Attention(layers) => {
                let transformer = TransformerKind {
                    channels,
                    heads: deepest.heads,
                    layers,
                    text_channels: deepest.text_channels,
                    groups: config.groups,
                    linear_projection: config.linear_projection,
                };
                let scope = scope.at("attentions").at(0);
                Ok(Some(Self {
                    first: resnet(0)?,
                    attention: Some(SpatialTransformer::load(&scope, transformer)?),
                    second: Some(resnet(1)?),
                }))
            }
        }
    }

    fn forward(
        &self,
        x: &Tensor,
        time: &Tensor,
        texts: &[&Tensor],
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let mut x = self.first.forward(x, Some(time))?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x, texts, tap)?;
        }
        if let Some(second) = &self.second {
            x = second.forward(&x, Some(time))?;
        }
        Ok(x)
    }
}

#[derive(Debug)]
struct UpBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<SpatialTransformer>,
    upsample: Option<Upsample>,
}

impl UpBlock {
    /// `skips`: channels of what the resnets take from the way down, the last of them first used.
    fn load(
        scope: &Scope<'_>,
        inputs: usize,
        skips: &[usize],
        block: &BlockConfig,
        kind: ResnetKind,
        config: &UnetConfig,
        last: bool,
    ) -> Result<Self> {
        let resnets = skips
            .iter()
            .rev()
            .enumerate()
            .map(|(i, skip)| {
                let from = skip + if i == 0 { inputs } else { block.channels };
                Resnet::load(&scope.at("resnets").at(i), from, block.channels, kind)
            })
            .collect::<Result<_>>()?;
        let upsample = (!last)
            .then(|| Upsample::load(&scope.at("upsamplers").at(0), block.channels))
            .transpose()?;
        Ok(Self {
            resnets,
            attentions: transformers(scope, block, config)?,
            upsample,
        })
    }

    fn forward(
        &self,
        mut x: Tensor,
        time: &Tensor,
        texts: &[&Tensor],
        tap: &mut Tap<'_>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            let skip = skips
                .pop()
                .ok_or_else(|| crate::Error::Internal("the UNet ran out of skips".into()))?;
            x = resnet.forward(&Tensor::cat(&[&x, &skip], 3)?, Some(time))?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, texts, tap)?;
            }
        }
        match (&self.upsample, skips.last()) {
            // Where the latents were no multiple of the down-sampling, twice the size would be one
            // pixel too large for the skip that follows.
            (Some(upsample), Some(next)) => {
                let (_, h, w, _) = next.dims4()?;
                upsample.forward(&x, Some((h, w)))
            }
            _ => Ok(x),
        }
    }
}
