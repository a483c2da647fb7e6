//! What the delivered image is worth against what it cost: ways of choosing among a prompt's seeds,
//! next to rendering K of them in full and delivering the best.

use serde::Serialize;

use super::sample::Candidates;
use super::{BOOTSTRAP_SEED, RESAMPLES};
use crate::probe::stats::{bootstrap, mean};

/// A way of delivering one image a prompt.
#[derive(Clone, Debug, Serialize)]
pub struct Policy {
    pub policy: String,
    /// Denoiser evaluations a prompt, resumed steps counted once.
    pub cost: f64,
    pub quality: f64,
    pub quality_ci: [f64; 2],
}

/// A policy's quality less that of best-of-K at the same cost (between two K: on the line between).
#[derive(Clone, Debug, Serialize)]
pub struct AgainstBestOfK {
    pub policy: String,
    pub cost: f64,
    pub difference: f64,
    pub difference_ci: [f64; 2],
}

/// What a policy delivers for each prompt, on average over the seeds it could have been given.
struct Delivered {
    policy: String,
    cost: f64,
    quality: Vec<f64>,
}

/// All policies, and those that read a probe against best-of-K.
pub fn frontier(all: &Candidates) -> (Vec<Policy>, Vec<AgainstBestOfK>) {
    let full = (all.steps * all.evaluations_a_step) as f64;
    let seeds = all.scores.first().map_or(0, Vec::len);
    let best_of: Vec<Delivered> = (1..=seeds)
        .map(|k| Delivered {
            policy: match k {
                1 => "one random render".into(),
                _ => format!("best of {k} full renders"),
            },
            cost: full * k as f64,
            quality: all.scores.iter().map(|s| expected_best(s, k)).collect(),
        })
        .collect();
    let probed = probed(all, full, seeds);
    let oracle = Delivered {
        policy: format!("oracle best of {seeds}"),
        cost: full,
        quality: all.scores.iter().map(|s| expected_best(s, seeds)).collect(),
    };
    let against = probed
        .iter()
        .filter(|p| p.cost <= full * seeds as f64)
        .map(|p| against(p, &best_of, full))
        .collect();
    let policies = best_of
        .iter()
        .chain(&probed)
        .chain([&oracle])
        .map(|d| Policy {
            policy: d.policy.clone(),
            cost: d.cost,
            quality: mean(&d.quality),
            quality_ci: bootstrap(d.quality.len(), RESAMPLES, BOOTSTRAP_SEED, |drawn| {
                mean(&drawn.iter().map(|&i| d.quality[i]).collect::<Vec<_>>())
            }),
        })
        .collect();
    (policies, against)
}

/// N seeds probed at a step and the m most promising finished, the measured best delivered.
fn probed(all: &Candidates, full: f64, seeds: usize) -> Vec<Delivered> {
    let Some(predicted) = all.predicted.get("probe") else {
        return Vec::new();
    };
    let mut policies = Vec::new();
    for (steps, &step) in predicted.iter().zip(&all.at_steps) {
        let paid = (step * all.evaluations_a_step) as f64;
        for (n, m) in [(2, 1), (4, 1), (8, 1), (4, 2), (8, 2), (8, 3)] {
            if n > seeds {
                continue;
            }
            let quality = steps
                .iter()
                .zip(&all.scores)
                .map(|(predicted, scores)| {
                    // Every run of N neighbours among the seeds, as on a ring.
                    let starts = if n == seeds { 1 } else { seeds };
                    let each: Vec<f64> = (0..starts)
                        .map(|start| {
                            let mut some: Vec<usize> =
                                (start..start + n).map(|i| i % seeds).collect();
                            some.sort_by(|&a, &b| predicted[b].total_cmp(&predicted[a]));
                            let best = some[..m].iter().map(|&i| scores[i]);
                            best.fold(f64::NEG_INFINITY, f64::max)
                        })
                        .collect();
                    mean(&each)
                })
                .collect();
            policies.push(Delivered {
                policy: format!("{n} probed at step {step}, {m} rendered"),
                cost: paid * n as f64 + (full - paid) * m as f64,
                quality,
            });
        }
    }
    policies
}

/// The expected best of `k` seeds drawn from these without replacement.
fn expected_best(scores: &[f64], k: usize) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    // The chance that the i-th smallest is the best of k: C(i, k−1) / C(n, k).
    let choose = |n: usize, k: usize| -> f64 {
        (0..k)
            .map(|j| (n as f64 - j as f64) / (j as f64 + 1.0))
            .product()
    };
    sorted
        .iter()
        .enumerate()
        .skip(k.saturating_sub(1))
        .map(|(i, score)| score * choose(i, k - 1) / choose(n, k))
        .sum()
}

fn against(policy: &Delivered, best_of: &[Delivered], full: f64) -> AgainstBestOfK {
    let k = policy.cost / full;
    let low = (k.floor() as usize).clamp(1, best_of.len());
    let high = (low + 1).min(best_of.len());
    let share = (k - low as f64).clamp(0.0, 1.0);
    let differences: Vec<f64> = policy
        .quality
        .iter()
        .enumerate()
        .map(|(i, q)| {
            let (a, b) = (best_of[low - 1].quality[i], best_of[high - 1].quality[i]);
            q - (a + (b - a) * share)
        })
        .collect();
    AgainstBestOfK {
        policy: policy.policy.clone(),
        cost: policy.cost,
        difference: mean(&differences),
        difference_ci: bootstrap(differences.len(), RESAMPLES, BOOTSTRAP_SEED, |drawn| {
            mean(&drawn.iter().map(|&i| differences[i]).collect::<Vec<_>>())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_k_is_the_mean_over_all_subsets() {
        let scores = [0.1, 0.9, 0.4, 0.6];
        assert!((expected_best(&scores, 1) - 0.5).abs() < 1e-12);
        assert!((expected_best(&scores, 4) - 0.9).abs() < 1e-12);
        let pairs = [0.9, 0.4, 0.6, 0.9, 0.9, 0.6];
        assert!((expected_best(&scores, 2) - mean(&pairs)).abs() < 1e-12);
    }
}
