//! Where the preview already shows the outcome: a finished image's score often is, to the digit, that
//! of its late preview, and a network's answer near it is that value and noise.

use serde::{Deserialize, Serialize};

use super::stats;

/// Slacks that are tried, in units of a metric from 0 to 1.
const SLACKS: [f64; 9] = [0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2];

/// The scored preview stands unless the networks contradict it by more than `slack`, and then by as
/// much as they contradict it beyond: soft thresholding (Donoho 1995) of what they add to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anchor {
    /// 0: the networks alone.
    pub slack: f64,
}

/// A prompt's seeds: what the previews scored, what the networks said, what was measured.
pub type Anchored = (Vec<f64>, Vec<f64>, Vec<f64>);

impl Anchor {
    /// The slack that orders best, over all candidates and within each prompt, of those that leave
    /// the squared error no larger than the networks' own. `unit`: what 1 is in the metric's units.
    pub fn fit(groups: &[Anchored], unit: f64) -> Self {
        let measured: Vec<f64> = groups.iter().flat_map(|g| g.2.clone()).collect();
        let judged = |slack: f64| {
            let own = Self { slack };
            let pairs: Vec<(Vec<f64>, Vec<f64>)> = groups
                .iter()
                .map(|(previews, said, measured)| {
                    let anchored = previews.iter().zip(said).map(|(p, q)| own.apply(*p, *q));
                    (anchored.collect(), measured.clone())
                })
                .collect();
            let all: Vec<f64> = pairs.iter().flat_map(|(said, _)| said.clone()).collect();
            let errors = all.iter().zip(&measured).map(|(a, b)| (a - b).powi(2));
            let error: f64 = errors.sum();
            (
                stats::spearman(&all, &measured) + stats::within(&pairs),
                error,
            )
        };
        let (mut best, most) = ((0.0, f64::NEG_INFINITY), judged(0.0).1);
        for slack in SLACKS.map(|slack| slack * unit) {
            let (worth, error) = judged(slack);
            if worth > best.1 && error <= most {
                best = (slack, worth);
            }
        }
        Self { slack: best.0 }
    }

    pub fn apply(self, preview: f64, said: f64) -> f64 {
        let added = said - preview;
        preview + added.signum() * (added.abs() - self.slack).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn a_small_contradiction_is_none_and_a_large_one_moves_on_without_a_jump() {
        let anchor = Anchor { slack: 0.1 };
        assert_eq!(anchor.apply(0.5, 0.58), 0.5);
        assert_eq!(anchor.apply(0.5, 0.41), 0.5);
        assert!((anchor.apply(0.5, 0.61) - 0.51).abs() < 1e-12);
        assert!((anchor.apply(0.5, 0.2) - 0.3).abs() < 1e-12);
        assert_eq!(Anchor { slack: 0.0 }.apply(0.5, 0.7), 0.7);
    }

    /// Scores of few levels; previews that are exact, or nothing but noise; networks in between.
    fn groups(exact: bool) -> Vec<Anchored> {
        let mut random = Random::new(3);
        let mut one = |_| {
            let measured: Vec<f64> = (0..6).map(|_| random.below(4) as f64 / 3.0).collect();
            let noisy = |random: &mut Random, value: f64| value + 0.1 * (random.unit() - 0.5);
            let said = measured.iter().map(|m| noisy(&mut random, *m)).collect();
            let previews = measured
                .iter()
                .map(|m| if exact { *m } else { random.unit() })
                .collect();
            (previews, said, measured)
        };
        (0..40).map(&mut one).collect()
    }

    #[test]
    fn an_order_is_not_bought_with_a_larger_error() {
        // Previews that order perfectly and lie far off.
        let mut groups = groups(true);
        for (previews, _, _) in &mut groups {
            previews.iter_mut().for_each(|p| *p -= 5.0);
        }
        assert_eq!(Anchor::fit(&groups, 1.0).slack, 0.0);
    }

    #[test]
    fn where_previews_are_exact_they_stand_and_where_they_are_noise_they_do_not() {
        assert!(Anchor::fit(&groups(true), 1.0).slack >= 0.05);
        assert!(Anchor::fit(&groups(false), 1.0).slack <= 0.02);
    }
}
