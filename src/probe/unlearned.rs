//! What attention says with no learning: how concentrated each word's map is. The fallback where no
//! probe fits, and three baselines.

use super::features::{Seen, Text};
use super::{Features, Prediction};
use crate::Result;
use crate::backbones::Word;
use crate::sampling::Observation;
use crate::scorers::Score;

/// The shape of one word's attention over the picture, averaged over the blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// 0: all in one cell; 1: even over all cells (Shannon's entropy over its maximum).
    pub entropy: f64,
    /// The largest share of a cell, times the number of cells: 1 where attention is even.
    pub peak: f64,
    /// The deviation of position around its centre, in sides of the picture.
    pub spread: f64,
}

/// The shape of each word's attention; `None` for a word that the encoder cut off.
pub fn shapes(features: &Features, blocks: usize) -> Vec<Option<Shape>> {
    let (text, seen) = (&features.text, &features.seen);
    text.words
        .iter()
        .map(|tokens| {
            if tokens.is_empty() || blocks == 0 {
                return None;
            }
            let all: Vec<Shape> = seen
                .maps
                .chunks_exact(seen.height * seen.width * text.keys)
                .map(|map| {
                    let weights: Vec<f64> = map
                        .chunks_exact(text.keys)
                        .map(|cell| tokens.clone().map(|t| f64::from(cell[t])).sum())
                        .collect();
                    shape(&weights, seen.width)
                })
                .collect();
            let mean = |part: fn(&Shape) -> f64| {
                all.iter().map(part).sum::<f64>() / all.len().max(1) as f64
            };
            Some(Shape {
                entropy: mean(|s| s.entropy),
                peak: mean(|s| s.peak),
                spread: mean(|s| s.spread),
            })
        })
        .collect()
}

fn shape(weights: &[f64], width: usize) -> Shape {
    let cells = weights.len().max(1) as f64;
    let total = weights.iter().sum::<f64>().max(1e-12);
    let (mut entropy, mut peak, mut x, mut y, mut xx) = (0.0, 0f64, 0.0, 0.0, 0.0);
    let height = (weights.len() / width.max(1)).max(1);
    for (cell, weight) in weights.iter().enumerate() {
        let p = weight / total;
        if p > 0.0 {
            entropy -= p * p.ln();
        }
        peak = peak.max(p);
        let px = (cell % width) as f64 / width as f64;
        let py = (cell / width) as f64 / height as f64;
        x += p * px;
        y += p * py;
        xx += p * (px * px + py * py);
    }
    Shape {
        entropy: entropy / cells.ln().max(1e-12),
        peak: peak * cells,
        spread: (xx - x * x - y * y).max(0.0).sqrt(),
    }
}

/// How much each place attends to each word.
pub struct WordMaps {
    pub width: usize,
    pub height: usize,
    /// `height` rows of `width`, summing to 1, the mean over the blocks; `None` for a word that the
    /// encoder cut off.
    pub of_words: Vec<Option<Vec<f32>>>,
}

/// Where each word is attended to, over all the blocks that were tapped.
pub fn attention_of_words(observation: &Observation, words: &[Word]) -> Result<WordMaps> {
    let blocks: Vec<String> = observation.maps.keys().cloned().collect();
    let text = Text::read(observation, words, usize::MAX)?;
    let seen = Seen::read(observation, (&blocks, 0), text.keys, false, None)?;
    let cells = seen.height * seen.width;
    let of_word = |tokens: &std::ops::Range<usize>| {
        if tokens.is_empty() {
            return None;
        }
        let mut mean = vec![0f32; cells];
        for map in seen.maps.chunks_exact(cells * text.keys) {
            let at = |cell: &[f32]| tokens.clone().map(|t| cell[t]).sum::<f32>();
            let weights: Vec<f32> = map.chunks_exact(text.keys).map(at).collect();
            let total = weights.iter().sum::<f32>().max(f32::MIN_POSITIVE) * blocks.len() as f32;
            for (mean, weight) in mean.iter_mut().zip(weights) {
                *mean += weight / total;
            }
        }
        Some(mean)
    };
    Ok(WordMaps {
        width: seen.width,
        height: seen.height,
        of_words: text.words.iter().map(of_word).collect(),
    })
}

/// What can be said with no probe: how concentrated each word's attention is. Uncalibrated, so
/// interval and p_good are absent.
pub fn attention_only(observation: &Observation, words: &[Word]) -> Result<Prediction> {
    let blocks: Vec<String> = observation.maps.keys().cloned().collect();
    let text = Text::read(observation, words, usize::MAX)?;
    let seen = match blocks.is_empty() {
        true => None,
        false => Some(Seen::read(
            observation,
            (&blocks, 0),
            text.keys,
            false,
            None,
        )?),
    };
    let shapes = match seen {
        None => vec![None; words.len()],
        Some(seen) => shapes(
            &Features {
                text: text.into(),
                seen,
            },
            blocks.len(),
        ),
    };
    // A word whose attention is spread over the whole picture has found no place in it yet.
    let risks: Vec<f64> = shapes
        .iter()
        .map(|shape| shape.map_or(0.5, |s| s.entropy.clamp(0.0, 1.0)))
        .collect();
    let mean = risks.iter().sum::<f64>() / risks.len().max(1) as f64;
    Ok(Prediction {
        quality: if risks.is_empty() { 0.5 } else { 1.0 - mean },
        interval: None,
        p_good: None,
        word_risks: risks,
    })
}

/// What can be said with no probe where a scorer judges the early preview: its score as it is, and of
/// each word how spread its attention is. Uncalibrated: a preview is a blur, which scores otherwise than
/// what becomes of it.
pub fn preview_only(
    preview: &Score,
    observation: &Observation,
    words: &[Word],
) -> Result<Prediction> {
    Ok(Prediction {
        quality: preview.value,
        ..attention_only(observation, words)?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_attention_has_no_place_and_a_point_has_one() {
        let even = shape(&[0.1; 12], 4);
        assert!((even.entropy - 1.0).abs() < 1e-9 && (even.peak - 1.0).abs() < 1e-9);
        let mut weights = [0.0; 12];
        weights[5] = 0.3;
        let point = shape(&weights, 4);
        assert_eq!((point.entropy, point.peak, point.spread), (0.0, 12.0, 0.0));
        assert!(even.spread > 0.3);
    }
}
