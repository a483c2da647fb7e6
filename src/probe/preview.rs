//! What the early preview shows: the predicted finished latents, decoded and judged by the scorer
//! that will judge the picture. Early on it is a blur in which some objects are there already;
//! how its verdicts change from here to the end is what the networks learn.

use candle_core::Tensor;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::run::{narrowest, rgb};
use crate::Result;
use crate::backbones::{Backbone, Word};
use crate::scorers::{Score, Scorer};

/// Numbers of a preview as a whole: its value, whether all is right, the share that is, the mean
/// and the least credit.
pub const WHOLE: usize = 5;

/// Numbers of a word: whether any verdict is on it, whether the narrowest is right and its credit,
/// and the same two over all verdicts that it has a part in.
pub const WORD: usize = 5;

/// A preview's verdicts as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// [`WHOLE`] numbers.
    pub whole: Vec<f32>,
    /// (words, [`WORD`])
    pub words: Vec<f32>,
}

impl Preview {
    /// Before the first step: nothing is seen.
    pub fn blank(words: usize) -> Self {
        Self {
            whole: vec![0.0; WHOLE],
            words: vec![0.0; words * WORD],
        }
    }

    /// The numbers of the preview as a whole as a network takes them: the value in deviations from
    /// the mean where `scale` says both, and all that is blank left so.
    pub fn normalised(&self, scale: Option<(f32, f32)>) -> Vec<f32> {
        let mut whole = self.whole.clone();
        let blank = whole.iter().all(|number| *number == 0.0);
        if let (Some((mean, deviation)), Some(value), false) = (scale, whole.first_mut(), blank) {
            *value = (*value - mean) / deviation;
        }
        whole
    }

    /// What the preview scores.
    pub fn value(&self) -> f32 {
        self.whole.first().copied().unwrap_or(0.0)
    }

    pub fn read(score: &Score, words: &[Word]) -> Self {
        let verdicts = &score.verdicts;
        let count = verdicts.len().max(1) as f64;
        let right = verdicts.iter().filter(|v| v.ok).count() as f64;
        let credits = verdicts.iter().map(|v| v.credit);
        let whole = [
            score.value,
            flag(verdicts.iter().all(|v| v.ok)),
            right / count,
            credits.clone().sum::<f64>() / count,
            credits.fold(1.0, f64::min),
        ];
        let words = words.iter().flat_map(|word| {
            let own: Vec<_> = verdicts.iter().filter(|v| v.concerns(word)).collect();
            let [ok, credit] = match narrowest(own.iter().copied()) {
                Some(verdict) => [flag(verdict.ok), verdict.credit],
                None => [0.0; 2],
            };
            let credits: f64 = own.iter().map(|v| v.credit).sum();
            [
                flag(!own.is_empty()),
                ok,
                credit,
                flag(!own.is_empty() && own.iter().all(|v| v.ok)),
                credits / own.len().max(1) as f64,
            ]
        });
        Self {
            words: words.map(|v| v as f32).collect(),
            whole: whole.map(|v| v as f32).to_vec(),
        }
    }
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// Which decoder makes previews: a small one, where the model has one, or the VAE itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Decoding {
    /// Steps done from which on the VAE itself decodes; `None`: never. Early on there is nothing to
    /// see that a small decoder would miss, later it is the small decoder that limits what is seen.
    pub vae_from: Option<usize>,
}

impl Decoding {
    /// Whether the VAE itself decodes what was predicted after `done` steps.
    pub fn is_by_vae(self, done: usize) -> bool {
        self.vae_from.is_some_and(|from| done >= from)
    }

    /// Decodes the finished latents (channels, height, width) that were predicted after `done` steps.
    pub fn picture(self, backbone: &dyn Backbone, x0: &Tensor, done: usize) -> Result<RgbImage> {
        let x0 = x0.unsqueeze(0)?;
        match self.is_by_vae(done) {
            true => super::run::picture(backbone, &x0),
            false => rgb(&backbone.preview(&x0)?),
        }
    }

    /// Scores what the finished latents (channels, height, width) that were predicted after `done`
    /// steps show.
    pub fn score(
        self,
        backbone: &dyn Backbone,
        scorer: &dyn Scorer,
        prompt: &str,
        (x0, done): (&Tensor, usize),
    ) -> Result<Score> {
        scorer.score(prompt, &self.picture(backbone, x0, done)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{ModelOptions, Models, POCKET};

    #[test]
    fn the_vae_decodes_from_its_step_on_and_the_small_decoder_before() {
        let models = Models::discover(ModelOptions {
            model: Some(POCKET.into()),
            ..Default::default()
        });
        let pocket = models.unwrap().load(POCKET).unwrap();
        let x0 = Tensor::arange(0f32, 1024.0, &candle_core::Device::Cpu).unwrap();
        let x0 = (x0.reshape((4, 16, 16)).unwrap() * 0.7)
            .unwrap()
            .sin()
            .unwrap();
        let picture =
            |decoding: Decoding, done| decoding.picture(pocket.as_ref(), &x0, done).unwrap();
        let small = picture(Decoding::default(), 25);
        let whole = super::super::run::picture(pocket.as_ref(), &x0.unsqueeze(0).unwrap()).unwrap();
        assert_ne!(small, whole);
        let decoding = Decoding { vae_from: Some(9) };
        assert_eq!(picture(decoding, 8), small);
        assert_eq!(picture(decoding, 9), whole);
    }

    #[test]
    fn a_card_of_before_there_was_a_choice_reads_by_the_small_decoder() {
        #[derive(Deserialize)]
        struct Card {
            #[serde(default)]
            vae_previews_from: Decoding,
        }
        let read = |text| {
            serde_json::from_str::<Card>(text)
                .unwrap()
                .vae_previews_from
        };
        assert_eq!(read("{}"), Decoding::default());
        assert_eq!(read(r#"{"vae_previews_from": 9}"#).vae_from, Some(9));
    }
}
