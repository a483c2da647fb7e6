//! What prompts and seeds come to when they are rendered, and what somebody learns of it by looking
//! at some of the pictures.

use anyhow::Result;
use foreseed::scorers::composition::GOOD;
use foreseed::world::random::Random;

use crate::tasks::Outcome;
use crate::truth::Truth;

/// Seeds that no agent looks at: what a prompt comes to is measured on them, to about 0.03.
pub const FRESH: std::ops::Range<u32> = 1000..1036;

/// What several prompts come to on fresh seeds.
#[derive(Clone)]
pub struct Means {
    scores: Vec<Vec<f64>>,
    pub means: Vec<f64>,
}

impl Means {
    pub fn of(truth: &Truth, prompts: &[String]) -> Result<Self> {
        let scores = prompts
            .iter()
            .map(|prompt| truth.scores(prompt, &fresh()))
            .collect::<Result<Vec<_>>>()?;
        let means = scores.iter().map(|s| mean(s)).collect();
        Ok(Self { scores, means })
    }

    /// Right where nothing is better by more than `tolerance`.
    pub fn chosen(&self, choice: usize, tolerance: f64) -> Outcome {
        let quality = self.means[choice];
        Outcome {
            right: quality >= max(&self.means) - tolerance,
            quality,
        }
    }

    pub fn blind(&self, pictures: usize, tolerance: f64, random: &mut Random) -> Outcome {
        let choice = match pictures {
            0 => random.below(self.means.len()),
            n => self.looked_best(n, random),
        };
        self.chosen(choice, tolerance)
    }

    /// The prompt whose share of so many pictures came out best; a tie is broken by chance.
    pub fn looked_best(&self, pictures: usize, random: &mut Random) -> usize {
        let each = (pictures / self.scores.len()).max(1);
        let mut best = (0, f64::NEG_INFINITY);
        for (place, scores) in self.scores.iter().enumerate() {
            let seen = mean(&drawn(scores, each, random)) + 1e-9 * random.unit();
            if seen > best.1 {
                best = (place, seen);
            }
        }
        best.0
    }
}

pub fn fresh() -> Vec<u32> {
    FRESH.collect()
}

pub fn is_good(score: &f64) -> f64 {
    f64::from(u8::from(*score >= GOOD))
}

/// So many of the values, with repetition.
pub fn drawn(values: &[f64], n: usize, random: &mut Random) -> Vec<f64> {
    (0..n).map(|_| values[random.below(values.len())]).collect()
}

/// So many of the values, each once at most.
pub fn some_of(values: &[f64], n: usize, random: &mut Random) -> Vec<f64> {
    let mut values = values.to_vec();
    random.shuffle(&mut values);
    values.truncate(n);
    values
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

pub fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

pub fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
