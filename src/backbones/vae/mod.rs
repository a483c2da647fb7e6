//! The decoder half of AutoencoderKL, and the small ones that previews are decoded by.

pub mod preview;
mod subpixel;
mod tiny;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::files::ModelFiles;
use super::layers::activation::Activation;
use super::layers::attention::{Context, attend};
use super::layers::conv::{Conv2d, Upsample};
use super::layers::linear::Linear;
use super::layers::norm::GroupNorm;
use super::layers::resnet::{Resnet, ResnetKind};
use super::weights::{Scope, Weights};
use crate::Result;

/// What `vae/config.json` says; the defaults are diffusers' `AutoencoderKL`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    pub out_channels: usize,
    pub up_block_types: Vec<String>,
    pub block_out_channels: Vec<usize>,
    pub layers_per_block: usize,
    pub act_fn: Activation,
    pub latent_channels: usize,
    pub norm_num_groups: usize,
    pub scaling_factor: f64,
    pub shift_factor: Option<f64>,
    pub latents_mean: Option<Vec<f32>>,
    pub latents_std: Option<Vec<f32>>,
    pub force_upcast: bool,
    pub use_post_quant_conv: bool,
    pub mid_block_add_attention: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            out_channels: 3,
            up_block_types: vec!["UpDecoderBlock2D".into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: Activation::Silu,
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            force_upcast: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

/// diffusers' constant for all norms of the VAE, in no file.
const NORM_EPS: f64 = 1e-6;

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 2] = [
    ("encoder.", "only decoding is needed"),
    ("quant_conv.", "belongs to the encoder"),
];

impl Config {
    /// Reads and checks `vae/config.json`.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let config: Self = files.json("vae/config.json")?;
        let bad = |problem: String| Err(files.error(format!("vae/config.json: {problem}")));
        if config.block_out_channels.is_empty() {
            return bad("block_out_channels is empty".into());
        }
        if let Some(other) = config
            .up_block_types
            .iter()
            .find(|t| *t != "UpDecoderBlock2D")
        {
            return bad(format!(
                "the block {other} is not supported: UpDecoderBlock2D is"
            ));
        }
        if config.up_block_types.len() != config.block_out_channels.len() {
            return bad(format!(
                "{} up_block_types and {} block_out_channels do not go together",
                config.up_block_types.len(),
                config.block_out_channels.len()
            ));
        }
        let groups = config.norm_num_groups;
        for &channels in &config.block_out_channels {
            if groups == 0 || channels == 0 || channels % groups != 0 {
                return bad(format!(
                    "{channels} channels are no multiple of norm_num_groups {groups}"
                ));
            }
        }
        for (name, per_channel) in [
            ("latents_mean", &config.latents_mean),
            ("latents_std", &config.latents_std),
        ] {
            if let Some(values) = per_channel
                && values.len() != config.latent_channels
            {
                return bad(format!(
                    "{name} has {} values for {} latent channels",
                    values.len(),
                    config.latent_channels
                ));
            }
        }
        if config.out_channels != 3 {
            return bad(format!(
                "out_channels is {}, and pictures have 3",
                config.out_channels
            ));
        }
        Ok(config)
    }

    /// What to compute a pipeline's VAE in whose other parts are `dtype`. The published VAEs overflow
    /// in f16, which their configurations say; and on the CPU there is no convolution in bf16.
    pub fn dtype(&self, dtype: DType, device: &Device) -> DType {
        match dtype {
            DType::F16 if self.force_upcast => DType::F32,
            DType::BF16 if device.is_cpu() => DType::F32,
            other => other,
        }
    }

    /// Pixels to one latent, along each side.
    pub fn scale(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

/// Latents to pixels.
#[derive(Debug)]
pub struct Decoder {
    post_quant: Option<Linear>,
    conv_in: Conv2d,
    mid_in: Resnet,
    mid_attention: Option<PixelAttention>,
    mid_out: Resnet,
    blocks: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    dtype: DType,
}

#[derive(Debug)]
struct UpBlock {
    resnets: Vec<Resnet>,
    upsample: Option<Upsample>,
}

impl Decoder {
    pub fn load(config: &Config, weights: &Weights, dtype: DType) -> Result<Self> {
        let root = weights.root("");
        let scope = root.at("decoder");
        let latent = config.latent_channels;
        let kind = ResnetKind {
            groups: config.norm_num_groups,
            eps: NORM_EPS,
            act: config.act_fn,
            time_channels: None,
            time_scales: false,
            output_scale: 1.0,
        };
        let reversed: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let top = reversed[0];
        let mid = scope.at("mid_block");
        let mut inputs = top;
        let mut blocks = Vec::new();
        for (i, &outputs) in reversed.iter().enumerate() {
            let block = scope.at("up_blocks").at(i);
            let mut resnets = Vec::new();
            for j in 0..=config.layers_per_block {
                let from = if j == 0 { inputs } else { outputs };
                resnets.push(Resnet::load(
                    &block.at("resnets").at(j),
                    from,
                    outputs,
                    kind,
                )?);
            }
            let upsample = (i + 1 < reversed.len())
                .then(|| Upsample::load(&block.at("upsamplers").at(0), outputs))
                .transpose()?;
            blocks.push(UpBlock { resnets, upsample });
            inputs = outputs;
        }
        let decoder = Self {
            post_quant: config
                .use_post_quant_conv
                .then(|| Linear::load_conv1x1(&root.at("post_quant_conv"), latent, latent))
                .transpose()?,
            conv_in: Conv2d::load_same(&scope.at("conv_in"), latent, top, 3)?,
            mid_in: Resnet::load(&mid.at("resnets").at(0), top, top, kind)?,
            mid_attention: config
                .mid_block_add_attention
                .then(|| PixelAttention::load(&mid.at("attentions").at(0), top, kind.groups))
                .transpose()?,
            mid_out: Resnet::load(&mid.at("resnets").at(1), top, top, kind)?,
            blocks,
            norm_out: GroupNorm::load(&scope.at("conv_norm_out"), kind.groups, inputs, NORM_EPS)?,
            conv_out: Conv2d::load_same(&scope.at("conv_out"), inputs, config.out_channels, 3)?,
            dtype,
        };
        weights.finish(&LEFT_OVER);
        Ok(decoder)
    }

    /// Latents in the VAE's own scale (rows, channels, height, width) → (rows, 3, height', width'),
    /// around −1 to 1, f32.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let mut x = latents
            .to_dtype(self.dtype)?
            .permute((0, 2, 3, 1))?
            .contiguous()?;
        if let Some(post_quant) = &self.post_quant {
            x = post_quant.forward(&x)?;
        }
        x = self.mid_in.forward(&self.conv_in.forward(&x)?, None)?;
        if let Some(attention) = &self.mid_attention {
            x = attention.forward(&x)?;
        }
        x = self.mid_out.forward(&x, None)?;
        for block in &self.blocks {
            for resnet in &block.resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(upsample) = &block.upsample {
                x = upsample.forward(&x, None)?;
            }
        }
        // diffusers' decoder ends in SiLU whatever act_fn says.
        let x = self.norm_out.forward_act(&x, Activation::Silu)?;
        let x = self.conv_out.forward(&x)?;
        Ok(x.permute((0, 3, 1, 2))?
            .contiguous()?
            .to_dtype(DType::F32)?)
    }
}

/// One head of attention among the pixels, beside a shortcut.
#[derive(Debug)]
struct PixelAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl PixelAttention {
    fn load(scope: &Scope<'_>, channels: usize, groups: usize) -> Result<Self> {
        // Files from before diffusers 0.14 have the older names, some of them as 1×1 convolutions.
        let project = |new: Scope<'_>, old: &str| {
            let scope = if new.has("weight") {
                new
            } else {
                scope.at(old)
            };
            Linear::load_any(&scope, channels, channels)
        };
        Ok(Self {
            norm: GroupNorm::load(&scope.at("group_norm"), groups, channels, NORM_EPS)?,
            q: project(scope.at("to_q"), "query")?,
            k: project(scope.at("to_k"), "key")?,
            v: project(scope.at("to_v"), "value")?,
            out: project(scope.at("to_out").at(0), "proj_attn")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, h, w, c) = x.dims4()?;
        let y = self.norm.forward(x)?.reshape((rows, h * w, c))?;
        let (q, k, v) = (
            self.q.forward(&y)?,
            self.k.forward(&y)?,
            self.v.forward(&y)?,
        );
        let (y, _) = attend(&q, &Context::new(&k, &v, 1)?, 1, false)?;
        Ok((x + self.out.forward(&y)?.reshape((rows, h, w, c))?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_is_for_vaes_whose_weights_were_fixed_for_it() {
        let config = |json: &str| -> Config { serde_json::from_str(json).unwrap() };
        // As SDXL's is published, as `madebyollin/sdxl-vae-fp16-fix` is, and without a word.
        let (published, fixed, silent) = (
            config(r#"{"force_upcast": true}"#),
            config(r#"{"force_upcast": false}"#),
            config("{}"),
        );
        let dtype = |config: &Config, dtype| config.dtype(dtype, &Device::Cpu);
        assert_eq!(dtype(&published, DType::F16), DType::F32);
        assert_eq!(dtype(&silent, DType::F16), DType::F32);
        assert_eq!(dtype(&fixed, DType::F16), DType::F16);
        for config in [&published, &fixed, &silent] {
            assert_eq!(dtype(config, DType::F32), DType::F32);
            assert_eq!(dtype(config, DType::BF16), DType::F32);
        }
    }
}
