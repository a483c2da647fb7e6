//! What can be said from the text alone: the baseline that tells reading a trajectory from knowing
//! which prompts are hard.

use candle_core::Tensor;

use super::super::features::Layout;
use super::layers::{Linear, Norm, Weights, silu};
use super::{Inputs, Outputs};
use crate::Result;

const WIDTH: usize = 24;

pub struct PromptOnly {
    text: Norm,
    pooled: Option<Norm>,
    hidden: Linear,
    second: Linear,
    output: Linear,
}

impl PromptOnly {
    pub fn new(layout: &Layout, weights: &mut Weights) -> Result<Self> {
        let (text, pooled) = (layout.text_dim, layout.pooled_dim);
        Ok(Self {
            text: Norm::new(weights, "text", text)?,
            pooled: match pooled {
                0 => None,
                _ => Some(Norm::new(weights, "pooled", pooled)?),
            },
            hidden: Linear::new(weights, "hidden", (text + pooled + 1, WIDTH), 1.0)?,
            second: Linear::new(weights, "second", (WIDTH, WIDTH), 1.0)?,
            output: Linear::new(weights, "output", (WIDTH, 2), 0.3)?,
        })
    }

    pub fn forward(&self, inputs: &Inputs) -> Result<Outputs> {
        // The mean over the words' keys, and how many there are.
        let count = inputs.is_key.sum_keepdim(1)?;
        let text = self.text.forward(&inputs.text)?;
        let text = text.broadcast_mul(&inputs.is_key.unsqueeze(2)?)?.sum(1)?;
        let mut parts = vec![
            text.broadcast_div(&(&count + 1e-6)?)?,
            (&count * (1.0 / 16.0))?,
        ];
        if let (Some(norm), Some(pooled)) = (&self.pooled, &inputs.pooled) {
            parts.push(norm.forward(pooled)?);
        }
        let x = silu(&self.hidden.forward(&Tensor::cat(&parts, 1)?)?)?;
        let x = silu(&self.second.forward(&x)?)?;
        let y = self.output.forward(&x)?;
        Ok(Outputs {
            quality: y.narrow(1, 0, 1)?.squeeze(1)?,
            good: Some(y.narrow(1, 1, 1)?.squeeze(1)?),
            words: None,
        })
    }
}
