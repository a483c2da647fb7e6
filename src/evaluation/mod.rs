//! Measures a probe on prompts that nobody has seen: samples, renders and scores anew, and puts every
//! predictor side by side on the same candidates.

mod frontier;
mod report;
mod sample;
mod table;

use serde::Serialize;

pub use frontier::{AgainstBestOfK, Policy};
pub use report::text;
pub use sample::{Candidates, EvalOrder, PREDICTORS, sample};
pub use table::Row;

/// Resamples of the bootstrap over prompts.
const RESAMPLES: usize = 1000;
/// The bootstrap's seed: an interval is the same each time it is computed from the same candidates.
const BOOTSTRAP_SEED: u64 = 0;
/// Bins of equal mass for the calibration error.
const BINS: usize = 10;

/// What `probe eval --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    pub model: String,
    pub metric: String,
    /// The threshold of good.
    pub good: f64,
    /// The share of the score's variance that lies between prompts.
    pub icc: f64,
    pub prompts: usize,
    /// A prompt.
    pub seeds: usize,
    pub table: Vec<Row>,
    pub calibration: Vec<Calibration>,
    pub words: Vec<Words>,
    pub frontier: Vec<Policy>,
    pub against_best_of_k: Vec<AgainstBestOfK>,
    /// What the table for people shows besides.
    #[serde(skip)]
    pub extras: Extras,
}

/// How far the shipped probe's numbers mean what they say.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    pub step: usize,
    pub ece: f64,
    pub coverage: f64,
}

/// How well the words named as risky are those whose objects come out wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Words {
    pub step: usize,
    pub auc: f64,
}

/// Figures beside the contract's JSON.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    pub mean: f64,
    pub deviation: f64,
    pub within_deviation: f64,
    pub good_share: f64,
    /// The probe against each other predictor at each step: paired difference of pooled SRCC and of
    /// within-prompt Spearman, with 95 % intervals.
    pub differences: Vec<Difference>,
    pub by_seed: Vec<BySeed>,
    /// AUC of the unlearned spread of attention on the same words.
    pub words_by_spread: Vec<Words>,
}

/// Each training seed by itself.
#[derive(Clone, Debug)]
pub struct BySeed {
    pub predictor: String,
    pub step: usize,
    /// Pooled SRCC and within-prompt Spearman of each.
    pub figures: Vec<(f64, f64)>,
}

/// The probe less another predictor, on the same candidates.
#[derive(Clone, Debug)]
pub struct Difference {
    pub against: String,
    pub step: usize,
    pub srcc: f64,
    pub srcc_ci: [f64; 2],
    pub within: f64,
    pub within_ci: [f64; 2],
}

/// All figures of a set of candidates.
pub fn evaluate(candidates: &Candidates) -> Evaluation {
    let groups = &candidates.scores;
    let all = groups.concat();
    let within: f64 = groups
        .iter()
        .map(|g| crate::probe::stats::deviation(g).powi(2))
        .sum::<f64>()
        / groups.len().max(1) as f64;
    let good = all.iter().filter(|s| **s >= candidates.good).count();
    let (frontier, against_best_of_k) = frontier::frontier(candidates);
    Evaluation {
        model: candidates.model.clone(),
        metric: candidates.metric.clone(),
        good: candidates.good,
        icc: crate::probe::stats::icc(groups),
        prompts: groups.len(),
        seeds: groups.first().map_or(0, Vec::len),
        table: table::table(candidates),
        calibration: table::calibration(candidates),
        words: table::words(candidates, &candidates.word_risks),
        frontier,
        against_best_of_k,
        extras: Extras {
            mean: crate::probe::stats::mean(&all),
            deviation: crate::probe::stats::deviation(&all),
            within_deviation: within.sqrt(),
            good_share: good as f64 / all.len().max(1) as f64,
            differences: table::differences(candidates),
            by_seed: table::by_seed(candidates),
            words_by_spread: table::words(candidates, &candidates.word_spreads),
        },
    }
}

#[cfg(test)]
mod tests;
