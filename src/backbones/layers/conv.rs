//! Convolutions and resampling of channels-last feature maps.

use candle_core::Tensor;

use crate::Result;
use crate::backbones::weights::Scope;

/// A square convolution with a bias over (rows, height, width, channels).
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// (out, in, k, k)
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[outputs, inputs, kernel, kernel])?,
            bias: scope.tensor("bias", &[outputs])?,
            stride,
            padding,
        })
    }

    /// A convolution that keeps the size.
    pub fn load_same(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> Result<Self> {
        Self::load(scope, inputs, outputs, kernel, 1, (kernel - 1) / 2)
    }

    /// (rows, height, width, in) → (rows, height', width', out)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x
            .permute((0, 3, 1, 2))?
            .contiguous()?
            .conv2d(&self.weight, self.padding, self.stride, 1, 1)?
            .permute((0, 2, 3, 1))?
            .contiguous()?;
        Ok(y.broadcast_add(&self.bias)?)
    }
}

/// Halves a feature map by a strided 3×3 convolution.
#[derive(Clone, Debug)]
pub struct Downsample {
    conv: Conv2d,
    padding: usize,
}

impl Downsample {
    /// `padding` 0 means that the image is padded at its right and bottom edge alone.
    pub fn load(scope: &Scope<'_>, channels: usize, padding: usize) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::load(&scope.at("conv"), channels, channels, 3, 2, padding)?,
            padding,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.padding == 0 {
            let padded = x.pad_with_zeros(1, 0, 1)?.pad_with_zeros(2, 0, 1)?;
            self.conv.forward(&padded)
        } else {
            self.conv.forward(x)
        }
    }
}

/// Enlarges a feature map by repeating its nearest pixels, then a 3×3 convolution.
#[derive(Clone, Debug)]
pub struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub fn load(scope: &Scope<'_>, channels: usize) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::load_same(&scope.at("conv"), channels, channels, 3)?,
        })
    }

    /// To `size` (height, width), or to twice what it is.
    pub fn forward(&self, x: &Tensor, size: Option<(usize, usize)>) -> Result<Tensor> {
        let (_, h, w, _) = x.dims4()?;
        let (to_h, to_w) = size.unwrap_or((2 * h, 2 * w));
        self.conv.forward(&nearest(&nearest(x, 1, to_h)?, 2, to_w)?)
    }
}

/// Resizes one dimension by repeating nearest entries.
fn nearest(x: &Tensor, dim: usize, to: usize) -> Result<Tensor> {
    let from = x.dim(dim)?;
    let index: Vec<u32> = (0..to).map(|i| (i * from / to) as u32).collect();
    let index = Tensor::new(index, x.device())?;
    Ok(x.index_select(&index, dim)?)
}
