//! A vision transformer (Dosovitskiy et al. 2021), as CLIP, OpenCLIP and BLIP publish theirs.

use candle_core::{Device, Tensor};

use crate::Result;
use crate::backbones::layers::encoder::{EncoderKind, EncoderLayer};
use crate::backbones::layers::linear::Linear;
use crate::backbones::layers::norm::LayerNorm;

/// Picture to tokens: patches, a class token before them, positions, layers.
#[derive(Debug)]
pub struct Vision {
    /// Side of a patch in pixels.
    pub patch: usize,
    /// (width, 3·patch·patch): a convolution whose windows do not overlap is a linear layer.
    pub patches: Linear,
    /// (1, 1, width)
    pub class: Tensor,
    /// (1, 1 + patches, width)
    pub positions: Tensor,
    /// Before the layers, in CLIP.
    pub pre_norm: Option<LayerNorm>,
    pub layers: Vec<EncoderLayer>,
    pub post_norm: LayerNorm,
    pub device: Device,
}

impl Vision {
    /// Pixels along a side of the pictures it takes.
    pub fn side(&self) -> Result<usize> {
        let patches = self.positions.dim(1)?.saturating_sub(1);
        Ok(patches.isqrt() * self.patch)
    }

    /// (1, 3, side, side) → (1, 1 + patches, width), the class token first and nothing normalised
    /// after the last layer.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (rows, channels, height, width) = pixels.dims4()?;
        let p = self.patch;
        let patches = pixels
            .reshape(&[rows, channels, height / p, p, width / p, p])?
            .permute(vec![0, 2, 4, 1, 3, 5])?
            .reshape((rows, height / p * (width / p), channels * p * p))?;
        let tokens = self.patches.forward(&patches)?;
        let mut x = Tensor::cat(&[&self.class, &tokens], 1)?.broadcast_add(&self.positions)?;
        if let Some(norm) = &self.pre_norm {
            x = norm.forward(&x)?;
        }
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }

    /// The normalised class token, (1, width).
    pub fn pooled(&self, pixels: &Tensor) -> Result<Tensor> {
        let class = self.forward(pixels)?.narrow(1, 0, 1)?.squeeze(1)?;
        self.post_norm.forward(&class.contiguous()?)
    }

    /// Every token, normalised, (1, 1 + patches, width).
    pub fn tokens(&self, pixels: &Tensor) -> Result<Tensor> {
        self.post_norm.forward(&self.forward(pixels)?)
    }
}

/// As many layers as `has` says there are, from 0.
pub fn layers(
    kind: EncoderKind,
    has: impl Fn(usize) -> bool,
    load: impl Fn(usize, EncoderKind) -> Result<EncoderLayer>,
) -> Result<Vec<EncoderLayer>> {
    (0..)
        .take_while(|i| has(*i))
        .map(|i| load(i, kind))
        .collect()
}
