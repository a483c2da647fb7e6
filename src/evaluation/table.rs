//! Each predictor at each step: pooled and within-prompt figures with intervals.

use serde::Serialize;

use super::sample::{Candidates, PREDICTORS};
use super::{BINS, BOOTSTRAP_SEED, BySeed, Calibration, Difference, RESAMPLES, Words};
use crate::probe::stats::{auc, bootstrap, calibration_error, kendall, pearson, spearman, within};

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

type Groups = [Vec<f64>];

fn pooled(groups: &Groups, drawn: &[usize]) -> Vec<f64> {
    drawn
        .iter()
        .flat_map(|&i| groups[i].iter().copied())
        .collect()
}

fn pairs(x: &Groups, y: &Groups, drawn: &[usize]) -> Vec<(Vec<f64>, Vec<f64>)> {
    drawn
        .iter()
        .map(|&i| (x[i].clone(), y[i].clone()))
        .collect()
}

fn is_good(scores: &[f64], good: f64) -> Vec<bool> {
    scores.iter().map(|s| *s >= good).collect()
}

/// All rows, step by step.
pub fn table(all: &Candidates) -> Vec<Row> {
    let y = &all.scores;
    let everything: Vec<usize> = (0..y.len()).collect();
    let mut rows = Vec::new();
    for (index, &step) in all.at_steps.iter().enumerate() {
        for predictor in PREDICTORS {
            let Some(x) = all.predicted.get(predictor).map(|steps| &steps[index]) else {
                continue;
            };
            let figure = |of: &(dyn Fn(&[usize]) -> f64 + Sync)| -> (f64, [f64; 2]) {
                (
                    of(&everything),
                    bootstrap(y.len(), RESAMPLES, BOOTSTRAP_SEED, of),
                )
            };
            let (srcc, srcc_ci) = figure(&|d| spearman(&pooled(x, d), &pooled(y, d)));
            let (ktc, ktc_ci) = figure(&|d| kendall(&pooled(x, d), &pooled(y, d)));
            let (pcc, pcc_ci) = figure(&|d| pearson(&pooled(x, d), &pooled(y, d)));
            let (auc, auc_ci) = figure(&|d| auc(&pooled(x, d), &is_good(&pooled(y, d), all.good)));
            let (within, within_ci) = figure(&|d| within(&pairs(x, y, d)));
            rows.push(Row {
                predictor: predictor.into(),
                step,
                srcc,
                ktc,
                pcc,
                auc,
                within,
                srcc_ci,
                ktc_ci,
                pcc_ci,
                auc_ci,
                within_ci,
            });
        }
    }
    rows
}

/// The shipped probe's calibration, step by step.
pub fn calibration(all: &Candidates) -> Vec<Calibration> {
    let scores = all.scores.concat();
    let good = is_good(&scores, all.good);
    all.at_steps
        .iter()
        .enumerate()
        .filter(|(index, _)| {
            all.p_good[*index].len() == scores.len() && all.intervals[*index].len() == scores.len()
        })
        .map(|(index, &step)| {
            let held = all.intervals[index]
                .iter()
                .zip(&scores)
                .filter(|([low, high], score)| low <= *score && *score <= high)
                .count();
            Calibration {
                step,
                ece: calibration_error(&all.p_good[index], &good, BINS),
                coverage: held as f64 / scores.len().max(1) as f64,
            }
        })
        .collect()
}

/// How well `risks` (by step) tell the words that came out wrong.
pub fn words(all: &Candidates, risks: &[Vec<f64>]) -> Vec<Words> {
    all.at_steps
        .iter()
        .zip(risks)
        .map(|(&step, risks)| Words {
            step,
            auc: auc(risks, &all.word_wrong),
        })
        .collect()
}

/// The shipped probe less every other predictor, on the same resamples.
pub fn differences(all: &Candidates) -> Vec<Difference> {
    let y = &all.scores;
    let everything: Vec<usize> = (0..y.len()).collect();
    let mut differences = Vec::new();
    for (index, &step) in all.at_steps.iter().enumerate() {
        let Some(own) = all.predicted.get("probe").map(|steps| &steps[index]) else {
            continue;
        };
        for predictor in PREDICTORS.into_iter().filter(|p| *p != "probe") {
            let Some(other) = all.predicted.get(predictor).map(|steps| &steps[index]) else {
                continue;
            };
            let srcc = |d: &[usize]| {
                let y = pooled(y, d);
                spearman(&pooled(own, d), &y) - spearman(&pooled(other, d), &y)
            };
            let skill = |d: &[usize]| within(&pairs(own, y, d)) - within(&pairs(other, y, d));
            differences.push(Difference {
                against: predictor.into(),
                step,
                srcc: srcc(&everything),
                srcc_ci: bootstrap(y.len(), RESAMPLES, BOOTSTRAP_SEED, srcc),
                within: skill(&everything),
                within_ci: bootstrap(y.len(), RESAMPLES, BOOTSTRAP_SEED, skill),
            });
        }
    }
    differences
}

/// Pooled SRCC and within-prompt Spearman of each training seed by itself.
pub fn by_seed(all: &Candidates) -> Vec<BySeed> {
    let y = &all.scores;
    let everything: Vec<usize> = (0..y.len()).collect();
    let mut rows: Vec<BySeed> = Vec::new();
    for ((design, _), steps) in &all.by_network {
        for (x, &step) in steps.iter().zip(&all.at_steps) {
            let figures = (
                spearman(&x.concat(), &y.concat()),
                within(&pairs(x, y, &everything)),
            );
            let mut own = rows.iter_mut();
            match own.find(|r| r.predictor == *design && r.step == step) {
                Some(row) => row.figures.push(figures),
                None => rows.push(BySeed {
                    predictor: design.clone(),
                    step,
                    figures: vec![figures],
                }),
            }
        }
    }
    rows
}
