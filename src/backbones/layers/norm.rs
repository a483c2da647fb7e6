//! Normalisation over channels-last activations.

use candle_core::{DType, Tensor};

use super::activation::Activation;
use crate::Result;
use crate::backbones::weights::Scope;

/// Group normalisation, optionally with the activation that follows it.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    pub fn load(scope: &Scope<'_>, groups: usize, channels: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[channels])?,
            bias: scope.tensor("bias", &[channels])?,
            groups,
            eps,
        })
    }

    /// (rows, height, width, channels), normalised per row and group.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, h, w, c) = x.dims4()?;
        let dtype = x.dtype();
        let g = x
            .to_dtype(DType::F32)?
            .reshape((rows, h * w, self.groups, c / self.groups))?;
        let centred = g.broadcast_sub(&g.mean_keepdim((1, 3))?)?;
        let variance = centred.sqr()?.mean_keepdim((1, 3))?;
        let y = centred
            .broadcast_div(&(variance + self.eps)?.sqrt()?)?
            .reshape((rows, h, w, c))?
            .to_dtype(dtype)?;
        Ok(y.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?)
    }

    /// [`GroupNorm::forward`], then the activation.
    pub fn forward_act(&self, x: &Tensor, act: Activation) -> Result<Tensor> {
        act.forward(&self.forward(x)?)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub fn load(scope: &Scope<'_>, channels: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[channels])?,
            bias: scope.tensor("bias", &[channels])?,
            eps,
        })
    }

    /// (…, channels)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::layer_norm(
            &x.contiguous()?,
            &self.weight,
            &self.bias,
            self.eps as f32,
        )?)
    }
}
