//! From predictions of single candidates to what holds for a prompt and, in [`wordings`], for a change
//! of wording.
//!
//! A candidate's measured quality is its prediction plus an error. The error has two parts: one that
//! all seeds of a prompt have in common (the probe misjudges the prompt) and one of the seed's own.
//! Averaging over seeds takes away the second, never the first, so the interval of a prompt's mean
//! does not shrink to nothing however many seeds are asked for.

pub mod odds;
pub mod wordings;

use self::wordings::Gain;
use crate::probe::Prediction;
use crate::probe::shares::Shares;

/// Half the width of a 90 % interval, in standard deviations of a normal error.
const Z90: f64 = 1.6449;

/// A point and, where the predictions are calibrated, the interval around it that holds 90 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub point: f64,
    pub interval: Option<[f64; 2]>,
}

impl Estimate {
    /// Of what gains so much over this; within `range`.
    pub fn moved(self, gain: Gain, range: Option<[f64; 2]>) -> Self {
        let [least, most] = range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
        let point = (self.point + gain.point).clamp(least, most);
        // The errors of both, as if they were independent: they partly cancel, so that this is too wide
        // rather than too narrow.
        let interval = self.interval.zip(gain.interval).map(|(own, more)| {
            let down = (self.point - own[0]).hypot(gain.point - more[0]);
            let up = (own[1] - self.point).hypot(more[1] - gain.point);
            [(point - down).max(least), (point + up).min(most)]
        });
        Self { point, interval }
    }
}

/// The prompt's mean quality over random seeds, from the predictions of some. `range` is what the
/// metric can take, where it is bounded. `None` where nothing was predicted.
pub fn prompt_mean(
    predictions: &[&Prediction],
    range: Option<[f64; 2]>,
    shares: Shares,
) -> Option<Estimate> {
    let points: Vec<f64> = predictions.iter().map(|p| p.quality).collect();
    let point = mean(&points)?;
    let interval = error_variance(predictions).map(|error| {
        let between_seeds = spread(&points, point, error) / points.len() as f64;
        around(point, between_seeds + shares.prompt * error, range)
    });
    Some(Estimate { point, interval })
}

/// The chance that a random seed does not come out good. `None` where nothing is calibrated.
pub fn prompt_risk(predictions: &[&Prediction]) -> Option<f64> {
    let chances: Option<Vec<f64>> = predictions.iter().map(|p| p.p_good).collect();
    Some((1.0 - mean(&chances?)?).clamp(0.0, 1.0))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean variance of a prediction's error, read back from the intervals' widths.
fn error_variance(predictions: &[&Prediction]) -> Option<f64> {
    let variances: Option<Vec<f64>> = predictions
        .iter()
        .map(|p| {
            p.interval
                .map(|[low, high]| ((high - low) / (2.0 * Z90)).powi(2))
        })
        .collect();
    mean(&variances?)
}

/// The variance between seeds, steadied by one pseudo-observation of `prior`: one seed alone shows
/// no spread, which does not mean that there is none.
fn spread(values: &[f64], mean: f64, prior: f64) -> f64 {
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares + prior) / values.len() as f64
}

fn around(point: f64, variance: f64, range: Option<[f64; 2]>) -> [f64; 2] {
    let half = Z90 * variance.sqrt();
    let [least, most] = range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
    [
        (point - half).max(least).min(point),
        (point + half).min(most).max(point),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn predicted(quality: f64, half: f64) -> Prediction {
        Prediction {
            quality,
            interval: Some([quality - half, quality + half]),
            p_good: Some(quality),
            word_risks: Vec::new(),
        }
    }

    fn uncalibrated(quality: f64) -> Prediction {
        Prediction {
            interval: None,
            p_good: None,
            ..predicted(quality, 0.0)
        }
    }

    const UNIT: Option<[f64; 2]> = Some([0.0, 1.0]);

    #[test]
    fn the_interval_holds_its_point_and_stays_in_the_metrics_range() {
        for quality in [0.0, 0.03, 0.5, 0.99, 1.0] {
            let one = predicted(quality, 0.3);
            let estimate = prompt_mean(&[&one, &one], UNIT, Shares::USUAL).unwrap();
            let [low, high] = estimate.interval.unwrap();
            assert!((0.0..=estimate.point).contains(&low), "{estimate:?}");
            assert!((estimate.point..=1.0).contains(&high), "{estimate:?}");
        }
    }

    #[test]
    fn more_seeds_narrow_the_interval_but_not_to_nothing() {
        let one = predicted(0.5, 0.2);
        let width = |n: usize| {
            let [low, high] = prompt_mean(&vec![&one; n], UNIT, Shares::USUAL)
                .unwrap()
                .interval
                .unwrap();
            high - low
        };
        assert!(width(1) > width(4) && width(4) > width(64));
        assert!(width(10_000) > 0.2, "the probe may misjudge the prompt");
    }

    #[test]
    fn what_is_moved_by_something_unsure_is_less_sure() {
        let known = Estimate {
            point: 0.5,
            interval: Some([0.2, 0.9]),
        };
        let gain = |point: f64, interval| Gain {
            point,
            interval,
            unsure: 0.0,
        };
        let moved = known.moved(gain(0.1, Some([-0.3, 0.4])), None);
        let [low, high] = moved.interval.unwrap();
        assert!((moved.point - 0.6).abs() < 1e-12);
        assert!((low - 0.1).abs() < 1e-12 && (high - 1.1).abs() < 1e-12);
        let within = known.moved(gain(0.7, Some([0.3, 1.1])), Some([0.0, 1.0]));
        assert_eq!(within.point, 1.0);
        assert_eq!(within.interval.unwrap()[1], 1.0);
        assert_eq!(known.moved(gain(0.1, None), None).interval, None);
    }

    #[test]
    fn one_seed_alone_is_not_taken_for_certainty() {
        let one = predicted(0.5, 0.2);
        let [low, high] = prompt_mean(&[&one], UNIT, Shares::USUAL)
            .unwrap()
            .interval
            .unwrap();
        assert!(high - low > 0.4);
    }

    #[test]
    fn nothing_calibrated_gives_no_interval_and_no_risk() {
        let (a, b) = (uncalibrated(0.4), uncalibrated(0.6));
        let estimate = prompt_mean(&[&a, &b], UNIT, Shares::USUAL).unwrap();
        assert_eq!((estimate.point, estimate.interval), (0.5, None));
        assert_eq!(prompt_risk(&[&a, &b]), None);
        assert_eq!(prompt_mean(&[], UNIT, Shares::USUAL), None);
    }

    #[test]
    fn risk_is_what_the_chances_leave() {
        let (a, b) = (predicted(0.9, 0.1), predicted(0.5, 0.1));
        assert!((prompt_risk(&[&a, &b]).unwrap() - 0.3).abs() < 1e-12);
    }
}
