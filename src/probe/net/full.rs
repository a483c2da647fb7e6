//! The shipped probe. What a failed image lacks is mostly a relation between two words, so words are
//! laid out in space before anything is pooled: at each cell of the maps' grid, the embedding of the
//! words that it attends to, the predicted latents and the middle activations meet in a small
//! residual CNN. Each word then reads the cells that attend to it and says whether its object will
//! come out, and the image's quality is read from the cells, the words and the prompt together.

use candle_core::{Device, Tensor};

use super::super::features::Layout;
use super::super::preview;
use super::layers::{Conv3, Linear, Norm, Weights, add_rows, silu, time_embedding};
use super::{Inputs, Outputs};
use crate::Result;

const CHANNELS: usize = 24;
const BLOCKS: usize = 2;
/// Of a word's embedding.
const WORD: usize = 24;
/// Of the prompt's summary.
const PROMPT: usize = 24;
const FREQUENCIES: usize = 4;
/// Of what all blocks are told: the prompt's summary and the time.
const CONTEXT: usize = PROMPT + 2 * FREQUENCIES;
/// Of what a word says.
const VERDICT: usize = 24;
const HIDDEN: usize = 40;

struct Residual {
    norm: Norm,
    first: Conv3,
    context: Linear,
    middle_norm: Norm,
    second: Conv3,
}

impl Residual {
    fn new(weights: &mut Weights, name: &str) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        Ok(Self {
            norm: Norm::new(weights, &part("norm"), CHANNELS)?,
            first: Conv3::new(weights, &part("first"), (CHANNELS, CHANNELS), 1.0)?,
            context: Linear::new(weights, &part("context"), (CONTEXT, CHANNELS), 1.0)?,
            middle_norm: Norm::new(weights, &part("middle_norm"), CHANNELS)?,
            second: Conv3::new(weights, &part("second"), (CHANNELS, CHANNELS), 0.3)?,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let h = self.first.forward(&silu(&self.norm.forward(x)?)?)?;
        let h = add_rows(&h, &self.context.forward(context)?)?;
        let h = self.middle_norm.forward(&h)?;
        Ok((x + self.second.forward(&silu(&h)?)?)?)
    }
}

pub struct FullProbe {
    text: Norm,
    word: Linear,
    pooled: Option<Norm>,
    prompt: Linear,
    middle: Option<Norm>,
    input: Linear,
    blocks: Vec<Residual>,
    norm: Norm,
    word_hidden: Linear,
    word_risk: Linear,
    hidden: Linear,
    output: Linear,
}

impl FullProbe {
    pub fn new(layout: &Layout, weights: &mut Weights) -> Result<Self> {
        let blocks = layout.blocks.len();
        // Per block the attended words and how much attention words get at all; two coordinates.
        let cell = blocks * (WORD + 1) + layout.x0_channels + layout.middle_channels + 2;
        // What the word's cells hold, its embedding, and per block its mass and concentration.
        let (seen_word, seen_whole) = match layout.preview {
            true => (preview::WORD, preview::WHOLE),
            false => (0, 0),
        };
        let word = CHANNELS + WORD + 2 * blocks + CONTEXT + seen_word;
        let whole = 2 * CHANNELS + 2 * VERDICT + CONTEXT + seen_whole;
        let optional = |weights: &mut Weights, name: &str, width: usize| match width {
            0 => Ok(None),
            _ => Norm::new(weights, name, width).map(Some),
        };
        Ok(Self {
            text: Norm::new(weights, "text", layout.text_dim)?,
            word: Linear::new(weights, "word", (layout.text_dim, WORD), 1.0)?,
            pooled: optional(weights, "pooled", layout.pooled_dim)?,
            prompt: Linear::new(weights, "prompt", (layout.pooled_dim + WORD, PROMPT), 1.0)?,
            middle: optional(weights, "middle", layout.middle_channels)?,
            input: Linear::new(weights, "input", (cell, CHANNELS), 1.0)?,
            blocks: (0..BLOCKS)
                .map(|i| Residual::new(weights, &format!("block.{i}")))
                .collect::<Result<_>>()?,
            norm: Norm::new(weights, "norm", CHANNELS)?,
            word_hidden: Linear::new(weights, "word_hidden", (word, VERDICT), 1.0)?,
            word_risk: Linear::new(weights, "word_risk", (VERDICT, 1), 0.3)?,
            hidden: Linear::new(weights, "hidden", (whole, HIDDEN), 1.0)?,
            output: Linear::new(weights, "output", (HIDDEN, 2), 0.3)?,
        })
    }

    pub fn forward(&self, inputs: &Inputs) -> Result<Outputs> {
        let (rows, cells, _) = inputs.x0.dims3()?;
        let embeds = self.word.forward(&self.text.forward(&inputs.text)?)?;
        let context = self.context(inputs, &embeds)?;

        let attended = &inputs.attended;
        let field = Tensor::cat(&[&attended.share.matmul(&embeds)?, &attended.mass], 2)?;
        let field = field.reshape((rows, cells, ()))?;
        let mut parts = vec![field, inputs.x0.clone()];
        if let (Some(norm), Some(middle)) = (&self.middle, &inputs.middle) {
            parts.push(norm.forward(middle)?);
        }
        parts.push(coordinates(rows, inputs.height, inputs.width)?);
        let x = self.input.forward(&Tensor::cat(&parts, 2)?)?;
        let mut x = x.reshape((rows, inputs.height, inputs.width, CHANNELS))?;
        for block in &self.blocks {
            x = block.forward(&x, &context)?;
        }
        let x = silu(&self.norm.forward(&x)?)?.flatten(1, 2)?;

        let verdicts = self.verdicts(inputs, &x, &embeds, &context)?;
        let risks = self.word_risk.forward(&verdicts)?.squeeze(2)?;
        let heard = verdicts.broadcast_mul(&inputs.is_word.unsqueeze(2)?)?;
        let count = (inputs.is_word.sum_keepdim(1)? + 1e-6)?;
        let mut parts = vec![
            x.mean(1)?,
            x.max(1)?,
            heard.sum(1)?.broadcast_div(&count)?,
            heard.max(1)?,
            context,
        ];
        parts.extend(inputs.preview.iter().map(|(whole, _)| whole.clone()));
        let whole = Tensor::cat(&parts, 1)?;
        let y = self.output.forward(&silu(&self.hidden.forward(&whole)?)?)?;
        Ok(Outputs {
            quality: y.narrow(1, 0, 1)?.squeeze(1)?,
            good: Some(y.narrow(1, 1, 1)?.squeeze(1)?),
            words: Some(risks),
        })
    }

    /// (rows, CONTEXT): the prompt as a whole, and the time.
    fn context(&self, inputs: &Inputs, embeds: &Tensor) -> Result<Tensor> {
        let is_key = inputs.is_key.unsqueeze(2)?;
        let words = embeds.broadcast_mul(&is_key)?.sum(1)?;
        let mut parts = vec![(words * 0.125)?];
        if let (Some(norm), Some(pooled)) = (&self.pooled, &inputs.pooled) {
            parts.push(norm.forward(pooled)?);
        }
        let prompt = silu(&self.prompt.forward(&Tensor::cat(&parts, 1)?)?)?;
        let time = time_embedding(&inputs.time, FREQUENCIES)?;
        Ok(Tensor::cat(&[prompt, time], 1)?)
    }

    /// (rows, words, VERDICT): each word with the cells that attend to it.
    fn verdicts(
        &self,
        inputs: &Inputs,
        cells: &Tensor,
        embeds: &Tensor,
        context: &Tensor,
    ) -> Result<Tensor> {
        let (rows, words, _) = inputs.words.dims3()?;
        let attended = &inputs.attended;
        let context = context.unsqueeze(1)?.broadcast_as((rows, words, CONTEXT))?;
        let mut parts = vec![
            attended.looked.matmul(cells)?,
            inputs.words.matmul(embeds)?,
            (&attended.word_mass * 10.0)?,
            (&attended.concentration * 0.2)?,
            context.contiguous()?,
        ];
        parts.extend(inputs.preview.iter().map(|(_, words)| words.clone()));
        let parts = Tensor::cat(&parts, 2)?;
        silu(&self.word_hidden.forward(&parts)?)
    }
}

/// (rows, cells, 2): where each cell lies, −1 to 1 from the left and from the top.
fn coordinates(rows: usize, height: usize, width: usize) -> Result<Tensor> {
    let place = |i: usize, n: usize| 2.0 * (i as f32 + 0.5) / n as f32 - 1.0;
    let values: Vec<f32> = (0..height * width)
        .flat_map(|cell| [place(cell % width, width), place(cell / width, height)])
        .collect();
    let cells = Tensor::from_vec(values, (1, height * width, 2), &Device::Cpu)?;
    Ok(cells.repeat((rows, 1, 1))?)
}
