//! What is believed of candidates, as normal distributions: which is better, and what looking closer
//! would bring.

use std::f64::consts::FRAC_1_SQRT_2;

/// How finely [`expected_best`] is summed: a tenth of the least deviation, where they are alike.
const POINTS: usize = 128;
/// Beyond so many deviations a normal distribution is taken to end.
const REACH: f64 = 6.0;

/// A quality that is not known exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Belief {
    pub mean: f64,
    /// Standard deviation.
    pub error: f64,
}

impl Belief {
    /// The chance that this one is the better.
    pub fn beats(self, other: Self) -> f64 {
        let error = self.error.hypot(other.error);
        let ahead = self.mean - other.mean;
        match error > 0.0 {
            true => below(ahead / error),
            false if ahead == 0.0 => 0.5,
            false => f64::from(u8::from(ahead > 0.0)),
        }
    }
}

/// The chance that a standard normal number is below `x`.
fn below(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// The expected largest of independent normal numbers and of `floor`.
///
/// max = top − ∫ P(all are below x) dx, over x from the floor to a top that none exceeds.
pub fn expected_best(floor: f64, among: &[Belief]) -> f64 {
    let over = |ends: fn(&Belief) -> f64| among.iter().map(ends).fold(floor, f64::max);
    let bottom = over(|b| b.mean - REACH * b.error);
    let top = over(|b| b.mean + REACH * b.error);
    let step = (top - bottom) / POINTS as f64;
    if !step.is_finite() || step <= 0.0 {
        return top;
    }
    let all_below = |x: f64| -> f64 {
        let each = among.iter().map(|b| match b.error > 0.0 {
            true => below((x - b.mean) / b.error),
            false => f64::from(u8::from(b.mean <= x)),
        });
        each.product()
    };
    let inner: f64 = (1..POINTS)
        .map(|i| all_below(bottom + step * i as f64))
        .sum();
    top - step * (inner + 0.5 * (all_below(bottom) + all_below(top)))
}

/// The density of a standard normal number.
#[cfg(test)]
fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Belief = Belief {
        mean: 0.0,
        error: 1.0,
    };

    #[test]
    fn the_best_of_normal_numbers_is_what_the_tables_say() {
        // Expected maxima of n standard normal numbers.
        for (n, expected) in [(1, 0.0), (2, 0.5641896), (4, 1.0293754), (16, 1.7659914)] {
            let best = expected_best(f64::NEG_INFINITY, &vec![ONE; n]);
            assert!((best - expected).abs() < 1e-4, "of {n}: {best}");
        }
    }

    #[test]
    fn a_floor_is_never_fallen_below() {
        // E max(c, z) = c Φ(c) + φ(c)
        for floor in [-1.0, 0.0, 0.7, 2.0] {
            let expected = floor * below(floor) + density(floor);
            let best = expected_best(floor, &[ONE]);
            assert!(
                (best - expected).abs() < 1e-3,
                "{floor}: {best}, {expected}"
            );
        }
        assert_eq!(expected_best(0.3, &[]), 0.3);
    }

    #[test]
    fn what_is_known_exactly_brings_no_surprise() {
        let known = |mean| Belief { mean, error: 0.0 };
        assert_eq!(
            expected_best(f64::NEG_INFINITY, &[known(0.2), known(0.6)]),
            0.6
        );
        assert_eq!(known(0.6).beats(known(0.2)), 1.0);
        assert_eq!(known(0.2).beats(known(0.2)), 0.5);
    }

    #[test]
    fn the_chance_to_be_better_follows_the_distance_and_the_errors() {
        let at = |mean| Belief { mean, error: 0.1 };
        assert_eq!(at(0.5).beats(at(0.5)), 0.5);
        let chance = at(0.5).beats(at(0.5 + 1.6449 * 0.1 * 2f64.sqrt()));
        assert!((chance - 0.05).abs() < 1e-4, "{chance}");
    }
}
