//! The learned predictor of a finished image's quality, read off the first denoising steps:
//! *Diffusion Probe: Generated Image Result Prediction Using CNN Probes* (arXiv 2602.23783).
//!
//! ```text
//! collect   runs trajectories, and keeps what was seen of them and how they came out   (shard)
//! train     fits the networks and calibrates them on scenes of their own    (fit, calibration)
//! ```
//!
//! What a probe is worth is measured in [`crate::evaluation`].

pub mod anchor;
pub mod calibration;
pub mod claims;
pub mod collect;
pub mod collected;
pub mod features;
mod file;
pub mod fit;
mod loss;
pub mod manifest;
mod misfit;
pub mod net;
mod optim;
pub mod preview;
pub mod prompts;
pub mod random;
mod reading;
pub mod recalibration;
pub mod revisit;
pub(crate) mod run;
pub mod shard;
pub mod shares;
pub mod split;
pub mod stats;
#[cfg(test)]
mod synthetic;
mod tensors;
pub mod train;
pub mod unlearned;

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::backbones::{Facts, Word};
use crate::candidate::Settings;
use crate::sampling::Observation;
use crate::scorers::Score;
use crate::{Error, Result};
use anchor::Anchor;
use calibration::{StepCalibration, sigmoid};
use features::{Features, Seen, Text};
pub use misfit::Misfit;
use net::layers::Weights;
use net::{Design, Inputs, Net};
use preview::Preview;
use shares::{Shares, Trust};
pub use unlearned::{attention_of_words, attention_only, preview_only};

/// What a probe says of one candidate at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The metric's expected value.
    pub quality: f64,
    /// Holds 90 %; `None` where nothing calibrated it.
    pub interval: Option<[f64; 2]>,
    /// The chance of reaching the probe's threshold of good.
    pub p_good: Option<f64>,
    /// A risk in 0–1 for each word given.
    pub word_risks: Vec<f64>,
}

impl Prediction {
    /// To six decimals: more than any probe knows, short to read, and the same number again once it
    /// was kept as text. Rounding keeps the order, so the interval still holds its point.
    pub fn rounded(self) -> Self {
        let round = |x: f64| (x * 1e6).round() / 1e6;
        Self {
            quality: round(self.quality),
            interval: self.interval.map(|ends| ends.map(round)),
            p_good: self.p_good.map(round),
            word_risks: self.word_risks.into_iter().map(round).collect(),
        }
    }
}

/// What a probe file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeCard {
    /// SHA-256 of the probe file.
    pub id: String,
    /// The model's [`Facts::fingerprint`].
    pub model_fingerprint: String,
    pub model_name: String,
    pub metric: String,
    /// Steps of the full render.
    pub steps: usize,
    /// Steps done at which it predicts.
    pub at_steps: Vec<usize>,
    pub sampler: String,
    pub guidance: f64,
    pub width: usize,
    pub height: usize,
    /// The metric's threshold of good.
    pub good: f64,
    /// Blocks that must be tapped, by module path.
    pub tap: Vec<String>,
    /// Whether it reads the middle activations.
    pub middle: bool,
    /// The metric of the scorer that judges the early preview for it, if it reads one.
    pub preview: Option<String>,
    /// What makes that preview.
    #[serde(flatten)]
    pub previews: preview::Decoding,
    /// How good it was measured to be, in a sentence or figures by name.
    pub measured: serde_json::Value,
}

/// What a probe is shown of a candidate.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    pub observation: &'a Observation,
    pub words: &'a [Word],
    /// The scorer's word on the predicted finished latents, by the card's [`preview::Decoding`].
    pub preview: Option<&'a Score>,
}

/// A probe file, ready to predict: the shipped design and, for comparison, its baselines.
pub struct Probe {
    header: file::Header,
    nets: BTreeMap<Design, Vec<Net>>,
}

/// What the networks of one design say, averaged and not yet calibrated.
pub(crate) struct Raw {
    quality: f64,
    good: Option<f64>,
    words: Option<Vec<f64>>,
    /// What the preview scores by the very metric, where the design reads it.
    preview: Option<f64>,
}

impl Probe {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (header, weights) = file::read(bytes)?;
        Self::new(header, weights)
    }

    pub(crate) fn new(header: file::Header, mut weights: file::Weights) -> Result<Self> {
        let mut nets = BTreeMap::new();
        for member in &header.members {
            let design = member.design;
            let networks = (0..member.networks)
                .map(|number| {
                    let own = weights.remove(&(design, number)).unwrap_or_default();
                    Net::new(design, &header.layout, &mut Weights::read(own))
                })
                .collect::<Result<Vec<_>>>()?;
            nets.insert(design, networks);
        }
        Ok(Self { header, nets })
    }

    pub fn card(&self) -> &ProbeCard {
        &self.header.card
    }

    /// `Err` says in words why this probe does not hold for these settings (other steps, size,
    /// sampler, guidance or weights than it was trained for).
    pub fn fits(
        &self,
        facts: &Facts,
        settings: &Settings,
        at_step: usize,
    ) -> std::result::Result<(), Misfit> {
        let card = self.card();
        let other = |why: String| Err(Misfit::Other(why));
        let unlike =
            |name, trained, asked| format!("it was trained for {name} {trained}, not {asked}");
        if facts.fingerprint != card.model_fingerprint {
            return other(format!(
                "it was trained on other weights of {}",
                card.model_name
            ));
        }
        let checks = [
            ("sampler", card.sampler.clone(), facts.sampler.clone()),
            ("steps", card.steps.to_string(), settings.steps.to_string()),
            (
                "width × height",
                format!("{} × {}", card.width, card.height),
                format!("{} × {}", settings.width, settings.height),
            ),
        ];
        for (name, trained, asked) in checks {
            if trained != asked {
                return other(unlike(name, trained, asked));
            }
        }
        if settings.negative_prompt.is_some() {
            return other("it was trained without a negative prompt".into());
        }
        if !card.at_steps.contains(&at_step) {
            return other(format!(
                "it predicts after steps {:?}, not after {at_step}",
                card.at_steps
            ));
        }
        if let Some(missing) = card.tap.iter().find(|b| !facts.tappable.contains(b)) {
            return other(format!("it reads block {missing}, which this model lacks"));
        }
        let (trained, asked) = (card.guidance.to_string(), settings.guidance.to_string());
        if trained != asked {
            return Err(Misfit::Guidance(unlike("guidance", trained, asked)));
        }
        Ok(())
    }

    /// One prediction a look, of a whole step or of a glimpse; each depends on its own look alone.
    pub fn predict(&self, looks: &[Look<'_>]) -> Result<Vec<Prediction>> {
        // One row at a time, so that no other row can move a result even in its last bit.
        looks
            .par_iter()
            .map(|look| {
                let design = match look.observation.glimpse {
                    true => Design::Glimpse,
                    false => Design::Probe,
                };
                self.predict_by(design, &self.features(look)?)
            })
            .collect()
    }

    /// What 1 is in the metric's units: its range or, where it has none, what its scores say.
    pub fn unit(&self) -> f64 {
        match self.header.range {
            Some([low, high]) => high - low,
            None => self.header.scale.1 / stats::USUAL_DEVIATION,
        }
    }

    /// Whether it can judge a candidate half-way through a step.
    pub fn judges_glimpses(&self) -> bool {
        self.header.layout.early > 0 && self.nets.contains_key(&Design::Glimpse)
    }

    /// How far its predictions at this step can be trusted, or those half-way into it.
    pub fn trust(&self, step: usize, glimpse: bool) -> Trust {
        let design = match glimpse {
            true => Design::Glimpse,
            false => Design::Probe,
        };
        let calibration = self.calibration(design, step);
        Trust {
            shares: calibration.and_then(|c| c.shares).unwrap_or(Shares::USUAL),
            error: calibration.and_then(|c| c.error),
        }
    }

    fn calibration(&self, design: Design, step: usize) -> Option<&StepCalibration> {
        let member = self.header.members.iter().find(|m| m.design == design)?;
        member.calibration.iter().find(|c| c.step == step)
    }

    /// What the networks read of a look.
    pub fn features(&self, look: &Look<'_>) -> Result<Features> {
        let observation = look.observation;
        let layout = match observation.glimpse {
            true => &self.header.layout.glimpse(),
            false => &self.header.layout,
        };
        let text = Text::read(observation, look.words, layout.keys)?;
        let preview = match (layout.preview, look.preview) {
            (false, _) => None,
            (true, Some(score)) => Some(Preview::read(score, look.words)),
            // Before the first step there is nothing to score.
            (true, None) if observation.steps_done == 0 => Some(Preview::blank(look.words.len())),
            (true, None) => {
                return Err(Error::Internal(
                    "the preview was not scored for the probe".into(),
                ));
            }
        };
        let (blocks, middle) = (layout.blocks.as_slice(), layout.middle_channels > 0);
        let blocks = (blocks, layout.early);
        Ok(Features {
            seen: Seen::read(observation, blocks, text.keys, middle, preview)?,
            text: Arc::new(text),
        })
    }

    /// What a glimpse of the observed step would have predicted, by the preview of the step before;
    /// `None` where this probe judges no glimpses.
    pub fn predict_as_glimpse(
        &self,
        look: &Look<'_>,
        before: Option<&Score>,
    ) -> Result<Option<Prediction>> {
        if !self.judges_glimpses() || look.observation.glimpse {
            return Ok(None);
        }
        let preview = match before {
            Some(score) => Preview::read(score, look.words),
            None => Preview::blank(look.words.len()),
        };
        let Features { text, seen } = self.features(look)?;
        let seen = seen.with_before(look.observation, Some(preview))?;
        let features = Features { text, seen };
        self.predict_by(Design::Glimpse, &features).map(Some)
    }

    /// The designs that this file holds.
    pub fn designs(&self) -> Vec<Design> {
        self.nets.keys().copied().collect()
    }

    /// How many networks of a design were trained, each from a seed of its own.
    pub fn networks(&self, design: Design) -> usize {
        self.nets.get(&design).map_or(0, Vec::len)
    }

    /// The calibrated prediction of one of the designs in the file.
    pub fn predict_by(&self, design: Design, features: &Features) -> Result<Prediction> {
        // A glimpse is calibrated by the step that it looks into.
        let step = features.seen.at_step();
        let calibration = self.calibration(design, step);
        let asked = calibration.and_then(|c| c.networks);
        let raw = self.raw(design, 0..asked.unwrap_or(usize::MAX), features)?;
        Ok(self.calibrated(raw, calibration, features.text.words.as_slice()))
    }

    /// The expected quality by a single network, to tell how much a training seed matters.
    pub fn quality_by(&self, design: Design, network: usize, features: &Features) -> Result<f64> {
        let raw = self.raw(design, network..network + 1, features)?;
        let calibration = self.calibration(design, features.seen.at_step());
        Ok(self.quality(&raw, calibration.and_then(|c| c.anchor)))
    }

    /// What some of the networks of a design say, as many of them as there are.
    pub(crate) fn raw(
        &self,
        design: Design,
        asked: Range<usize>,
        features: &Features,
    ) -> Result<Raw> {
        let nets = self.nets.get(&design).map(Vec::as_slice).unwrap_or(&[]);
        let end = asked.end.min(nets.len());
        let nets = nets.get(asked.start..end).unwrap_or(&[]);
        if nets.is_empty() {
            return Err(Error::Internal(format!(
                "this probe file has no {}",
                design.name()
            )));
        }
        let (mean, deviation) = self.header.scale;
        let share = 1.0 / nets.len() as f64;
        let layout = &self.header.layout;
        let row = design.reads(features.clone(), layout)?;
        let card = &self.header.card;
        let preview = row.seen.preview.as_ref().filter(|_| {
            design.learns_all() && card.preview.as_deref() == Some(card.metric.as_str())
        });
        let preview = preview.map(|preview| f64::from(preview.value()));
        let row = std::slice::from_ref(&row);
        let inputs = Inputs::stack(row, &design.layout(layout), self.header.card.steps)?;
        let mut all = Raw {
            quality: 0.0,
            good: None,
            words: None,
            preview,
        };
        for net in nets {
            let outputs = net.forward(&inputs)?;
            let value = |t: &candle_core::Tensor| -> Result<f64> {
                Ok(f64::from(t.get(0)?.to_scalar::<f32>()?) * share)
            };
            all.quality += value(&outputs.quality)?;
            if let Some(good) = &outputs.good {
                *all.good.get_or_insert(0.0) += value(good)?;
            }
            if let Some(words) = &outputs.words {
                let words = words.get(0)?.to_vec1::<f32>()?;
                let sum = all.words.get_or_insert_with(|| vec![0.0; words.len()]);
                sum.iter_mut()
                    .zip(words)
                    .for_each(|(a, b)| *a += f64::from(b) * share);
            }
        }
        all.quality = mean + deviation * all.quality;
        Ok(all)
    }

    /// The networks' answer, held against the preview.
    pub(crate) fn quality(&self, raw: &Raw, anchor: Option<Anchor>) -> f64 {
        let said = self.bounded(raw.quality);
        match (anchor, raw.preview) {
            (Some(anchor), Some(preview)) => self.bounded(anchor.apply(preview, said)),
            _ => said,
        }
    }

    fn bounded(&self, quality: f64) -> f64 {
        match self.header.range {
            Some([low, high]) => quality.clamp(low, high),
            None => quality,
        }
    }

    fn calibrated(
        &self,
        raw: Raw,
        calibration: Option<&StepCalibration>,
        words: &[Range<usize>],
    ) -> Prediction {
        let platt = calibration.and_then(|c| c.words);
        // No scorer ever had a verdict on a word: the networks learned nothing of them.
        let unheard = calibration.is_some() && platt.is_none();
        let word_risks = words
            .iter()
            .enumerate()
            .map(|(i, tokens)| match &raw.words {
                Some(logits) if !tokens.is_empty() && !unheard => {
                    let logit = logits[i];
                    platt.map_or_else(|| sigmoid(logit), |p| p.probability(logit))
                }
                _ => self.header.word_base_rate,
            })
            .collect();
        let quality = self.quality(&raw, calibration.and_then(|c| c.anchor));
        // The paper's design says nothing of good: its quality stands in.
        let good = raw.good.unwrap_or(raw.quality);
        Prediction {
            quality,
            interval: calibration
                .map(|c| c.interval.interval(quality).map(|end| self.bounded(end))),
            p_good: calibration.map(|c| c.good.probability(good)),
            word_risks,
        }
    }
}

#[cfg(test)]
mod tests;
