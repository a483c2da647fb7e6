//! Normalisation over channels-last activations.

use candle_core::{DType, Tensor};

use super::activation::Activation;
use super::cpu;
use super::cpu::norm::{Grouped, layer_norm};
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
        if cpu::applies_to(x) {
            return self.forward_cpu(x, false);
        }
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
        if act == Activation::Silu && cpu::applies_to(x) {
            return self.forward_cpu(x, true);
        }
        act.forward(&self.forward(x)?)
    }

    fn forward_cpu(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        let size = x.elem_count() / x.dim(0)?;
        let bias = cpu::values(&self.bias)?;
        let grouped = self.grouped(x)?;
        cpu::with_values(x, |values| {
            cpu::tensor(x.dims(), |out| {
                let maps = values.chunks_exact(size).zip(out.chunks_exact_mut(size));
                for ((x, out), grouped) in maps.zip(&grouped) {
                    grouped.normalise(x, &bias, silu, out);
                }
            })
        })?
    }

    /// f32 on the CPU: what it does to each row's feature map.
    pub(super) fn grouped(&self, x: &Tensor) -> Result<Vec<Grouped>> {
        let size = x.elem_count() / x.dim(0)?;
        let (groups, eps) = (self.groups, self.eps as f32);
        cpu::with_values(x, |values| {
            cpu::with_values(&self.weight, |weight| {
                let maps = values.chunks_exact(size);
                maps.map(|map| Grouped::new(map, weight, groups, eps))
                    .collect()
            })
        })?
    }

    /// f32 on the CPU.
    pub(super) fn bias(&self) -> Result<Vec<f32>> {
        cpu::values(&self.bias)
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

    /// Without learned weights, as before a modulation: `scope` says where and as what it computes.
    pub fn plain(scope: &Scope<'_>, channels: usize, eps: f64) -> Result<Self> {
        let bias = scope.zeros(&[channels])?;
        Ok(Self {
            weight: bias.ones_like()?,
            bias,
            eps,
        })
    }

    /// [`LayerNorm::forward`] of tokens (rows, tokens, channels), then scaled by 1 + `scale` and moved
    /// by `shift`, each (rows, channels).
    pub fn forward_modulated(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let scale = (scale.unsqueeze(1)? + 1.0)?;
        Ok(self
            .forward(x)?
            .broadcast_mul(&scale)?
            .broadcast_add(&shift.unsqueeze(1)?)?)
    }

    /// (…, channels)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if cpu::applies_to(x) {
            let eps = self.eps as f32;
            return cpu::with_values(x, |values| {
                cpu::with_values(&self.weight, |weight| {
                    cpu::with_values(&self.bias, |bias| {
                        cpu::tensor(x.dims(), |out| layer_norm(values, weight, bias, eps, out))
                    })
                })
            })???;
        }
        Ok(candle_nn::ops::layer_norm(
            &x.contiguous()?,
            &self.weight,
            &self.bias,
            self.eps as f32,
        )?)
    }
}

/// Root-mean-square normalisation (Zhang and Sennrich 2019) over the last dimension.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub fn load(scope: &Scope<'_>, channels: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[channels])?,
            eps,
        })
    }

    /// (…, channels)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(
            &x.contiguous()?,
            &self.weight,
            self.eps as f32,
        )?)
    }
}
