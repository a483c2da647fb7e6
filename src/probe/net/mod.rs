//! The networks: what goes in, what comes out, and the three designs that share both.

mod attended;
mod attention;
mod full;
pub mod layers;
mod ops;
mod prompt;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::features::{Features, Layout};
use super::preview;
use crate::{Error, Result};
use attended::{Attended, Row};
use layers::Weights;

/// Which network reads which part of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    /// Attention, predicted latents, their scored preview, middle activations and text, words seen
    /// together in space.
    Probe,
    /// The same network for what is seen half-way through a step: attention and activations of its
    /// first half, predicted latents and preview of the step before.
    Glimpse,
    /// The paper's: a light CNN over the cross-attention maps and nothing else.
    AttentionProbe,
    /// Text alone: what is known before the first step. A baseline.
    PromptOnly,
}

impl Design {
    pub const ALL: [Self; 4] = [
        Self::Probe,
        Self::Glimpse,
        Self::AttentionProbe,
        Self::PromptOnly,
    ];

    /// Whether it learns from the seeds' order and the words too, and not from the metric alone.
    pub fn learns_all(self) -> bool {
        matches!(self, Self::Probe | Self::Glimpse)
    }

    /// The part of the inputs' layout that it reads.
    pub fn layout(self, whole: &Layout) -> Layout {
        match self {
            Self::Glimpse => whole.glimpse(),
            _ => whole.clone(),
        }
    }

    /// What it reads of a step's features: a glimpse, what it would have seen half-way through.
    pub fn reads(self, features: Features, whole: &Layout) -> Result<Features> {
        match self {
            Self::Glimpse if !features.seen.glimpse => features.glimpse(whole.early),
            _ => Ok(features),
        }
    }

    /// As tables, files and `--json` name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Glimpse => "glimpse",
            Self::AttentionProbe => "attention-probe",
            Self::PromptOnly => "prompt-only",
        }
    }
}

/// A batch of observations, all on one grid.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// (rows): the share of the steps that is done
    pub time: Tensor,
    pub height: usize,
    pub width: usize,
    /// (rows, blocks, cells, keys)
    pub maps: Tensor,
    /// What they say of the words.
    pub attended: Attended,
    /// (rows, keys, text_dim)
    pub text: Tensor,
    /// (rows, pooled_dim), where the family has one
    pub pooled: Option<Tensor>,
    /// (rows, cells, x0_channels)
    pub x0: Tensor,
    /// (rows, cells, middle_channels), where it is read
    pub middle: Option<Tensor>,
    /// (rows, words, keys): each row of a word sums to 1, or is zero where it was cut off
    pub words: Tensor,
    /// (rows, words): 1 for a word, 0 for padding and for words that were cut off
    pub is_word: Tensor,
    /// (rows, keys): 1 where a key carries a word
    pub is_key: Tensor,
    /// (rows, [`preview::WHOLE`]) and (rows, words, [`preview::WORD`]), where it is read
    pub preview: Option<(Tensor, Tensor)>,
}

/// What a network says of a batch.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// (rows): the metric, in units of its training mean and deviation
    pub quality: Tensor,
    /// (rows): the log-odds of being good, before calibration
    pub good: Option<Tensor>,
    /// (rows, words): the log-odds that a word's object comes out wrong, before calibration
    pub words: Option<Tensor>,
}

/// A network of one design.
pub enum Net {
    Probe(Box<full::FullProbe>),
    AttentionProbe(attention::AttentionProbe),
    PromptOnly(prompt::PromptOnly),
}

impl Net {
    pub fn new(design: Design, layout: &Layout, weights: &mut Weights) -> Result<Self> {
        Ok(match design {
            Design::Probe | Design::Glimpse => {
                Self::Probe(full::FullProbe::new(&design.layout(layout), weights)?.into())
            }
            Design::AttentionProbe => {
                Self::AttentionProbe(attention::AttentionProbe::new(layout, weights)?)
            }
            Design::PromptOnly => Self::PromptOnly(prompt::PromptOnly::new(layout, weights)?),
        })
    }

    pub fn forward(&self, inputs: &Inputs) -> Result<Outputs> {
        match self {
            Self::Probe(net) => net.forward(inputs),
            Self::AttentionProbe(net) => net.forward(inputs),
            Self::PromptOnly(net) => net.forward(inputs),
        }
    }
}

impl Inputs {
    /// Stacks observations that lie on one grid; `steps` are the full render's.
    pub fn stack(rows: &[Features], layout: &Layout, steps: usize) -> Result<Self> {
        let first = rows
            .first()
            .ok_or_else(|| Error::Internal("a probe was given nothing to predict".into()))?;
        let n = rows.len();
        let (height, width) = (first.seen.height, first.seen.width);
        let (cells, keys, blocks) = (height * width, layout.keys, layout.blocks.len());
        let most_words = rows
            .iter()
            .map(|r| r.text.words.len())
            .max()
            .unwrap_or(0)
            .max(1);

        let mut maps = vec![0f32; n * blocks * cells * keys];
        let mut text = vec![0f32; n * keys * layout.text_dim];
        let mut words = vec![0f32; n * most_words * keys];
        let mut is_word = vec![0f32; n * most_words];
        let mut is_key = vec![0f32; n * keys];
        let (mut x0, mut middle, mut pooled) = (Vec::new(), Vec::new(), Vec::new());
        let (mut whole, mut tokens_of) = (Vec::new(), Vec::with_capacity(n));
        let mut by_word = vec![0f32; n * most_words * preview::WORD];
        for (i, Features { text: t, seen }) in rows.iter().enumerate() {
            let own_keys = t.keys;
            let fits = (seen.height, seen.width) == (height, width)
                && seen.maps.len() == blocks * cells * own_keys
                && t.embeds.len() == own_keys * layout.text_dim
                && t.pooled.len() == layout.pooled_dim
                && seen.x0.len() == cells * layout.x0_channels
                && seen.middle.len() == cells * layout.middle_channels
                && (!layout.preview || seen.preview.is_some());
            if !fits {
                return Err(Error::Internal(format!(
                    "an observation on a grid of {}×{} with {} map values, {} text, {} pooled, {} \
                     x0, {} middle and preview {} does not fit the probe's inputs {layout:?}",
                    seen.height,
                    seen.width,
                    seen.maps.len(),
                    t.embeds.len(),
                    t.pooled.len(),
                    seen.x0.len(),
                    seen.middle.len(),
                    seen.preview.is_some(),
                )));
            }
            let kept = own_keys.min(keys);
            for (cell, map) in seen.maps.chunks_exact(own_keys).enumerate() {
                let at = (i * blocks * cells + cell) * keys;
                maps[at..at + kept].copy_from_slice(&map[..kept]);
            }
            let dim = layout.text_dim;
            text[i * keys * dim..][..kept * dim].copy_from_slice(&t.embeds[..kept * dim]);
            let own_words = t.words.iter().map(|w| w.start.min(kept)..w.end.min(kept));
            let own_words: Vec<_> = own_words.collect();
            for (w, tokens) in own_words.iter().enumerate() {
                let share = 1.0 / tokens.len().max(1) as f32;
                is_word[i * most_words + w] = f32::from(u8::from(!tokens.is_empty()));
                for token in tokens.clone() {
                    words[(i * most_words + w) * keys + token] = share;
                    is_key[i * keys + token] = 1.0;
                }
            }
            tokens_of.push(own_words);
            if let Some(preview) = seen.preview.as_ref().filter(|_| layout.preview) {
                whole.extend(preview.normalised(layout.preview_scale));
                let own = preview.words.len().min(most_words * preview::WORD);
                let start = i * most_words * preview::WORD;
                by_word[start..start + own].copy_from_slice(&preview.words[..own]);
            }
            x0.extend_from_slice(&seen.x0);
            middle.extend_from_slice(&seen.middle);
            pooled.extend_from_slice(&t.pooled);
        }
        let time: Vec<f32> = rows
            .iter()
            .map(|row| row.seen.at_step() as f32 / steps.max(1) as f32)
            .collect();
        let attended: Vec<Row<'_>> = maps
            .chunks_exact((blocks * cells * keys).max(1))
            .zip(is_key.chunks_exact(keys.max(1)))
            .zip(&tokens_of)
            .map(|((maps, is_key), words)| Row {
                maps,
                is_key,
                words,
            })
            .collect();
        let attended = Attended::of(&attended, (blocks, cells, keys), most_words)?;
        let cpu = &Device::Cpu;
        let present = |values: Vec<f32>, shape: Vec<usize>| -> Result<Option<Tensor>> {
            if values.is_empty() {
                return Ok(None);
            }
            Ok(Some(Tensor::from_vec(values, shape, cpu)?))
        };
        Ok(Self {
            time: Tensor::from_vec(time, n, cpu)?,
            height,
            width,
            attended,
            maps: Tensor::from_vec(maps, (n, blocks, cells, keys), cpu)?,
            text: Tensor::from_vec(text, (n, keys, layout.text_dim), cpu)?,
            pooled: present(pooled, vec![n, layout.pooled_dim])?,
            x0: Tensor::from_vec(x0, (n, cells, layout.x0_channels), cpu)?,
            middle: present(middle, vec![n, cells, layout.middle_channels])?,
            words: Tensor::from_vec(words, (n, most_words, keys), cpu)?,
            is_word: Tensor::from_vec(is_word, (n, most_words), cpu)?,
            is_key: Tensor::from_vec(is_key, (n, keys), cpu)?,
            preview: match layout.preview {
                false => None,
                true => Some((
                    Tensor::from_vec(whole, (n, preview::WHOLE), cpu)?,
                    Tensor::from_vec(by_word, (n, most_words, preview::WORD), cpu)?,
                )),
            },
        })
    }
}
