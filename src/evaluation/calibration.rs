//! How far the shipped probe's numbers mean what they say: its chances of good, its intervals, and
//! the words that it names.

use serde::Serialize;

use crate::probe::stats::calibration_error;

use super::candidates::Candidates;
use super::resampled::{Column, Times, auc, with_interval};
use super::{BOOTSTRAP_SEED, RESAMPLES};

/// Bins of equal mass for the calibration error.
const BINS: usize = 10;

/// At one step.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    pub step: usize,
    /// The expected calibration error of `p_good`, over ten bins of equal mass.
    pub ece: f64,
    /// The share of measured scores that the 90 % intervals hold.
    pub coverage: f64,
    pub coverage_ci: [f64; 2],
    /// What the bins hold, from the least chance to the greatest.
    pub reliability: Vec<Bin>,
}

/// Candidates whose predicted chances are alike.
#[derive(Clone, Debug, Serialize)]
pub struct Bin {
    /// Their mean predicted chance of good.
    pub said: f64,
    /// The share that came out good.
    pub came: f64,
    pub came_ci: [f64; 2],
}

/// At one step: how well the words named as risky are those whose objects come out wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Words {
    pub step: usize,
    pub auc: f64,
    pub auc_ci: [f64; 2],
    /// Of the unlearned spread of the same words' attention.
    pub spread_auc: f64,
    /// The first less the second, with its paired interval.
    pub difference: f64,
    pub difference_ci: [f64; 2],
}

/// The shipped probe's calibration, step by step. Empty where it is not calibrated.
pub fn calibration(all: &Candidates) -> Vec<Calibration> {
    let good = all.is_good();
    let mut steps = Vec::new();
    for (said, &step) in all.foreseen.iter().zip(&all.at_steps) {
        let chances: Option<Vec<f64>> = said.iter().flatten().map(|p| p.p_good).collect();
        let intervals: Option<Vec<[f64; 2]>> = said.iter().flatten().map(|p| p.interval).collect();
        let (Some(chances), Some(intervals)) = (chances, intervals) else {
            continue;
        };
        let mut held = intervals
            .iter()
            .zip(all.scores.iter().flatten())
            .map(|([low, high], score)| f64::from(u8::from(low <= score && score <= high)));
        let held: Vec<Vec<f64>> = all
            .scores
            .iter()
            .map(|group| held.by_ref().take(group.len()).collect())
            .collect();
        let means: Vec<f64> = held.iter().map(|g| crate::probe::stats::mean(g)).collect();
        let (coverage, coverage_ci) = with_interval(means.len(), |times| times.mean(&means));
        steps.push(Calibration {
            step,
            ece: calibration_error(&chances, &good, BINS),
            coverage,
            coverage_ci,
            reliability: reliability(all, &chances, &good),
        });
    }
    steps
}

/// Ten bins of equal mass; the intervals are over prompts, since seeds of one prompt succeed and
/// fail together.
fn reliability(all: &Candidates, chances: &[f64], good: &[bool]) -> Vec<Bin> {
    let n = chances.len();
    let prompt_of: Vec<usize> = all
        .scores
        .iter()
        .enumerate()
        .flat_map(|(prompt, seeds)| seeds.iter().map(move |_| prompt))
        .collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| chances[a].total_cmp(&chances[b]));
    (0..BINS)
        .filter_map(|bin| {
            let members = &order[bin * n / BINS..(bin + 1) * n / BINS];
            if members.is_empty() {
                return None;
            }
            let share = |of: &dyn Fn(usize) -> f64| {
                members.iter().map(|&i| of(i)).sum::<f64>() / members.len() as f64
            };
            let came = |i: usize| f64::from(u8::from(good[i]));
            let prompts = all.scores.len();
            let mut of_prompt = vec![(0.0, 0.0); prompts];
            for &i in members {
                of_prompt[prompt_of[i]].0 += came(i);
                of_prompt[prompt_of[i]].1 += 1.0;
            }
            let came_ci =
                crate::probe::stats::bootstrap(prompts, RESAMPLES, BOOTSTRAP_SEED, |drawn| {
                    let (hits, all) = drawn.iter().fold((0.0, 0.0), |(hits, all), &p| {
                        (hits + of_prompt[p].0, all + of_prompt[p].1)
                    });
                    if all > 0.0 { hits / all } else { 0.0 }
                });
            Some(Bin {
                said: share(&|i| chances[i]),
                came: share(&came),
                came_ci,
            })
        })
        .collect()
}

/// The words at each step, next to the spread of their attention.
pub fn words(all: &Candidates) -> Vec<Words> {
    let wrong = all.words.wrong.concat();
    let prompts = all.words.wrong.len();
    all.at_steps
        .iter()
        .zip(all.words.risks.iter().zip(&all.words.spreads))
        .map(|(&step, (risks, spreads))| {
            let (own, spread) = (Column::new(risks), Column::new(spreads));
            let (figure, auc_ci) = with_interval(prompts, |times| auc(&own, &wrong, times));
            let (difference, difference_ci) = with_interval(prompts, |times| {
                auc(&own, &wrong, times) - auc(&spread, &wrong, times)
            });
            Words {
                step,
                auc: figure,
                auc_ci,
                spread_auc: auc(&spread, &wrong, &Times::once(prompts)),
                difference,
                difference_ci,
            }
        })
        .collect()
}
