//! From predictions of single candidates to what holds for a prompt, and for a change of wording.
//!
//! A candidate's measured quality is its prediction plus an error. The error has two parts: one that
//! all seeds of a prompt have in common (the probe misjudges the prompt) and one of the seed's own.
//! Averaging over seeds takes away the second, never the first, so the interval of a prompt's mean
//! does not shrink to nothing however many seeds are asked for.

use crate::probe::Prediction;

/// Half the width of a 90 % interval, in standard deviations of a normal error.
const Z90: f64 = 1.6449;

/// The share of an error's variance that all seeds of a prompt have in common.
pub const PROMPT_SHARE: f64 = 0.5;

/// The share of that part which stays when only the wording changes and the scene does not.
const WORDING_SHARE: f64 = 0.5;

/// A point and, where the predictions are calibrated, the interval around it that holds 90 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub point: f64,
    pub interval: Option<[f64; 2]>,
}

/// The prompt's mean quality over random seeds, from the predictions of some. `range` is what the
/// metric can take, where it is bounded. `None` where nothing was predicted.
pub fn prompt_mean(predictions: &[&Prediction], range: Option<[f64; 2]>) -> Option<Estimate> {
    let points: Vec<f64> = predictions.iter().map(|p| p.quality).collect();
    let point = mean(&points)?;
    let interval = error_variance(predictions).map(|error| {
        let between_seeds = spread(&points, point, error) / points.len() as f64;
        around(point, between_seeds + PROMPT_SHARE * error, range)
    });
    Some(Estimate { point, interval })
}

/// The change in a prompt's mean quality from one wording to another, from predictions of the same
/// seeds in the same order. `None` where they do not pair or nothing was predicted.
pub fn paired_gain(from: &[&Prediction], to: &[&Prediction]) -> Option<Estimate> {
    if from.len() != to.len() {
        return None;
    }
    let gains: Vec<f64> = from
        .iter()
        .zip(to)
        .map(|(a, b)| b.quality - a.quality)
        .collect();
    let point = mean(&gains)?;
    let both: Vec<&Prediction> = from.iter().chain(to).copied().collect();
    let interval = error_variance(&both).map(|error| {
        let between_seeds = spread(&gains, point, error) / gains.len() as f64;
        // The two wordings' own parts of the shared error, independent of one another.
        let shared = 2.0 * PROMPT_SHARE * (1.0 - WORDING_SHARE) * error;
        around(point, between_seeds + shared, None)
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
mod tests {
    use super::*;

    fn predicted(quality: f64, half: f64) -> Prediction {
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
            let estimate = prompt_mean(&[&one, &one], UNIT).unwrap();
            let [low, high] = estimate.interval.unwrap();
            assert!((0.0..=estimate.point).contains(&low), "{estimate:?}");
            assert!((estimate.point..=1.0).contains(&high), "{estimate:?}");
        }
    }

    #[test]
    fn more_seeds_narrow_the_interval_but_not_to_nothing() {
        let one = predicted(0.5, 0.2);
        let width = |n: usize| {
            let [low, high] = prompt_mean(&vec![&one; n], UNIT).unwrap().interval.unwrap();
            high - low
        };
        assert!(width(1) > width(4) && width(4) > width(64));
        assert!(width(10_000) > 0.2, "the probe may misjudge the prompt");
    }

    #[test]
    fn one_seed_alone_is_not_taken_for_certainty() {
        let one = predicted(0.5, 0.2);
        let [low, high] = prompt_mean(&[&one], UNIT).unwrap().interval.unwrap();
        assert!(high - low > 0.4);
    }

    #[test]
    fn nothing_calibrated_gives_no_interval_and_no_risk() {
        let (a, b) = (uncalibrated(0.4), uncalibrated(0.6));
        let estimate = prompt_mean(&[&a, &b], UNIT).unwrap();
        assert_eq!((estimate.point, estimate.interval), (0.5, None));
        assert_eq!(prompt_risk(&[&a, &b]), None);
        assert_eq!(prompt_mean(&[], UNIT), None);
    }

    #[test]
    fn risk_is_what_the_chances_leave() {
        let (a, b) = (predicted(0.9, 0.1), predicted(0.5, 0.1));
        assert!((prompt_risk(&[&a, &b]).unwrap() - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_gain_is_paired_by_seed() {
        let from: Vec<Prediction> = [0.2, 0.5, 0.8].map(|q| predicted(q, 0.1)).into();
        let to: Vec<Prediction> = [0.3, 0.6, 0.9].map(|q| predicted(q, 0.1)).into();
        let (from, to): (Vec<_>, Vec<_>) = (from.iter().collect(), to.iter().collect());
        let gain = paired_gain(&from, &to).unwrap();
        assert!((gain.point - 0.1).abs() < 1e-12);
        let [low, high] = gain.interval.unwrap();
        // Pairing takes the large spread between seeds away.
        assert!(high - low < 0.25, "{gain:?}");
        assert!(low < 0.1 && 0.1 < high);
        assert_eq!(paired_gain(&from, &to[..2]), None);
    }
}
