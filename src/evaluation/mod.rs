//! What the predictions are worth, measured on prompts that nobody has seen: everything is sampled,
//! rendered and scored anew.
//!
//! ```text
//! sample       candidates run to the end, and what every predictor said on the way  (candidates)
//! rewriting    weak prompts rewritten by the product itself, and rendered
//!   table      predictors side by side: correlations, areas, differences
//!   calibration, rewrites    whether what is said comes true
//!   frontier   what choosing by predictions delivers, next to best-of-K             (racing)
//!     report, plots          for people; [`Evaluation`] itself is the JSON
//! ```

mod calibration;
mod candidates;
mod frontier;
pub mod plots;
mod progress;
mod racing;
mod report;
mod resampled;
mod rewrites;
mod rewriting;
mod sample;
mod table;

use serde::Serialize;

pub use calibration::{Bin, Calibration, Words};
pub use candidates::{Candidates, JudgedWords, PREDICTORS, Said};
pub use frontier::{AgainstBestOfK, Kind, Policy};
pub use progress::Progress;
pub use report::text;
pub use rewrites::Rewrites;
pub use rewriting::{Rewrite, RewriteOrder, Weak, weakest};
pub use sample::{Order, sample};
pub use table::{BySeed, Difference, Row};

use crate::probe::stats;

/// Resamples of the bootstrap over prompts.
const RESAMPLES: usize = 1000;
/// The bootstrap's seed: an interval is the same each time it is computed from the same candidates.
const BOOTSTRAP_SEED: u64 = 0;

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
    /// The score's mean, its deviation over all candidates, and within a prompt.
    pub mean: f64,
    pub deviation: f64,
    pub within_deviation: f64,
    pub good_share: f64,
    /// The probe less each other predictor.
    pub differences: Vec<Difference>,
    pub by_seed: Vec<BySeed>,
    /// The family of scenes that was held out whole: its prompts, the probe's rows and calibration.
    pub family_prompts: usize,
    pub family_table: Vec<Row>,
    pub family_calibration: Vec<Calibration>,
    pub rewrites: Option<Rewrites>,
    /// Steps and denoiser evaluations of a full render.
    pub steps: usize,
    pub full_evaluations: f64,
}

/// Whatever was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub held_out: Candidates,
    pub family: Candidates,
    pub rewrites: Vec<Rewrite>,
}

/// All figures of what was measured.
pub fn evaluate(measured: &Measured) -> Evaluation {
    let all = &measured.held_out;
    let scores = all.scores.concat();
    let within: Vec<f64> = all
        .scores
        .iter()
        .map(|seeds| stats::deviation(seeds).powi(2))
        .collect();
    let good = all.is_good().into_iter().filter(|good| *good).count();
    let (frontier, against_best_of_k) = frontier::frontier(all);
    // There is nothing to say of no prompts.
    let family = Some(&measured.family).filter(|family| !family.scores.is_empty());
    let mut family_table = family.map(table::table).unwrap_or_default();
    family_table.retain(|row| row.predictor == "probe");
    Evaluation {
        model: all.model.clone(),
        metric: all.metric.clone(),
        good: all.good,
        icc: stats::icc(&all.scores),
        prompts: all.scores.len(),
        seeds: all.seed_count(),
        table: table::table(all),
        calibration: calibration::calibration(all),
        words: calibration::words(all),
        frontier,
        against_best_of_k,
        mean: stats::mean(&scores),
        deviation: stats::deviation(&scores),
        within_deviation: stats::mean(&within).sqrt(),
        good_share: good as f64 / scores.len().max(1) as f64,
        differences: table::differences(all),
        by_seed: table::by_seed(all),
        family_prompts: measured.family.scores.len(),
        family_table,
        family_calibration: family.map(calibration::calibration).unwrap_or_default(),
        rewrites: rewrites::figures(&measured.rewrites),
        steps: all.steps,
        full_evaluations: all.full(),
    }
}

#[cfg(test)]
mod tests;
