//! What the early preview shows: the predicted finished latents, decoded and judged by the scorer
//! that will judge the picture. Early on it is a blur in which some objects are there already;
//! how its verdicts change from here to the end is what the networks learn.

use candle_core::Tensor;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::run::{narrowest, rgb};
use crate::backbones::{Backbone, Word};
use crate::sampling::Observation;
use crate::scorers::{Score, Scorer};
use crate::{Error, Result};

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

/// What makes a preview of the predicted finished latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decoding {
    /// Steps done from which on the VAE itself decodes, before that a small decoder where the model
    /// has one; `None`: never. Early on there is nothing to see that a small decoder would miss, later
    /// it is the small decoder that limits what is seen.
    #[serde(rename = "vae_previews_from", default)]
    pub vae_from: Option<usize>,
    /// By how many times their last change the latents that the VAE decodes are carried on. Early
    /// predictions go to and fro; late ones move where they moved before, so that a little further
    /// on they are nearer to what they will be.
    #[serde(rename = "previews_ahead", default, skip_serializing_if = "is_none")]
    pub ahead: f64,
    /// Where a scorer says how sure it is, the VAE decodes only what the small decoder's picture leaves in
    /// more doubt than this: the VAE costs several times as much, and most pictures are scored alike by
    /// either. `None`: it decodes all.
    #[serde(
        rename = "vae_previews_in_doubt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub doubt: Option<f64>,
}

fn is_none(ahead: &f64) -> bool {
    *ahead == 0.0
}

impl Decoding {
    /// Whether the VAE itself decodes what was predicted after `done` steps.
    pub fn is_by_vae(self, done: usize) -> bool {
        self.vae_from.is_some_and(|from| done >= from)
    }

    /// The finished latents (channels, height, width) that the preview of `observation` shows: as they
    /// were predicted or, where they are carried on, x0 + ahead · (x0 − the step before's), the
    /// extrapolation of second-order multistep solvers (Lu et al. 2022, DPM-Solver++). A glimpse shows
    /// the step before as it is.
    pub fn shown(self, observation: &Observation) -> Result<Tensor> {
        let x0 = &observation.x0;
        let carried_on =
            self.is_by_vae(observation.steps_done) && !observation.glimpse && self.ahead != 0.0;
        match &observation.previous_x0 {
            Some(before) if carried_on => Ok((x0 + ((x0 - before)? * self.ahead)?)?),
            _ => Ok(x0.clone()),
        }
    }

    /// Decodes the finished latents (channels, height, width) that were predicted after `done` steps: as
    /// the scorer sees them first.
    pub fn picture(self, backbone: &dyn Backbone, x0: &Tensor, done: usize) -> Result<RgbImage> {
        let x0 = x0.unsqueeze(0)?;
        match self.is_by_vae(done) && self.doubt.is_none() {
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
        x0: (&Tensor, usize),
    ) -> Result<Score> {
        let mut scores = self.scores(backbone, &[scorer], prompt, x0)?;
        let nothing = || Error::Internal("a scorer said nothing".into());
        scores.pop().ok_or_else(nothing)
    }

    /// The same by several scorers, of pictures that are decoded once.
    pub fn scores(
        self,
        backbone: &dyn Backbone,
        scorers: &[&dyn Scorer],
        prompt: &str,
        (x0, done): (&Tensor, usize),
    ) -> Result<Vec<Score>> {
        let shown = self.picture(backbone, x0, done)?;
        let scored = scorers.iter().map(|scorer| scorer.score(prompt, &shown));
        let mut scores = scored.collect::<Result<Vec<_>>>()?;
        let Some(most) = self.doubt.filter(|_| self.is_by_vae(done)) else {
            return Ok(scores);
        };
        let mut by_the_vae = None;
        for (scorer, score) in scorers.iter().zip(&mut scores) {
            if score.doubt.is_some_and(|doubt| doubt <= most) {
                continue;
            }
            let shown = match by_the_vae.take() {
                Some(shown) => shown,
                None => super::run::picture(backbone, &x0.unsqueeze(0)?)?,
            };
            *score = scorer.score(prompt, &shown)?;
            by_the_vae = Some(shown);
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::backbones::TextState;
    use crate::models::{ModelOptions, Models, POCKET};

    /// Keeps what it is shown, and says how sure it is.
    struct Onlooker {
        doubt: Option<f64>,
        shown: Mutex<Vec<RgbImage>>,
    }

    impl Scorer for Onlooker {
        fn metric(&self) -> &str {
            "onlooker"
        }

        fn good(&self) -> f64 {
            0.5
        }

        fn score(&self, _prompt: &str, image: &RgbImage) -> Result<Score> {
            self.shown.lock().unwrap().push(image.clone());
            Ok(Score {
                doubt: self.doubt,
                ..Score::plain(0.5)
            })
        }
    }

    #[test]
    fn the_vae_decodes_from_its_step_on_what_is_in_doubt_and_the_small_decoder_the_rest() {
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
        let small = rgb(&pocket.preview(&x0.unsqueeze(0).unwrap()).unwrap()).unwrap();
        let whole = super::super::run::picture(pocket.as_ref(), &x0.unsqueeze(0).unwrap()).unwrap();
        assert_ne!(small, whole);
        let shown = |decoding: Decoding, done, doubts: &[Option<f64>]| {
            let lookers: Vec<Onlooker> = doubts
                .iter()
                .map(|&doubt| Onlooker {
                    doubt,
                    shown: Mutex::default(),
                })
                .collect();
            let scorers: Vec<&dyn Scorer> = lookers.iter().map(|l| l as &dyn Scorer).collect();
            let scores = decoding.scores(pocket.as_ref(), &scorers, "", (&x0, done));
            assert_eq!(scores.unwrap().len(), doubts.len());
            let lookers = lookers.into_iter();
            lookers
                .map(|l| l.shown.into_inner().unwrap())
                .collect::<Vec<_>>()
        };
        let only = |picture: &RgbImage| vec![picture.clone()];
        let plain = Decoding::default();
        assert_eq!(shown(plain, 25, &[Some(0.9)]), [only(&small)]);
        let late = Decoding {
            vae_from: Some(9),
            ..plain
        };
        assert_eq!(shown(late, 8, &[None]), [only(&small)]);
        assert_eq!(shown(late, 9, &[Some(0.0)]), [only(&whole)]);
        let doubtful = Decoding {
            doubt: Some(0.2),
            ..late
        };
        let both = vec![small.clone(), whole.clone()];
        assert_eq!(shown(doubtful, 8, &[Some(0.9)]), [only(&small)]);
        assert_eq!(
            shown(doubtful, 9, &[Some(0.2), Some(0.21), Some(0.0), None]),
            [only(&small), both.clone(), only(&small), both]
        );
    }

    #[test]
    fn late_latents_are_carried_on_by_their_last_change() {
        let latents = |value: f32| {
            let shape = (1, 1, 2);
            Tensor::from_vec(vec![value, 2.0 * value], shape, &candle_core::Device::Cpu).unwrap()
        };
        let seen = |steps_done, glimpse, previous_x0: Option<f32>| Observation {
            steps_done,
            glimpse,
            x0: latents(3.0),
            previous_x0: previous_x0.map(latents),
            maps: Default::default(),
            middle: None,
            text: TextState {
                embeds: latents(0.0),
                pooled: None,
            },
        };
        let decoding = Decoding {
            vae_from: Some(9),
            ahead: 0.5,
            doubt: None,
        };
        let shown = |observation: Observation| {
            let shown = decoding.shown(&observation).unwrap();
            shown.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(shown(seen(10, false, Some(2.0))), [3.5, 7.0]);
        for plain in [
            seen(8, false, Some(2.0)),
            seen(10, true, Some(2.0)),
            seen(10, false, None),
        ] {
            assert_eq!(shown(plain), [3.0, 6.0]);
        }
    }

    #[test]
    fn a_card_of_before_there_was_a_choice_reads_by_the_small_decoder() {
        #[derive(Serialize, Deserialize)]
        struct Card {
            steps: usize,
            #[serde(flatten)]
            previews: Decoding,
        }
        let read = |text| serde_json::from_str::<Card>(text).unwrap().previews;
        assert_eq!(read(r#"{"steps": 25}"#), Decoding::default());
        let late = read(r#"{"steps": 25, "vae_previews_from": 9}"#);
        assert_eq!((late.vae_from, late.ahead), (Some(9), 0.0));
        // Written as before where nothing is carried on, so that old sets keep their names.
        let card = Card {
            steps: 25,
            previews: late,
        };
        let text = serde_json::to_string(&card).unwrap();
        assert_eq!(text, r#"{"steps":25,"vae_previews_from":9}"#);
        let ahead = r#"{"steps": 25, "vae_previews_from": 9, "previews_ahead": 1.0}"#;
        assert_eq!((read(ahead).ahead, read(ahead).doubt), (1.0, None));
        let doubt = r#"{"steps": 25, "vae_previews_from": 9, "vae_previews_in_doubt": 0.15}"#;
        assert_eq!(read(doubt).doubt, Some(0.15));
    }
}
