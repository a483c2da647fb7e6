//! From what a network says to numbers that mean what they say, fitted on scenes that it was neither
//! trained nor chosen on.

use serde::{Deserialize, Serialize};

use super::anchor::Anchor;
use super::shares::Shares;
use super::stats::quantile;

/// The share that an interval holds.
pub const COVERAGE: f64 = 0.9;

/// A logistic curve over a score (Platt 1999).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    pub slope: f64,
    pub offset: f64,
}

impl Platt {
    /// Fits `score` to `positive` by Newton's method, with Platt's smoothed targets and a slight pull
    /// towards a slope of 1, which a handful of examples cannot overrule.
    pub fn fit(score: &[f64], positive: &[bool]) -> Self {
        let hits = positive.iter().filter(|&&p| p).count() as f64;
        let misses = positive.len() as f64 - hits;
        let (mut slope, mut offset) = (1.0, 0.0);
        for _ in 0..100 {
            // Gradient and Hessian of the negative log-likelihood.
            let (mut g, mut h) = ([slope - 1.0, 0.0], [1.0, 0.0, 1e-6]);
            for (&x, &hit) in score.iter().zip(positive) {
                let target = match hit {
                    true => (hits + 1.0) / (hits + 2.0),
                    false => 1.0 / (misses + 2.0),
                };
                let p = sigmoid(slope * x + offset);
                let weight = p * (1.0 - p);
                g[0] += (p - target) * x;
                g[1] += p - target;
                h[0] += weight * x * x;
                h[1] += weight * x;
                h[2] += weight;
            }
            let determinant = h[0] * h[2] - h[1] * h[1];
            if determinant.abs() < 1e-12 {
                break;
            }
            let step = [
                (h[2] * g[0] - h[1] * g[1]) / determinant,
                (h[0] * g[1] - h[1] * g[0]) / determinant,
            ];
            slope -= step[0].clamp(-1.0, 1.0);
            offset -= step[1].clamp(-1.0, 1.0);
            if step[0].abs() + step[1].abs() < 1e-9 {
                break;
            }
        }
        Self { slope, offset }
    }

    pub fn probability(&self, score: f64) -> f64 {
        sigmoid(self.slope * score + self.offset)
    }
}

/// 1 / (1 + e⁻ˣ)
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Split-conformal intervals (Lei et al. 2018) whose width follows the prediction: errors are scaled
/// by a line fitted to their size, and low and high ends have quantiles of their own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conformal {
    /// The expected size of an error is `base + slope · prediction`, at least `least`.
    pub base: f64,
    pub slope: f64,
    pub least: f64,
    /// In units of that size: what is taken off below and put on above.
    pub below: f64,
    pub above: f64,
}

impl Conformal {
    pub fn fit(predicted: &[f64], measured: &[f64]) -> Self {
        let errors: Vec<f64> = predicted
            .iter()
            .zip(measured)
            .map(|(p, m)| (m - p).abs())
            .collect();
        let n = errors.len().max(1) as f64;
        let (mp, me) = (
            predicted.iter().sum::<f64>() / n,
            errors.iter().sum::<f64>() / n,
        );
        let (mut pe, mut pp) = (0.0, 1e-9);
        for (p, e) in predicted.iter().zip(&errors) {
            pe += (p - mp) * (e - me);
            pp += (p - mp) * (p - mp);
        }
        let slope = pe / pp;
        let mut own = Self {
            base: me - slope * mp,
            slope,
            least: (0.2 * me).max(1e-6),
            below: 0.0,
            above: 0.0,
        };
        let scaled: Vec<f64> = predicted
            .iter()
            .zip(measured)
            .map(|(p, m)| (m - p) / own.size(*p))
            .collect();
        // The finite-sample correction of split conformal prediction, half of it at each end.
        let tail = (1.0 - COVERAGE) / 2.0;
        let level = ((n + 1.0) * (1.0 - tail) / n).min(1.0);
        own.above = quantile(&scaled, level).max(0.0);
        own.below = (-quantile(&scaled, 1.0 - level)).max(0.0);
        own
    }

    fn size(&self, predicted: f64) -> f64 {
        (self.base + self.slope * predicted).max(self.least)
    }

    /// Holds its point.
    pub fn interval(&self, predicted: f64) -> [f64; 2] {
        let size = self.size(predicted);
        [predicted - self.below * size, predicted + self.above * size]
    }
}

/// What was fitted for one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepCalibration {
    pub step: usize,
    /// How many of the design's networks, the first ones, are asked; `None`: all. Late, where a preview says
    /// nearly all, one says as much as several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<usize>,
    /// `None` in files from before it was fitted.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    pub interval: Conformal,
    pub good: Platt,
    /// `None`: the network says nothing of words.
    pub words: Option<Platt>,
    /// How the error is shared among a prompt's seeds; `None` in files from before it was measured.
    #[serde(default)]
    pub shares: Option<Shares>,
    /// The standard deviation of the error.
    #[serde(default)]
    pub error: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    fn normal(random: &mut Random) -> f64 {
        (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
    }

    #[test]
    fn intervals_hold_nine_in_ten_even_where_errors_grow() {
        let mut random = Random::new(5);
        let mut draw = |n: usize| -> (Vec<f64>, Vec<f64>) {
            (0..n)
                .map(|_| {
                    let p = random.unit();
                    (p, p + (0.05 + 0.3 * (1.0 - p)) * normal(&mut random))
                })
                .unzip()
        };
        let (p, m) = draw(800);
        let fitted = Conformal::fit(&p, &m);
        let (p, m) = draw(4000);
        let held = |low: f64, high: f64| {
            let inside: Vec<bool> = p
                .iter()
                .zip(&m)
                .filter(|(p, _)| (low..high).contains(*p))
                .map(|(p, m)| {
                    let [a, b] = fitted.interval(*p);
                    a <= *p && *p <= b && a <= *m && *m <= b
                })
                .collect();
            inside.iter().filter(|&&i| i).count() as f64 / inside.len() as f64
        };
        assert!((held(0.0, 1.0) - 0.9).abs() < 0.03, "{}", held(0.0, 1.0));
        for (low, high) in [(0.0, 0.3), (0.3, 0.7), (0.7, 1.0)] {
            assert!(
                (held(low, high) - 0.9).abs() < 0.06,
                "{low}: {}",
                held(low, high)
            );
        }
    }

    #[test]
    fn probabilities_follow_the_frequencies() {
        let mut random = Random::new(9);
        let (score, positive): (Vec<f64>, Vec<bool>) = (0..5000)
            .map(|_| {
                let x = 4.0 * random.unit() - 2.0;
                (x, random.unit() < sigmoid(0.5 * x + 1.0))
            })
            .unzip();
        let fitted = Platt::fit(&score, &positive);
        assert!((fitted.slope - 0.5).abs() < 0.1, "{fitted:?}");
        assert!((fitted.offset - 1.0).abs() < 0.1, "{fitted:?}");
    }

    #[test]
    fn one_sided_outcomes_stay_finite() {
        let fitted = Platt::fit(&[0.1, 0.2, 0.3], &[true; 3]);
        let p = fitted.probability(0.2);
        assert!(p > 0.5 && p < 1.0, "{p}");
    }
}
