//! The paper's probe (arXiv 2602.23783): a light CNN with residual down blocks over the
//! cross-attention maps, told the time. Heads are averaged; the text keys of every block are the
//! channels of its input.

use candle_core::Tensor;

use super::super::features::Layout;
use super::layers::{Conv3, Linear, Norm, Weights, add_rows, halve, silu, time_embedding};
use super::{Inputs, Outputs};
use crate::Result;

const CHANNELS: usize = 14;
const BLOCKS: usize = 2;
const FREQUENCIES: usize = 4;

/// A residual block that halves the grid.
struct Down {
    norm: Norm,
    first: Conv3,
    time: Linear,
    middle_norm: Norm,
    second: Conv3,
}

impl Down {
    fn forward(&self, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        let x = halve(x)?;
        let h = self.first.forward(&silu(&self.norm.forward(&x)?)?)?;
        let h = add_rows(&h, &self.time.forward(time)?)?;
        let h = self.middle_norm.forward(&h)?;
        Ok((x + self.second.forward(&silu(&h)?)?)?)
    }
}

pub struct AttentionProbe {
    input: Linear,
    downs: Vec<Down>,
    norm: Norm,
    hidden: Linear,
    output: Linear,
}

impl AttentionProbe {
    pub fn new(layout: &Layout, weights: &mut Weights) -> Result<Self> {
        let channels = layout.blocks.len() * layout.keys;
        let downs = (0..BLOCKS)
            .map(|i| {
                let name = |part: &str| format!("down.{i}.{part}");
                Ok(Down {
                    norm: Norm::new(weights, &name("norm"), CHANNELS)?,
                    first: Conv3::new(weights, &name("first"), (CHANNELS, CHANNELS), 1.0)?,
                    time: Linear::new(weights, &name("time"), (2 * FREQUENCIES, CHANNELS), 1.0)?,
                    middle_norm: Norm::new(weights, &name("middle_norm"), CHANNELS)?,
                    second: Conv3::new(weights, &name("second"), (CHANNELS, CHANNELS), 0.3)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            input: Linear::new(weights, "input", (channels, CHANNELS), 1.0)?,
            downs,
            norm: Norm::new(weights, "norm", CHANNELS)?,
            hidden: Linear::new(weights, "hidden", (CHANNELS + 2 * FREQUENCIES, 32), 1.0)?,
            output: Linear::new(weights, "output", (32, 1), 0.3)?,
        })
    }

    pub fn forward(&self, inputs: &Inputs) -> Result<Outputs> {
        let (rows, blocks, cells, keys) = inputs.maps.dims4()?;
        // Probabilities span orders of magnitude; their logarithm spreads what a word gets.
        let maps = ((&inputs.maps + 1e-3)?.log()? * 0.5)?;
        let x = (maps + 2.0)?.permute((0, 2, 1, 3))?.contiguous()?;
        let x = x.reshape((rows, cells, blocks * keys))?;
        let x = self.input.forward(&x)?;
        let mut x = x.reshape((rows, inputs.height, inputs.width, CHANNELS))?;
        let time = time_embedding(&inputs.time, FREQUENCIES)?;
        for down in &self.downs {
            x = down.forward(&x, &time)?;
        }
        let x = silu(&self.norm.forward(&x)?)?.flatten(1, 2)?.mean(1)?;
        let x = silu(&self.hidden.forward(&Tensor::cat(&[&x, &time], 1)?)?)?;
        Ok(Outputs {
            quality: self.output.forward(&x)?.squeeze(1)?,
            good: None,
            words: None,
        })
    }
}
