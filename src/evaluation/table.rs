//! Each predictor at each step: pooled and within-prompt figures with intervals.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::probe::stats::{bootstrap, kendall};

use super::candidates::{Candidates, PREDICTORS};
use super::resampled::{Column, Times, auc, pearson, spearman, with_interval, within};
use super::{BOOTSTRAP_SEED, RESAMPLES};

/// One predictor at one step, each figure with its 95 % interval over prompts.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub predictor: String,
    pub step: usize,
    pub srcc: f64,
    pub ktc: f64,
    pub pcc: f64,
    pub auc: f64,
    pub within: f64,
    pub srcc_ci: [f64; 2],
    pub ktc_ci: [f64; 2],
    pub pcc_ci: [f64; 2],
    pub auc_ci: [f64; 2],
    pub within_ci: [f64; 2],
}

/// The probe less another predictor on the same candidates, each with its paired interval.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub against: String,
    pub step: usize,
    pub srcc: f64,
    pub srcc_ci: [f64; 2],
    pub auc: f64,
    pub auc_ci: [f64; 2],
    pub within: f64,
    pub within_ci: [f64; 2],
}

/// Each training seed by itself.
#[derive(Clone, Debug, Serialize)]
pub struct BySeed {
    pub predictor: String,
    pub step: usize,
    pub srcc: Vec<f64>,
    pub within: Vec<f64>,
}

/// All rows, step by step.
pub fn table(all: &Candidates) -> Vec<Row> {
    let y = Column::new(&all.scores);
    let mut rows = Vec::new();
    for index in 0..all.at_steps.len() {
        for predictor in PREDICTORS {
            if let Some(said) = all.predicted.get(predictor) {
                rows.push(row(all, &y, predictor, index, &said[index]));
            }
        }
    }
    rows
}

fn row(all: &Candidates, y: &Column, predictor: &str, index: usize, said: &[Vec<f64>]) -> Row {
    let groups = all.scores.len();
    let x = Column::new(said);
    let good = all.is_good();
    let skills = within(said, &all.scores);
    let (srcc, srcc_ci) = with_interval(groups, |times| spearman(&x, y, times));
    let (pcc, pcc_ci) = with_interval(groups, |times| pearson(&x, y, times));
    let (auc, auc_ci) = with_interval(groups, |times| auc(&x, &good, times));
    let (within, within_ci) = with_interval(groups, |times| times.mean_of_known(&skills));
    let ktc_ci = bootstrap(groups, RESAMPLES, BOOTSTRAP_SEED, |drawn| {
        let pooled = |of: &[Vec<f64>]| -> Vec<f64> {
            drawn.iter().flat_map(|&i| of[i].iter().copied()).collect()
        };
        kendall(&pooled(said), &pooled(&all.scores))
    });
    Row {
        predictor: predictor.into(),
        step: all.at_steps[index],
        srcc,
        ktc: kendall(&said.concat(), &all.scores.concat()),
        pcc,
        auc,
        within,
        srcc_ci,
        ktc_ci,
        pcc_ci,
        auc_ci,
        within_ci,
    }
}

/// The shipped probe less every other predictor, on the same resamples.
pub fn differences(all: &Candidates) -> Vec<Difference> {
    let Some(own) = all.predicted.get("probe") else {
        return Vec::new();
    };
    let groups = all.scores.len();
    let y = Column::new(&all.scores);
    let good = all.is_good();
    let mut differences = Vec::new();
    for (index, &step) in all.at_steps.iter().enumerate() {
        let a = Column::new(&own[index]);
        let own_skill = within(&own[index], &all.scores);
        for against in PREDICTORS.into_iter().filter(|p| *p != "probe") {
            let Some(other) = all.predicted.get(against).map(|said| &said[index]) else {
                continue;
            };
            let b = Column::new(other);
            let skill = within(other, &all.scores);
            let (srcc, srcc_ci) = with_interval(groups, |times| {
                spearman(&a, &y, times) - spearman(&b, &y, times)
            });
            let (auc, auc_ci) = with_interval(groups, |times| {
                auc(&a, &good, times) - auc(&b, &good, times)
            });
            let (within, within_ci) = with_interval(groups, |times| {
                times.mean_of_known(&own_skill) - times.mean_of_known(&skill)
            });
            differences.push(Difference {
                against: against.into(),
                step,
                srcc,
                srcc_ci,
                auc,
                auc_ci,
                within,
                within_ci,
            });
        }
    }
    differences
}

/// Pooled SRCC and within-prompt Spearman of each training seed by itself.
pub fn by_seed(all: &Candidates) -> Vec<BySeed> {
    let y = Column::new(&all.scores);
    let once = Times::once(all.scores.len());
    let mut rows: BTreeMap<(&str, usize), BySeed> = BTreeMap::new();
    for ((design, _), said) in &all.by_network {
        for (said, &step) in said.iter().zip(&all.at_steps) {
            let row = rows
                .entry((design.as_str(), step))
                .or_insert_with(|| BySeed {
                    predictor: design.clone(),
                    step,
                    srcc: Vec::new(),
                    within: Vec::new(),
                });
            row.srcc.push(spearman(&Column::new(said), &y, &once));
            row.within
                .push(once.mean_of_known(&within(said, &all.scores)));
        }
    }
    rows.into_values().collect()
}
