//! Normalisation by the root of the mean square alone.

use candle_core::Tensor;

use crate::Result;
use crate::backbones::weights::Scope;

/// RMS normalisation (Zhang & Sennrich 2019) over the last dimension, computed in f32.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    pub fn load(scope: &Scope<'_>, channels: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[channels])?,
            eps: eps as f32,
        })
    }

    /// (…, channels)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(
            &x.contiguous()?,
            &self.weight,
            self.eps,
        )?)
    }

    /// Each part of the last dimension by itself, as many channels as the weight has: the heads of
    /// queries and keys, (rows, tokens, heads·channels).
    pub fn forward_parts(&self, x: &Tensor) -> Result<Tensor> {
        let channels = self.weight.elem_count();
        let parts = x.elem_count() / channels;
        let y = self.forward(&x.reshape((parts, channels))?)?;
        Ok(y.reshape(x.shape())?)
    }
}
