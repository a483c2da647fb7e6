//! The row of linear layers that ends the aesthetic scorer and ImageReward. Between them there is
//! nothing but dropout: what was meant to be an activation is commented out in both's training code.

use candle_core::Tensor;

use crate::backbones::layers::linear::Linear;
use crate::{Error, Result};

/// Linear layers, one after the other.
#[derive(Debug)]
pub struct Head(Vec<Linear>);

impl Head {
    /// `tensors` gives what stands under a name. The layers are `layers.N` for some N, as in a
    /// `Sequential` with dropout between them.
    pub fn load(
        width: usize,
        numbers: impl Iterator<Item = usize>,
        tensors: &dyn Fn(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut layers = Vec::new();
        let mut inputs = width;
        for number in numbers {
            let weight = tensors(&format!("layers.{number}.weight"))?;
            let bias = tensors(&format!("layers.{number}.bias"))?;
            let dims = weight.dims().to_vec();
            match dims.as_slice() {
                [outputs, own] if *own == inputs && bias.dims() == [*outputs] => inputs = *outputs,
                _ => {
                    return Err(Error::model(
                        "head",
                        format!(
                            "layers.{number} has the shapes {dims:?} and {:?} where {inputs} numbers \
                             come in",
                            bias.dims()
                        ),
                    ));
                }
            }
            layers.push(Linear::new(weight, Some(bias))?);
        }
        match inputs {
            1 if !layers.is_empty() => Ok(Self(layers)),
            _ => Err(Error::model(
                "head",
                format!(
                    "{} layers that end in {inputs} numbers, not in one",
                    layers.len()
                ),
            )),
        }
    }

    /// (1, width) → its score.
    pub fn forward(&self, x: &Tensor) -> Result<f64> {
        let mut x = x.clone();
        for layer in &self.0 {
            x = layer.forward(&x)?;
        }
        Ok(f64::from(x.flatten_all()?.get(0)?.to_scalar::<f32>()?))
    }
}
