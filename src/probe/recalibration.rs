//! A probe's own prediction, corrected by what was rendered where it is used: quality by a line,
//! the chance of coming out good by a logistic curve over its log-odds, intervals by conformal
//! quantiles of the errors that the corrected quality still makes (Vovk et al. 2005; Romano et al.
//! 2019 for intervals that keep their shape).
//!
//! All three begin as the identity and leave it as far as the pairs are evidence against it
//! (empirical Bayes: how far a correction is believed to lie from the identity is read off the
//! pairs, and never less than a prior says). With few pairs, or with many that agree with the probe,
//! nothing moves.

use super::calibration::{COVERAGE, Platt, sigmoid};
use super::{Prediction, stats};

/// With fewer pairs than this nothing is corrected: a mean of so few says more of their prompts than
/// of the probe.
pub const ENOUGH: usize = 20;

/// What is believed before the first pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prior {
    /// The probe was calibrated for these very settings.
    Calibrated,
    /// It was calibrated for others.
    Foreign,
}

/// How far from the identity each part may lie before there is evidence, as deviations, and how many
/// pairs the shipped width counts for.
struct Beliefs {
    /// In units of a metric from 0 to 1.
    shift: f64,
    slope: f64,
    offset: f64,
    stretch: f64,
    width: usize,
}

impl Prior {
    fn beliefs(self) -> Beliefs {
        match self {
            Self::Calibrated => Beliefs {
                shift: 0.02,
                slope: 0.1,
                offset: 0.1,
                stretch: 0.1,
                width: 50,
            },
            Self::Foreign => Beliefs {
                shift: 0.2,
                slope: 0.5,
                // A chance of coming out good holds under other settings better than a quality or
                // its interval does, and costs more pairs to know: each says only yes or no.
                offset: 0.3,
                stretch: 0.3,
                width: 10,
            },
        }
    }
}

/// What local pairs make of one probe's predictions at one step, under one group of settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// Pairs that it rests on.
    pub pairs: usize,
    /// quality' = quality + shift + tilt · (quality − centre)
    shift: f64,
    tilt: f64,
    centre: f64,
    /// By how many of its widths an interval grows at each end; below 0 it shrinks.
    growth: f64,
    good: Platt,
    range: Option<[f64; 2]>,
}

impl Correction {
    /// Fits `pairs` of the probe's own prediction and the measured score; `good` is the metric's
    /// threshold, `range` what it can take. `None` with fewer than [`ENOUGH`] pairs.
    pub fn fit(
        pairs: &[(&Prediction, f64)],
        good: f64,
        range: Option<[f64; 2]>,
        prior: Prior,
    ) -> Option<Self> {
        if pairs.len() < ENOUGH {
            return None;
        }
        let mut beliefs = prior.beliefs();
        beliefs.shift *= match range {
            Some([least, most]) => most - least,
            None => {
                let measured: Vec<f64> = pairs.iter().map(|(_, measured)| *measured).collect();
                stats::deviation(&measured) / stats::USUAL_DEVIATION
            }
        };
        let (shift, tilt, centre) = line(pairs, &beliefs);
        let mut own = Self {
            pairs: pairs.len(),
            shift,
            tilt,
            centre,
            growth: 0.0,
            good: chances(pairs, good, &beliefs),
            range,
        };
        let outside: Vec<f64> = pairs
            .iter()
            .filter_map(|(p, measured)| own.outside(p, *measured))
            .collect();
        own.growth = growth(outside, beliefs.width);
        Some(own)
    }

    /// The probe's own prediction as it is to be understood here.
    pub fn apply(&self, own: &Prediction) -> Prediction {
        let quality = self.quality(own.quality);
        let interval = self.moved(own).map(|[low, high]| {
            let more = self.growth * (high - low);
            [
                self.bounded(low - more).min(quality),
                self.bounded(high + more).max(quality),
            ]
        });
        Prediction {
            quality,
            interval,
            p_good: own.p_good.map(|p| self.good.probability(log_odds(p))),
            word_risks: own.word_risks.clone(),
        }
    }

    fn quality(&self, own: f64) -> f64 {
        self.bounded(own + self.shift + self.tilt * (own - self.centre))
    }

    fn bounded(&self, value: f64) -> f64 {
        match self.range {
            Some([least, most]) => value.clamp(least, most),
            None => value,
        }
    }

    /// The interval around the corrected quality. An end at the metric's bound stays there: the
    /// probe meant a value beyond it, and nobody knows how far.
    fn moved(&self, own: &Prediction) -> Option<[f64; 2]> {
        let by = self.quality(own.quality) - own.quality;
        let [low, high] = own.interval?;
        let [least, most] = self.range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
        Some([
            if low <= least { low } else { low + by },
            if high >= most { high } else { high + by },
        ])
    }

    /// By how many of its widths the moved interval misses the score; below 0 it holds it.
    fn outside(&self, own: &Prediction, measured: f64) -> Option<f64> {
        let [low, high] = self.moved(own)?;
        Some((low - measured).max(measured - high) / (high - low).max(1e-6))
    }
}

/// Shift, tilt and centre of the line through the errors.
fn line(pairs: &[(&Prediction, f64)], beliefs: &Beliefs) -> (f64, f64, f64) {
    let n = pairs.len() as f64;
    let centre = pairs.iter().map(|(p, _)| p.quality).sum::<f64>() / n;
    let (mut sum, mut cross, mut squares) = (0.0, 0.0, 1e-6);
    for (p, measured) in pairs {
        let (x, error) = (p.quality - centre, measured - p.quality);
        sum += error;
        cross += x * error;
        squares += x * x;
    }
    let (shift, tilt) = (sum / n, cross / squares);
    let left: f64 = pairs
        .iter()
        .map(|(p, m)| (m - p.quality - shift - tilt * (p.quality - centre)).powi(2))
        .sum();
    let variance = left / (n - 2.0).max(1.0);
    (
        believed(shift, variance / n, beliefs.shift),
        // What is predicted to be better is never made the worse.
        believed(tilt, variance / squares, beliefs.slope).max(-0.95),
        centre,
    )
}

/// An estimate with the variance of its error, drawn towards 0 as far as it may be chance: `prior` is
/// the deviation that true values are believed to have, or more where the estimate says so itself.
fn believed(estimate: f64, error: f64, prior: f64) -> f64 {
    let spread = spread(estimate, error, prior);
    estimate * spread / (spread + error)
}

/// The variance that true values are believed to have. An estimate counts for it by what it has beyond
/// twice the variance of its error, as in Akaike's criterion: half of that is there by chance alone,
/// and a probe that is right should be left alone.
fn spread(estimate: f64, error: f64, prior: f64) -> f64 {
    (estimate * estimate - 2.0 * error).max(prior * prior)
}

/// The logistic curve over the log-odds; the identity where nothing was said of good.
fn chances(pairs: &[(&Prediction, f64)], good: f64, beliefs: &Beliefs) -> Platt {
    let said: Vec<(f64, bool)> = pairs
        .iter()
        .filter_map(|(p, measured)| Some((log_odds(p.p_good?), *measured >= good)))
        .collect();
    // First nearly free, to see how far the pairs want to go and how sure they are of it.
    let (free, error) = pulled(&said, [0.5, 1.0]);
    let slope = spread(free.slope - 1.0, error[0], beliefs.stretch);
    let offset = spread(free.offset, error[1], beliefs.offset);
    pulled(&said, [slope.sqrt(), offset.sqrt()]).0
}

/// A logistic fit with normal priors of these deviations around slope 1 and offset 0, by Newton's
/// method, and the variances of its slope and offset.
fn pulled(said: &[(f64, bool)], deviations: [f64; 2]) -> (Platt, [f64; 2]) {
    let pull = deviations.map(|d| 1.0 / (d * d).max(1e-9));
    let (mut slope, mut offset) = (1.0, 0.0);
    let mut variances = [0.0; 2];
    for _ in 0..50 {
        let mut gradient = [pull[0] * (slope - 1.0), pull[1] * offset];
        let mut hessian = [pull[0], 0.0, pull[1]];
        for &(x, hit) in said {
            let p = sigmoid(slope * x + offset);
            let (error, weight) = (p - f64::from(u8::from(hit)), (p * (1.0 - p)).max(1e-9));
            gradient[0] += error * x;
            gradient[1] += error;
            hessian[0] += weight * x * x;
            hessian[1] += weight * x;
            hessian[2] += weight;
        }
        let determinant = hessian[0] * hessian[2] - hessian[1] * hessian[1];
        if determinant.abs() < 1e-12 {
            break;
        }
        variances = [hessian[2] / determinant, hessian[0] / determinant];
        let step = [
            (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant,
            (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant,
        ];
        slope -= step[0].clamp(-1.0, 1.0);
        offset -= step[1].clamp(-1.0, 1.0);
        if step[0].abs() + step[1].abs() < 1e-9 {
            break;
        }
    }
    // A curve that falls would say that what is likelier to be good is not.
    let slope = slope.max(0.05);
    (Platt { slope, offset }, variances)
}

/// The conformal quantile of how far scores lie outside, together with so many pseudo-observations
/// of an interval that holds what it promises: errors that fall off exponentially, of which a share
/// of [`COVERAGE`] lies inside.
fn growth(mut outside: Vec<f64>, pseudo: usize) -> f64 {
    for i in 0..pseudo {
        let share = (i as f64 + 0.5) / pseudo as f64;
        let error = (1.0 - share).ln() / (1.0 - COVERAGE).ln();
        outside.push((error - 1.0) / 2.0);
    }
    outside.sort_by(f64::total_cmp);
    let place = ((outside.len() + 1) as f64 * COVERAGE).ceil() as usize;
    let quantile = outside
        .get(place.clamp(1, outside.len().max(1)) - 1)
        .copied()
        .unwrap_or(0.0);
    // An interval never vanishes.
    quantile.max(-0.45)
}

fn log_odds(p: f64) -> f64 {
    let p = p.clamp(1e-4, 1.0 - 1e-4);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
#[path = "recalibration_tests.rs"]
mod tests;
