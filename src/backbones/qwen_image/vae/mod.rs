//! The decoder half of AutoencoderKLQwenImage, for a single frame.
//!
//! It is a video decoder, causal in time (Wan 2.1's, fine-tuned). A picture is a video of one frame:
//! every convolution sees zeros before it, and what doubles the frames does not run on the first.

mod config;
mod layers;

use candle_core::{DType, Tensor};

pub use self::config::Config;
use self::layers::{PixelAttention, PixelNorm, Residual, Upsample};
use crate::Result;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::conv::Conv2d;
use crate::backbones::layers::linear::Linear;
use crate::backbones::weights::Weights;

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 4] = [
    ("encoder.", "only decoding is needed"),
    ("quant_conv.", "belongs to the encoder"),
    (
        "time_conv.weight",
        "doubles the frames after the first, and there is one",
    ),
    ("time_conv.bias", "the same"),
];

/// Latents to pixels.
#[derive(Debug)]
pub struct Decoder {
    /// One a channel: latents · std + mean is the VAE's own scale.
    std: Tensor,
    mean: Tensor,
    post_quant: Linear,
    conv_in: Conv2d,
    mid_in: Residual,
    mid_attention: PixelAttention,
    mid_out: Residual,
    blocks: Vec<UpBlock>,
    norm_out: PixelNorm,
    conv_out: Conv2d,
    dtype: DType,
}

#[derive(Debug)]
struct UpBlock {
    residuals: Vec<Residual>,
    upsample: Option<Upsample>,
}

impl Decoder {
    pub fn load(config: &Config, weights: &Weights, dtype: DType) -> Result<Self> {
        let root = weights.root("");
        let scope = root.at("decoder");
        let latent = config.z_dim;
        let widths = config.widths();
        let top = widths[0];
        let mid = scope.at("mid_block");
        let mut inputs = top;
        let mut blocks = Vec::new();
        for (i, &outputs) in widths.iter().enumerate() {
            let block = scope.at("up_blocks").at(i);
            let mut residuals = Vec::new();
            for j in 0..=config.num_res_blocks {
                let from = if j == 0 { inputs } else { outputs };
                let place = block.at("resnets").at(j);
                residuals.push(Residual::load(&place, from, outputs)?);
            }
            let last = i + 1 == widths.len();
            let upsample = (!last)
                .then(|| Upsample::load(&block.at("upsamplers").at(0), outputs))
                .transpose()?;
            inputs = if last { outputs } else { outputs / 2 };
            blocks.push(UpBlock {
                residuals,
                upsample,
            });
        }
        let per_channel = |values: &[f32]| -> Result<Tensor> {
            Ok(Tensor::new(values, weights.device())?.reshape((1, (), 1, 1))?)
        };
        let decoder = Self {
            std: per_channel(&config.latents_std)?,
            mean: per_channel(&config.latents_mean)?,
            post_quant: Linear::load_conv1x1x1(&root.at("post_quant_conv"), latent, latent)?,
            conv_in: Conv2d::load_causal(&scope.at("conv_in"), latent, top, 3)?,
            mid_in: Residual::load(&mid.at("resnets").at(0), top, top)?,
            mid_attention: PixelAttention::load(&mid.at("attentions").at(0), top)?,
            mid_out: Residual::load(&mid.at("resnets").at(1), top, top)?,
            blocks,
            norm_out: PixelNorm::load(&scope.at("norm_out"), &[inputs, 1, 1, 1])?,
            conv_out: Conv2d::load_causal(&scope.at("conv_out"), inputs, 3, 3)?,
            dtype,
        };
        weights.finish(&LEFT_OVER);
        Ok(decoder)
    }

    /// Latents as the denoiser leaves them (rows, channels, height, width) → (rows, 3, height',
    /// width'), around −1 to 1, f32.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let mut x = latents
            .to_dtype(DType::F32)?
            .broadcast_mul(&self.std)?
            .broadcast_add(&self.mean)?
            .to_dtype(self.dtype)?
            .permute((0, 2, 3, 1))?
            .contiguous()?;
        x = self.conv_in.forward(&self.post_quant.forward(&x)?)?;
        x = self.mid_in.forward(&x)?;
        x = self.mid_attention.forward(&x)?;
        x = self.mid_out.forward(&x)?;
        for block in &self.blocks {
            for residual in &block.residuals {
                x = residual.forward(&x)?;
            }
            if let Some(upsample) = &block.upsample {
                x = upsample.forward(&x)?;
            }
        }
        let x = Activation::Silu.forward(&self.norm_out.forward(&x)?)?;
        let x = self.conv_out.forward(&x)?;
        Ok(x.permute((0, 3, 1, 2))?
            .contiguous()?
            .to_dtype(DType::F32)?)
    }
}
