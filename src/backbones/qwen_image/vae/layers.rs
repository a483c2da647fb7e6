//! What the decoder is built of, over channels-last feature maps.

use candle_core::{D, DType, Tensor};

use crate::Result;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::attention::{Context, attend};
use crate::backbones::layers::conv::{Conv2d, enlarge};
use crate::backbones::layers::linear::Linear;
use crate::backbones::weights::Scope;

/// The activation of all of the VAE, a constant of diffusers in no file.
const ACT: Activation = Activation::Silu;

/// A pixel's channels to the length √channels, then scaled one by one.
#[derive(Debug)]
pub struct PixelNorm {
    /// Each channel's factor, times √channels; f32.
    gamma: Tensor,
}

impl PixelNorm {
    /// `shape`: of the file's tensor, the channels first and ones behind them.
    pub fn load(scope: &Scope<'_>, shape: &[usize]) -> Result<Self> {
        let gamma = scope.tensor("gamma", shape)?.flatten_all()?;
        let gamma = gamma.to_dtype(DType::F32)?;
        let length = (gamma.elem_count() as f64).sqrt();
        Ok(Self {
            gamma: (gamma * length)?,
        })
    }

    /// (rows, height, width, channels), computed in f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        /// What the reference divides by at least, a constant of torch's `normalize`.
        const SMALLEST: f32 = 1e-12;
        let values = x.to_dtype(DType::F32)?;
        let length = values.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        Ok(values
            .broadcast_div(&length.maximum(SMALLEST)?)?
            .broadcast_mul(&self.gamma)?
            .to_dtype(x.dtype())?)
    }
}

/// Two normalised convolutions beside a shortcut.
#[derive(Debug)]
pub struct Residual {
    norm1: PixelNorm,
    conv1: Conv2d,
    norm2: PixelNorm,
    conv2: Conv2d,
    shortcut: Option<Linear>,
}

impl Residual {
    pub fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            norm1: PixelNorm::load(&scope.at("norm1"), &[inputs, 1, 1, 1])?,
            conv1: Conv2d::load_causal(&scope.at("conv1"), inputs, outputs, 3)?,
            norm2: PixelNorm::load(&scope.at("norm2"), &[outputs, 1, 1, 1])?,
            conv2: Conv2d::load_causal(&scope.at("conv2"), outputs, outputs, 3)?,
            shortcut: (inputs != outputs)
                .then(|| Linear::load_conv1x1x1(&scope.at("conv_shortcut"), inputs, outputs))
                .transpose()?,
        })
    }

    /// (rows, height, width, in) → (rows, height, width, out)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = ACT.forward(&self.norm1.forward(x)?)?;
        let y = self.conv1.forward(&y)?;
        let y = ACT.forward(&self.norm2.forward(&y)?)?;
        let y = self.conv2.forward(&y)?;
        Ok(match &self.shortcut {
            Some(shortcut) => (shortcut.forward(x)? + y)?,
            None => (x + y)?,
        })
    }
}

/// Twice the size by repeating pixels, then a 3×3 convolution to half the channels.
#[derive(Debug)]
pub struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub fn load(scope: &Scope<'_>, channels: usize) -> Result<Self> {
        let place = scope.at("resample").at(1);
        Ok(Self {
            conv: Conv2d::load_same(&place, channels, channels / 2, 3)?,
        })
    }

    /// (rows, height, width, channels) → (rows, 2·height, 2·width, channels / 2)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = x.dims4()?;
        self.conv.forward(&enlarge(x, (2 * h, 2 * w))?)
    }
}

/// One head of attention among the pixels, beside a shortcut.
#[derive(Debug)]
pub struct PixelAttention {
    norm: PixelNorm,
    qkv: Linear,
    out: Linear,
}

impl PixelAttention {
    pub fn load(scope: &Scope<'_>, channels: usize) -> Result<Self> {
        Ok(Self {
            norm: PixelNorm::load(&scope.at("norm"), &[channels, 1, 1])?,
            qkv: Linear::load_conv1x1(&scope.at("to_qkv"), channels, 3 * channels)?,
            out: Linear::load_conv1x1(&scope.at("proj"), channels, channels)?,
        })
    }

    /// (rows, height, width, channels) → like it
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, h, w, c) = x.dims4()?;
        let y = self.norm.forward(x)?.reshape((rows, h * w, c))?;
        let parts = self.qkv.forward(&y)?.chunk(3, D::Minus1)?;
        let (k, v) = (parts[1].contiguous()?, parts[2].contiguous()?);
        let (y, _) = attend(&parts[0].contiguous()?, &Context::new(&k, &v, 1)?, 1, false)?;
        Ok((x + self.out.forward(&y)?.reshape((rows, h, w, c))?)?)
    }
}
