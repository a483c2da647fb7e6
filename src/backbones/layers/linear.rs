//! A linear layer, over the last dimension.

use candle_core::{D, Tensor};

use crate::Result;
use crate::backbones::weights::Scope;

/// `x·Wᵀ + b` over the last dimension.
#[derive(Clone, Debug)]
pub struct Linear {
    /// (out, in)
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// With a bias.
    pub fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[outputs, inputs])?,
            bias: Some(scope.tensor("bias", &[outputs])?),
        })
    }

    pub fn load_no_bias(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[outputs, inputs])?,
            bias: None,
        })
    }

    /// From a 1×1 convolution's weights, which is the same layer where channels come last.
    pub fn load_conv1x1(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            weight: scope
                .tensor("weight", &[outputs, inputs, 1, 1])?
                .reshape((outputs, inputs))?,
            bias: Some(scope.tensor("bias", &[outputs])?),
        })
    }

    /// From a linear layer's weights or a 1×1 convolution's, whichever the file has.
    pub fn load_any(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        match scope.rank("weight") {
            Some(4) => Self::load_conv1x1(scope, inputs, outputs),
            _ => Self::load(scope, inputs, outputs),
        }
    }

    /// (…, in) → (…, out)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let rows = x.elem_count() / inputs;
        let y = x.reshape((rows, inputs))?.matmul(&self.weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        let mut shape = x.dims().to_vec();
        shape[x.rank() - 1] = outputs;
        debug_assert_eq!(x.dim(D::Minus1)?, inputs);
        Ok(y.reshape(shape)?)
    }
}
