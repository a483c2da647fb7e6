//! Predictions held against what was measured.

use foreseed::probe::Prediction;
use foreseed::probe::stats::calibration_error;
use foreseed::world::random::Random;

const BINS: usize = 10;
const ECE: f64 = 0.05;
const COVERAGE: std::ops::RangeInclusive<f64> = 0.86..=0.94;

/// How far predictions mean what they say; `None` where they say nothing.
pub struct Judged {
    pub ece: Option<f64>,
    pub coverage: Option<f64>,
    /// Measured less predicted, on average.
    pub error: f64,
}

impl Judged {
    /// Predictions and, in their order, what was measured.
    pub fn of(predictions: &[Prediction], measured: &[f64], good: f64) -> Self {
        let n = measured.len().max(1) as f64;
        let chances: Option<Vec<f64>> = predictions.iter().map(|p| p.p_good).collect();
        let outcomes: Vec<bool> = measured.iter().map(|m| *m >= good).collect();
        let intervals: Option<Vec<[f64; 2]>> = predictions.iter().map(|p| p.interval).collect();
        let held = |intervals: Vec<[f64; 2]>| {
            let both = intervals.iter().zip(measured);
            let inside = both.filter(|([low, high], measured)| (low..=high).contains(measured));
            inside.count() as f64 / n
        };
        let errors = predictions.iter().zip(measured);
        Self {
            ece: chances
                .as_ref()
                .map(|p| calibration_error(p, &outcomes, BINS)),
            coverage: intervals.map(held),
            error: errors.map(|(p, m)| m - p.quality).sum::<f64>() / n,
        }
    }
}

/// The mean calibration error of outcomes that follow these very chances; `None` where there are none.
pub fn by_chance(predictions: &[Prediction]) -> Option<f64> {
    const TIMES: usize = 100;
    let chances: Option<Vec<f64>> = predictions.iter().map(|p| p.p_good).collect();
    let chances = chances?;
    let mut random = Random::new(0);
    let errors = (0..TIMES).map(|_| {
        let outcomes: Vec<bool> = chances.iter().map(|p| random.chance(*p)).collect();
        calibration_error(&chances, &outcomes, BINS)
    });
    Some(errors.sum::<f64>() / TIMES as f64)
}

/// Whether an ECE and a coverage are what a user may rely on.
pub fn is_calibrated(ece: f64, coverage: f64) -> bool {
    ece <= ECE && COVERAGE.contains(&coverage)
}
