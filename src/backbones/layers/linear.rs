//! A linear layer, over the last dimension.

use std::sync::Arc;

use candle_core::Tensor;
use candle_core::quantized::QTensor;

use super::activation::Activation;
use super::cpu;
use super::cpu::product::{Left, Packed, product};
use crate::Result;
use crate::backbones::weights::{Matrix, Scope};

/// `x·Wᵀ + b` over the last dimension.
#[derive(Clone, Debug)]
pub struct Linear {
    inputs: usize,
    outputs: usize,
    weights: Kind,
    /// Whether what comes out is cut off below zero.
    rectified: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    /// f32 on the CPU.
    Packed {
        weight: Arc<Packed>,
        bias: Option<Arc<[f32]>>,
    },
    Tensors {
        /// (out, in)
        weight: Tensor,
        bias: Option<Tensor>,
    },
    /// Made numbers of each time it is multiplied with.
    Quantized {
        /// (out, in)
        weight: Arc<QTensor>,
        bias: Option<Tensor>,
    },
}

impl Linear {
    /// With a bias.
    pub fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.matrix("weight", &[outputs, inputs])?;
        Self::of(weight, Some(scope.tensor("bias", &[outputs])?))
    }

    pub fn load_no_bias(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Self::of(scope.matrix("weight", &[outputs, inputs])?, None)
    }

    fn of(weight: Matrix, bias: Option<Tensor>) -> Result<Self> {
        let weight = match weight {
            Matrix::Plain(weight) => return Self::new(weight, bias),
            Matrix::Quantized(weight) => weight,
        };
        let (outputs, inputs) = weight.shape().dims2()?;
        Ok(Self {
            inputs,
            outputs,
            weights: Kind::Quantized { weight, bias },
            rectified: false,
        })
    }

    /// From a 1×1 convolution's weights, which is the same layer where channels come last.
    pub fn load_conv1x1(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.tensor("weight", &[outputs, inputs, 1, 1])?;
        let weight = weight.reshape((outputs, inputs))?;
        Self::new(weight, Some(scope.tensor("bias", &[outputs])?))
    }

    /// [`Linear::load_conv1x1`] of a convolution over time as well, whose kernel is 1×1×1.
    pub fn load_conv1x1x1(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.tensor("weight", &[outputs, inputs, 1, 1, 1])?;
        let weight = weight.reshape((outputs, inputs))?;
        Self::new(weight, Some(scope.tensor("bias", &[outputs])?))
    }

    /// From a weight (out, in) and a bias (out) at hand.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let weights = if cpu::applies_to(&weight) {
            let packed = cpu::with_values(&weight, |values| {
                Packed::new(inputs, outputs, |k, n| values[n * inputs + k])
            })?;
            Kind::Packed {
                weight: Arc::new(packed),
                bias: bias.as_ref().map(cpu::values).transpose()?.map(Arc::from),
            }
        } else {
            Kind::Tensors { weight, bias }
        };
        Ok(Self {
            inputs,
            outputs,
            weights,
            rectified: false,
        })
    }

    /// With a ReLU behind it.
    pub fn rectified(self) -> Self {
        Self {
            rectified: true,
            ..self
        }
    }

    /// From a linear layer's weights or a 1×1 convolution's, whichever the file has.
    pub fn load_any(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        match scope.rank("weight") {
            Some(4) => Self::load_conv1x1(scope, inputs, outputs),
            _ => Self::load(scope, inputs, outputs),
        }
    }

    /// How many numbers it gives.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// (…, in) → (…, out)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.elem_count() / self.inputs;
        let mut shape = x.dims().to_vec();
        shape[x.rank() - 1] = self.outputs;
        match &self.weights {
            Kind::Packed { weight, bias } => cpu::with_values(x, |values| {
                let starts: Vec<usize> = (0..rows).map(|i| i * self.inputs).collect();
                let left = Left {
                    values,
                    rows: &starts,
                    segments: &[0],
                    run: self.inputs,
                };
                cpu::tensor(&shape, |out| {
                    product(&left, weight, bias.as_deref(), out, self.outputs);
                    if self.rectified {
                        cpu::elementwise::rectify(out);
                    }
                })
            })?,
            Kind::Tensors { weight, bias } => {
                let y = product_of(&x.reshape((rows, self.inputs))?, weight, bias)?;
                self.behind(y.reshape(shape)?)
            }
            Kind::Quantized { weight, bias } => {
                let weight = weight.dequantize(x.device())?.to_dtype(x.dtype())?;
                let y = product_of(&x.reshape((rows, self.inputs))?, &weight, bias)?;
                self.behind(y.reshape(shape)?)
            }
        }
    }

    fn behind(&self, y: Tensor) -> Result<Tensor> {
        match self.rectified {
            true => Activation::Relu.forward(&y),
            false => Ok(y),
        }
    }
}

/// (rows, in) → (rows, out)
fn product_of(x: &Tensor, weight: &Tensor, bias: &Option<Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}
