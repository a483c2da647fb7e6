//! What other histories would have made of the same candidates: one history of N renders is one draw,
//! and the share that its intervals hold moves by points from draw to draw.

use foreseed::probe::Prediction;
use foreseed::probe::recalibration::{Correction, Prior};
use foreseed::probe::stats::{mean, quantile};
use foreseed::world::random::Random;

use crate::judged::Judged;

/// Histories that are drawn.
pub const HISTORIES: usize = 200;

/// A figure over all histories.
pub struct Spread {
    pub mean: f64,
    /// The 5th and the 95th percentile.
    pub ends: [f64; 2],
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        Self {
            mean: mean(values),
            ends: [quantile(values, 0.05), quantile(values, 0.95)],
        }
    }
}

/// How well calibrated a probe is after so many local renders.
pub struct Resampled {
    pub ece: Spread,
    pub coverage: Spread,
}

impl Resampled {
    /// Draws histories of `renders` out of the candidates, of which `own` is the probe's own
    /// prediction, and judges each on the candidates that are not in it: at least half of them. Of no
    /// renders it is the probe itself, where that is calibrated; `None` where nothing is.
    pub fn of(
        own: &[Prediction],
        measured: &[f64],
        renders: usize,
        good: f64,
        prior: Prior,
    ) -> Option<Self> {
        if renders == 0 {
            let itself = Judged::of(own, measured, good);
            return (prior == Prior::Calibrated).then_some(Self {
                ece: Spread::of(&[itself.ece?]),
                coverage: Spread::of(&[itself.coverage?]),
            });
        }
        if 2 * renders > own.len() {
            return None;
        }
        let mut random = Random::new(renders as u64);
        let mut order: Vec<usize> = (0..own.len()).collect();
        let (mut eces, mut coverages) = (Vec::new(), Vec::new());
        for _ in 0..HISTORIES {
            random.shuffle(&mut order);
            let (history, others) = order.split_at(renders);
            let pairs: Vec<_> = history.iter().map(|&i| (&own[i], measured[i])).collect();
            let correction = Correction::fit(&pairs, good, Some([0.0, 1.0]), prior)?;
            let said = others.iter().map(|&i| correction.apply(&own[i]).rounded());
            let known: Vec<f64> = others.iter().map(|&i| measured[i]).collect();
            let judged = Judged::of(&said.collect::<Vec<_>>(), &known, good);
            eces.extend(judged.ece);
            coverages.extend(judged.coverage);
        }
        Some(Self {
            ece: Spread::of(&eces),
            coverage: Spread::of(&coverages),
        })
    }
}
