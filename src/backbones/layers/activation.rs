//! Activations, by the names that configurations use.

use candle_core::Tensor;
use serde::Deserialize;

use super::cpu;
use crate::Result;

/// An element-wise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Activation {
    #[serde(rename = "silu", alias = "swish")]
    Silu,
    /// The exact form, by the error function.
    #[serde(rename = "gelu")]
    Gelu,
    /// The tanh form.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    #[serde(rename = "relu")]
    Relu,
    #[serde(rename = "mish")]
    Mish,
}

impl Activation {
    /// Element by element; any shape.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        if cpu::applies_to(x) {
            let function = match self {
                Self::Silu => Some(cpu::elementwise::silu as fn(&[f32], &mut [f32])),
                Self::Gelu => Some(cpu::elementwise::gelu as fn(&[f32], &mut [f32])),
                _ => None,
            };
            if let Some(function) = function {
                return cpu::with_values(x, |values| {
                    cpu::tensor(x.dims(), |out| function(values, out))
                })?;
            }
        }
        Ok(match self {
            Self::Silu => x.silu()?,
            Self::Gelu => x.gelu_erf()?,
            Self::GeluTanh => x.gelu()?,
            Self::QuickGelu => (x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?,
            Self::Relu => x.relu()?,
            // x·tanh(ln(1 + eˣ)), the logarithm kept from overflowing by its slope at large x.
            Self::Mish => {
                let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
                (x * softplus.tanh()?)?
            }
        })
    }
}
