//! The decoder half of AutoencoderTiny, which is distilled from a VAE to show previews at a small part
//! of its cost (TAESD, Bohan 2023).

use candle_core::{DType, Tensor};
use serde::Deserialize;

use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::conv::{Conv2d, enlarge};
use crate::backbones::layers::fused::{self, Fused};
use crate::backbones::weights::{Scope, Weights};

/// What its `config.json` says; the defaults are diffusers' `AutoencoderTiny`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    pub decoder_block_out_channels: Vec<usize>,
    pub num_decoder_blocks: Vec<usize>,
    pub latent_channels: usize,
    pub out_channels: usize,
    pub act_fn: Activation,
    pub upsampling_scaling_factor: usize,
    pub upsample_fn: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            decoder_block_out_channels: vec![64; 4],
            num_decoder_blocks: vec![3, 3, 3, 1],
            latent_channels: 4,
            out_channels: 3,
            act_fn: Activation::Relu,
            upsampling_scaling_factor: 2,
            upsample_fn: "nearest".into(),
        }
    }
}

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 1] = [("encoder.", "only decoding is needed")];

/// diffusers' constant: latents beyond three of this are bent back.
const MAGNITUDE: f64 = 3.0;

impl Config {
    /// Reads and checks `path`.
    pub fn read(files: &ModelFiles, path: &str) -> Result<Self> {
        let config: Self = files.json(path)?;
        let bad = |problem: String| Err(files.error(format!("{path}: {problem}")));
        let (channels, blocks) = (
            &config.decoder_block_out_channels,
            &config.num_decoder_blocks,
        );
        if channels.is_empty() || channels.len() != blocks.len() {
            return bad(format!(
                "{} decoder_block_out_channels and {} num_decoder_blocks do not go together",
                channels.len(),
                blocks.len()
            ));
        }
        // diffusers joins two stages by nothing that could change the width.
        if channels.contains(&0) || channels.iter().any(|c| *c != channels[0]) {
            return bad(format!(
                "decoder_block_out_channels {channels:?} are not all alike"
            ));
        }
        if config.out_channels != 3 {
            return bad(format!(
                "out_channels is {}, and pictures have 3",
                config.out_channels
            ));
        }
        if config.upsample_fn != "nearest" || !(1..=8).contains(&config.upsampling_scaling_factor) {
            return bad(format!(
                "upsampling by {} {} is not supported: nearest by 1 to 8 is",
                config.upsample_fn, config.upsampling_scaling_factor
            ));
        }
        Ok(config)
    }
}

/// Three convolutions beside a shortcut.
#[derive(Debug)]
pub(super) struct Block {
    convs: [Conv2d; 3],
    /// `None`: the convolutions have a ReLU behind them.
    act: Option<Activation>,
}

impl Block {
    pub fn load(scope: &Scope<'_>, channels: usize, act: Activation) -> Result<Self> {
        let conv = |i: usize| Conv2d::load_same(&scope.at("conv").at(i), channels, channels, 3);
        let (first, second, third) = (conv(0)?, conv(2)?, conv(4)?);
        // diffusers joins the block and its shortcut by ReLU whatever act_fn says.
        let third = third.rectified();
        Ok(match act {
            Activation::Relu => Self {
                convs: [first.rectified(), second.rectified(), third],
                act: None,
            },
            other => Self {
                convs: [first, second, third],
                act: Some(other),
            },
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.convs;
        let act = |y| match self.act {
            Some(act) => act.forward(&y),
            None => Ok(y),
        };
        let y = act(first.forward(x)?)?;
        let y = act(second.forward(&y)?)?;
        third.forward_beside(&y, None, Some(x))
    }
}

/// Latents beyond what a decoder was made for, bent back.
pub(super) fn bent(latents: &Tensor) -> Result<Tensor> {
    Ok(((latents / MAGNITUDE)?.tanh()? * MAGNITUDE)?)
}

#[derive(Debug)]
struct Stage {
    blocks: Vec<Block>,
    end: End,
}

/// What follows a stage's blocks.
#[derive(Debug)]
enum End {
    /// To the next stage's pixels.
    Enlarge(Conv2d),
    /// To the next stage's pixels and, since that stage has no blocks, to the picture.
    Both(Fused),
    Picture(Conv2d),
}

/// Latents, as the denoiser speaks of them, to pixels.
#[derive(Debug)]
pub struct TinyDecoder {
    conv_in: Conv2d,
    stages: Vec<Stage>,
    config: Config,
    dtype: DType,
}

impl TinyDecoder {
    pub fn load(config: Config, weights: &Weights, dtype: DType) -> Result<Self> {
        let root = weights.root("");
        let layers = root.at("decoder").at("layers");
        let count = config.num_decoder_blocks.len();
        let channels = config.decoder_block_out_channels[0];
        let conv_in = Conv2d::load_same(&layers.at(0), config.latent_channels, channels, 3)?;
        // Activations and upsamplings hold a place in the list too.
        let mut next = 2;
        let mut stages = Vec::with_capacity(count);
        for (i, &blocks) in config.num_decoder_blocks.iter().enumerate() {
            let blocks = (next..next + blocks)
                .map(|layer| Block::load(&layers.at(layer), channels, config.act_fn))
                .collect::<Result<Vec<_>>>()?;
            next += blocks.len();
            let end = if i + 1 == count {
                End::Picture(Conv2d::load_same(
                    &layers.at(next),
                    channels,
                    config.out_channels,
                    3,
                )?)
            } else {
                let conv = layers.at(next + 1);
                let ends = i + 2 == count && config.num_decoder_blocks[i + 1] == 0;
                let both = match ends && config.upsampling_scaling_factor == fused::BY {
                    true => {
                        Fused::load(&conv, &layers.at(next + 2), (channels, config.out_channels))?
                    }
                    false => None,
                };
                next += 2;
                match both {
                    Some(both) => End::Both(both),
                    None => End::Enlarge(Conv2d::load_unbiased(&conv, channels, channels, 3)?),
                }
            };
            let is_last = matches!(end, End::Both(_));
            stages.push(Stage { blocks, end });
            if is_last {
                break;
            }
        }
        weights.finish(&LEFT_OVER);
        Ok(Self {
            conv_in,
            stages,
            config,
            dtype,
        })
    }

    /// (rows, channels, height, width) → (rows, 3, height', width'), around −1 to 1, f32.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let x = bent(&latents.to_dtype(self.dtype)?)?;
        let x = self
            .conv_in
            .forward(&x.permute((0, 2, 3, 1))?.contiguous()?)?;
        let mut x = self.config.act_fn.forward(&x)?;
        let by = self.config.upsampling_scaling_factor;
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
            x = match &stage.end {
                End::Enlarge(conv) => {
                    let (_, h, w, _) = x.dims4()?;
                    conv.forward(&enlarge(&x, (by * h, by * w))?)?
                }
                End::Both(both) => both.forward(&x)?,
                End::Picture(conv) => conv.forward(&x)?,
            };
        }
        let x = x
            .permute((0, 3, 1, 2))?
            .contiguous()?
            .to_dtype(DType::F32)?;
        Ok(((x * 2.0)? - 1.0)?)
    }
}
