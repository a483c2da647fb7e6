//! What the delivered image is worth against what it cost: ways of choosing among a prompt's seeds,
//! next to rendering K of them in full and delivering the best.

use rayon::prelude::*;
use serde::Serialize;

use crate::probe::random::Random;
use crate::probe::stats::mean;

use super::candidates::Candidates;
use super::racing::{Outcome, race};
use super::resampled::{Times, mean_with_interval, with_interval};

/// Seeds that a policy starts from.
const STARTS: [usize; 7] = [2, 3, 4, 6, 8, 12, 16];
/// Of how many sets of seeds a policy's mean is taken, where there are more.
const MOST_SETS: usize = 70;

/// What sort of policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    BestOfK,
    Probing,
    Racing,
    Oracle,
}

/// A way of delivering one image a prompt.
#[derive(Clone, Debug, Serialize)]
pub struct Policy {
    pub policy: String,
    pub kind: Kind,
    /// Denoiser evaluations a prompt, resumed steps counted once.
    pub cost: f64,
    /// The same in full renders.
    pub renders: f64,
    pub quality: f64,
    pub quality_ci: [f64; 2],
}

/// A policy's quality less that of best-of-K at the same cost: between two K, what tossing a coin
/// between them would give.
#[derive(Clone, Debug, Serialize)]
pub struct AgainstBestOfK {
    pub policy: String,
    pub cost: f64,
    pub difference: f64,
    pub difference_ci: [f64; 2],
    /// How many full renders give the same quality; `None` where all of them do not.
    pub worth_renders: Option<f64>,
}

/// What a policy pays and delivers for each prompt, on average over the seeds it could have been
/// given.
struct Delivered {
    policy: String,
    kind: Kind,
    cost: Vec<f64>,
    quality: Vec<f64>,
}

/// All policies, and those that read a probe against best-of-K.
pub fn frontier(all: &Candidates) -> (Vec<Policy>, Vec<AgainstBestOfK>) {
    let (full, seeds) = (all.full(), all.seed_count());
    let best_of: Vec<Delivered> = (1..=seeds)
        .map(|k| Delivered {
            policy: match k {
                1 => "one random render".into(),
                _ => format!("best of {k} full renders"),
            },
            kind: Kind::BestOfK,
            cost: vec![full * k as f64; all.scores.len()],
            quality: all.scores.iter().map(|s| expected_best(s, k)).collect(),
        })
        .collect();
    let oracle = Delivered {
        policy: format!("oracle best of {seeds}"),
        kind: Kind::Oracle,
        cost: vec![full; all.scores.len()],
        quality: all.scores.iter().map(|s| expected_best(s, seeds)).collect(),
    };
    let mut foreseeing = racing(all);
    foreseeing.extend(probed(all));
    let against = foreseeing
        .iter()
        .filter(|p| mean(&p.cost) <= full * seeds as f64)
        .map(|p| against(p, &best_of, full))
        .collect();
    let policies = best_of
        .iter()
        .chain(&foreseeing)
        .chain([&oracle])
        .map(|d| {
            let (quality, quality_ci) = mean_with_interval(&d.quality);
            Policy {
                policy: d.policy.clone(),
                kind: d.kind,
                cost: mean(&d.cost),
                renders: mean(&d.cost) / full,
                quality,
                quality_ci,
            }
        })
        .collect();
    (policies, against)
}

/// N seeds raced as `rank_seeds` races them by default, and its first rendered.
fn racing(all: &Candidates) -> Vec<Delivered> {
    if all.foreseen.is_empty() {
        return Vec::new();
    }
    delivered(all, &STARTS, |n, prompt, set| {
        let Outcome { first, evaluations } = race(all, prompt, set);
        let policy = format!("{n} raced, the first rendered");
        vec![(policy, Kind::Racing, evaluations, all.scores[prompt][first])]
    })
}

/// N seeds probed at a step and the m most promising finished, the measured best delivered.
fn probed(all: &Candidates) -> Vec<Delivered> {
    let Some(said) = all.predicted.get("probe") else {
        return Vec::new();
    };
    let full = all.full();
    delivered(all, &[2, 4, 8], |n, prompt, set| {
        let mut each = Vec::new();
        for (said, &step) in said.iter().zip(&all.at_steps) {
            let paid = (step * all.evaluations_a_step) as f64;
            let (predicted, scores) = (&said[prompt], &all.scores[prompt]);
            let mut order = set.to_vec();
            order.sort_by(|&a, &b| predicted[b].total_cmp(&predicted[a]));
            for m in [1, 2, 3] {
                if m * 2 > n {
                    continue;
                }
                let best = order[..m].iter().map(|&i| scores[i]);
                each.push((
                    format!("{n} probed at step {step}, {m} rendered"),
                    Kind::Probing,
                    paid * n as f64 + (full - paid) * m as f64,
                    best.fold(f64::NEG_INFINITY, f64::max),
                ));
            }
        }
        each
    })
}

/// Plays policies on every set of `n` seeds, for each `n`, and takes the mean over the sets. The
/// same policies in the same order must come back from every set.
fn delivered(
    all: &Candidates,
    starts: &[usize],
    play: impl Fn(usize, usize, &[usize]) -> Vec<(String, Kind, f64, f64)> + Sync,
) -> Vec<Delivered> {
    let prompts = all.scores.len();
    let mut policies: Vec<Delivered> = Vec::new();
    for &n in starts.iter().filter(|n| **n <= all.seed_count()) {
        let sets = sets(all.seed_count(), n);
        let share = 1.0 / sets.len() as f64;
        let means = |prompt: usize| {
            let mut means: Vec<(String, Kind, f64, f64)> = Vec::new();
            for set in &sets {
                for (i, (policy, kind, cost, quality)) in
                    play(n, prompt, set).into_iter().enumerate()
                {
                    if means.len() == i {
                        means.push((policy, kind, 0.0, 0.0));
                    }
                    means[i].2 += cost * share;
                    means[i].3 += quality * share;
                }
            }
            means
        };
        let first = policies.len();
        let by_prompt: Vec<_> = (0..prompts).into_par_iter().map(means).collect();
        for (prompt, means) in by_prompt.into_iter().enumerate() {
            for (i, (policy, kind, cost, quality)) in means.into_iter().enumerate() {
                if policies.len() == first + i {
                    policies.push(Delivered {
                        policy,
                        kind,
                        cost: vec![0.0; prompts],
                        quality: vec![0.0; prompts],
                    });
                }
                let own = &mut policies[first + i];
                own.cost[prompt] = cost;
                own.quality[prompt] = quality;
            }
        }
    }
    policies
}

/// All ways of taking `n` of so many seeds, or some of them by chance where they are very many.
fn sets(of: usize, n: usize) -> Vec<Vec<usize>> {
    if choose(of, n) > MOST_SETS as f64 {
        let mut random = Random::new(n as u64);
        return (0..MOST_SETS)
            .map(|_| {
                let mut left: Vec<usize> = (0..of).collect();
                (0..n)
                    .map(|_| left.swap_remove(random.below(left.len())))
                    .collect()
            })
            .collect();
    }
    let mut sets = vec![Vec::new()];
    for _ in 0..n {
        sets = sets
            .iter()
            .flat_map(|set: &Vec<usize>| {
                let next = set.last().map_or(0, |last| last + 1);
                (next..of).map(move |i| [set.as_slice(), &[i]].concat())
            })
            .collect();
    }
    sets
}

fn choose(n: usize, k: usize) -> f64 {
    (0..k)
        .map(|j| (n as f64 - j as f64) / (j as f64 + 1.0))
        .product()
}

/// The expected best of `k` seeds drawn from these without replacement.
fn expected_best(scores: &[f64], k: usize) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    // The chance that the i-th smallest is the best of k: C(i, k−1) / C(n, k).
    sorted
        .iter()
        .enumerate()
        .skip(k.saturating_sub(1))
        .map(|(i, score)| score * choose(i, k - 1) / choose(n, k))
        .sum()
}

/// The value at `renders` full renders of a curve that starts at one, on the line between two.
fn interpolated(curve: &[f64], renders: f64) -> f64 {
    let last = curve.len().saturating_sub(1);
    let at = (renders - 1.0).clamp(0.0, last as f64);
    let low = at.floor() as usize;
    let high = (low + 1).min(last);
    curve[low] + (curve[high] - curve[low]) * (at - low as f64)
}

/// Where such a curve, which never falls, first reaches `value`.
fn reached(curve: &[f64], value: f64) -> Option<f64> {
    let at = curve.iter().position(|v| *v >= value)?;
    if at == 0 {
        return Some(1.0);
    }
    let (low, high) = (curve[at - 1], curve[at]);
    Some(at as f64 + (value - low) / (high - low))
}

fn against(policy: &Delivered, best_of: &[Delivered], full: f64) -> AgainstBestOfK {
    let curve = |times: &Times| -> Vec<f64> {
        best_of
            .iter()
            .map(|best| times.mean(&best.quality))
            .collect()
    };
    let (difference, difference_ci) = with_interval(policy.quality.len(), |times| {
        let renders = times.mean(&policy.cost) / full;
        times.mean(&policy.quality) - interpolated(&curve(times), renders)
    });
    AgainstBestOfK {
        policy: policy.policy.clone(),
        cost: mean(&policy.cost),
        difference,
        difference_ci,
        worth_renders: reached(
            &curve(&Times::once(policy.quality.len())),
            mean(&policy.quality),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_k_is_the_mean_over_all_sets_of_k() {
        let scores = [0.1, 0.9, 0.4, 0.6, 0.3];
        for k in 1..=5 {
            let best: Vec<f64> = sets(5, k)
                .iter()
                .map(|set| set.iter().map(|&i| scores[i]).fold(0.0, f64::max))
                .collect();
            assert!((expected_best(&scores, k) - mean(&best)).abs() < 1e-12);
        }
    }

    #[test]
    fn every_set_of_seeds_is_played_once() {
        assert_eq!(sets(4, 2).len(), 6);
        assert_eq!(sets(3, 3), [[0, 1, 2]]);
        let many = sets(16, 8);
        assert_eq!(many.len(), MOST_SETS);
        for mut set in many {
            set.sort_unstable();
            set.dedup();
            assert_eq!(set.len(), 8, "a seed is in a set once");
        }
    }

    #[test]
    fn between_two_k_the_curve_is_a_line() {
        let curve = [0.5, 0.7, 0.8];
        for (renders, value) in [
            (1.0, 0.5),
            (1.5, 0.6),
            (2.0, 0.7),
            (2.25, 0.725),
            (9.0, 0.8),
        ] {
            assert!((interpolated(&curve, renders) - value).abs() < 1e-12);
        }
        assert_eq!(reached(&curve, 0.4), Some(1.0));
        assert!((reached(&curve, 0.725).unwrap() - 2.25).abs() < 1e-12);
        assert_eq!(reached(&curve, 0.9), None);
    }

    #[test]
    fn a_policy_is_held_against_what_its_own_mean_cost_buys() {
        let of = |kind, cost: [f64; 2], quality: [f64; 2]| Delivered {
            policy: String::new(),
            kind,
            cost: cost.into(),
            quality: quality.into(),
        };
        let best_of = [
            of(Kind::BestOfK, [50.0; 2], [0.4, 0.6]),
            of(Kind::BestOfK, [100.0; 2], [0.6, 0.8]),
        ];
        // A mean cost of 75 buys 0.6 of best-of-K.
        let policy = of(Kind::Racing, [60.0, 90.0], [0.65, 0.75]);
        let held = against(&policy, &best_of, 50.0);
        assert!((held.difference - 0.1).abs() < 1e-12, "{held:?}");
        assert_eq!(held.cost, 75.0);
        assert!((held.worth_renders.unwrap() - 2.0).abs() < 1e-9);
    }
}
