//! Runs all seeds of one prompt to the end, observed on the way.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use image::RgbImage;

use crate::backbones::{Backbone, TapRequest, Word, apart};
use crate::candidate::{Seed, Settings};
use crate::sampling::{Observation, Trajectory, step_all};
use crate::scorers::{Score, Verdict};
use crate::{Error, Result};

/// One seed from noise to picture.
pub struct Run {
    pub seed: Seed,
    /// One for each step asked for, in that order.
    pub observations: Vec<Observation>,
    pub picture: RgbImage,
}

/// Denoises `prompt` from each of `seeds`, and calls `stepped` after every step.
pub fn run(
    backbone: &dyn Backbone,
    prompt: &str,
    seeds: &[Seed],
    settings: &Settings,
    looks: (&[usize], &TapRequest),
    stepped: &dyn Fn(),
) -> Result<Vec<Run>> {
    let candidates = (prompt, seeds, settings);
    let (trajectories, observations) =
        denoise(backbone, candidates, settings.steps, looks, stepped)?;
    let latents: Vec<Tensor> = trajectories.iter().map(|t| t.latents().clone()).collect();
    let pictures = apart::each(backbone, &latents, |latents| picture(backbone, latents))?;
    Ok(seeds
        .iter()
        .zip(observations)
        .zip(pictures)
        .map(|((seed, observations), picture)| Run {
            seed: *seed,
            observations,
            picture,
        })
        .collect())
}

/// What is seen of each seed, by denoising no further than the last look.
pub fn observe(
    backbone: &dyn Backbone,
    prompt: &str,
    seeds: &[Seed],
    settings: &Settings,
    looks: (&[usize], &TapRequest),
) -> Result<Vec<Vec<Observation>>> {
    let last = looks.0.iter().copied().max().unwrap_or(0);
    let candidates = (prompt, seeds, settings);
    let (_, observations) = denoise(backbone, candidates, last, looks, &|| ())?;
    Ok(observations)
}

/// Brings all seeds to `to_step`; gives what is left and, by seed, what was seen.
fn denoise(
    backbone: &dyn Backbone,
    (prompt, seeds, settings): (&str, &[Seed], &Settings),
    to_step: usize,
    (at_steps, tap): (&[usize], &TapRequest),
    stepped: &dyn Fn(),
) -> Result<(Vec<Trajectory>, Vec<Vec<Observation>>)> {
    let negative = settings.negative_prompt.as_deref();
    let conditioning = Arc::new(backbone.encode(prompt, negative, settings.guidance)?);
    let mut trajectories = seeds
        .iter()
        .map(|seed| Trajectory::start_encoded(backbone, conditioning.clone(), *seed, settings))
        .collect::<Result<Vec<_>>>()?;
    let mut observations: Vec<Vec<Observation>> = seeds.iter().map(|_| Vec::new()).collect();
    for done in 1..=to_step {
        let tap = at_steps.contains(&done).then_some(tap);
        let mut all: Vec<&mut Trajectory> = trajectories.iter_mut().collect();
        let seen = step_all(backbone, &mut all, &vec![tap; seeds.len()])?;
        for (own, seen) in observations.iter_mut().zip(seen) {
            own.extend(seen);
        }
        stepped();
    }
    Ok((trajectories, observations))
}

/// Latents (1, channels, height, width) as a picture.
pub fn picture(backbone: &dyn Backbone, latents: &Tensor) -> Result<RgbImage> {
    rgb(&backbone.decode(latents)?)
}

/// An image (1, 3, height, width), RGB in 0–1, as pixels.
pub fn rgb(image: &Tensor) -> Result<RgbImage> {
    let image = image.squeeze(0)?.to_dtype(DType::F32)?;
    let (_, height, width) = image.dims3()?;
    let values = image.flatten_all()?.to_vec1::<f32>()?;
    let area = height * width;
    let mut bytes = vec![0; values.len()];
    for (pixel, own) in bytes.chunks_exact_mut(3).enumerate() {
        for (channel, byte) in own.iter_mut().enumerate() {
            *byte = nearest((values[channel * area + pixel] * 255.0).clamp(0.0, 255.0));
        }
    }
    RgbImage::from_raw(width as u32, height as u32, bytes)
        .ok_or_else(|| Error::Internal(format!("{width}×{height} pixels that are no picture")))
}

/// The nearest whole number of one from 0 to 255, halves upwards: `round` is a call for each of them where
/// a machine is not known to have the instruction.
fn nearest(value: f32) -> u8 {
    let below = value as u8;
    below + u8::from(value - f32::from(below) >= 0.5)
}

/// For each word, whether the narrowest piece of the prompt that it belongs to came out wrong: an
/// object's words are judged by the object rather than by a relation that mentions it.
pub fn words_wrong(words: &[Word], score: &Score) -> Vec<Option<bool>> {
    words
        .iter()
        .map(|word| {
            let own = score.verdicts.iter().filter(|v| v.concerns(word));
            narrowest(own).map(|v| !v.ok)
        })
        .collect()
}

/// The verdict on the fewest letters of the prompt.
pub fn narrowest<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> Option<&'a Verdict> {
    verdicts.min_by_key(|v| v.words.iter().map(|w| w.len()).sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_byte_is_that_of_round() {
        for i in 0..=51_000u16 {
            let value = f32::from(i) / 200.0;
            assert_eq!(f32::from(nearest(value)), value.round(), "{value}");
        }
        assert_eq!(nearest(f32::NAN), 0);
    }

    #[test]
    fn a_word_is_judged_by_its_object_before_its_relation() {
        let prompt = "red circle above blue square";
        let word = |text: &str| {
            let start = prompt.find(text).unwrap();
            Word {
                text: text.into(),
                span: start..start + text.len(),
                tokens: 1..2,
            }
        };
        let verdict = |ok: bool, words: Vec<std::ops::Range<usize>>| Verdict {
            what: "something".into(),
            words,
            ok,
            credit: f64::from(u8::from(ok)),
        };
        let score = Score {
            value: 0.5,
            verdicts: vec![
                verdict(false, vec![0..10, 11..28]),
                verdict(true, vec![0..3, 4..10]),
                verdict(false, vec![17..21, 22..28]),
            ],
            doubt: None,
        };
        let words: Vec<Word> = ["red", "circle", "above", "square"].map(word).into();
        assert_eq!(
            words_wrong(&words, &score),
            [Some(false), Some(false), Some(true), Some(true)]
        );
    }
}
