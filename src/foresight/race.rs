//! How `rank_seeds` decides, as pure functions over predictions.
//!
//! All seeds start. After each step at which the probe predicts, a seed is **dropped** if it lies
//! below the `keep`-th best by more than their intervals allow: at 90 % it is not among the best.
//! What two seeds of one prompt have in common (the probe misjudges the prompt) does not tell them
//! apart, so only the seeds' own share of each interval counts. What is left, the **contenders**, goes on to the next step. The race ends when no more
//! than `keep` contend (the best are clear), when the last step is reached, or when the budget
//! cannot bring more than `keep` contenders to the next step. Where the budget takes some but not
//! all of them, those with the best predictions go on; the others stay in the race with what is
//! known of them, and are not counted as dropped.

use super::uncertainty::own_share;
use crate::probe::Prediction;

/// Where a seed stands in the race.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub prediction: Option<Prediction>,
    /// Steps done at that prediction; 0 before the first.
    pub at_step: usize,
    pub dropped: bool,
}

impl Standing {
    fn quality(&self) -> f64 {
        self.prediction
            .as_ref()
            .map_or(f64::NEG_INFINITY, |p| p.quality)
    }

    fn interval(&self) -> Option<[f64; 2]> {
        self.prediction.as_ref().and_then(|p| p.interval)
    }
}

/// Drops every contender that is not among the best `keep`, as sure as the intervals are. Without
/// intervals nothing is dropped.
pub fn drop_the_hopeless(field: &mut [Standing], keep: usize) {
    let mut best: Vec<usize> = contenders(field).collect();
    if keep == 0 || best.len() <= keep {
        return;
    }
    best.sort_by(|&a, &b| field[b].quality().total_cmp(&field[a].quality()));
    let bar = field[best[keep - 1]].clone();
    for &i in &best[keep..] {
        field[i].dropped = is_clearly_below(&field[i], &bar);
    }
}

/// Whether the 90 % interval of the difference lies below 0.
fn is_clearly_below(low: &Standing, high: &Standing) -> bool {
    let (Some([_, top]), Some([bottom, _])) = (low.interval(), high.interval()) else {
        return false;
    };
    let up = (top - low.quality()) * own_share();
    let down = (high.quality() - bottom) * own_share();
    high.quality() - low.quality() > up.hypot(down)
}

/// The contenders that go on to `next_step`, best first: all of them, or as many as `purse` takes
/// at `evaluations_per_step`. None where that could not change who the best `keep` are.
pub fn who_goes_on(
    field: &[Standing],
    keep: usize,
    next_step: usize,
    evaluations_per_step: u64,
    purse: u64,
) -> Vec<usize> {
    if is_clear(field, keep) {
        return Vec::new();
    }
    let mut going: Vec<usize> = contenders(field).collect();
    going.sort_by(|&a, &b| {
        field[b]
            .quality()
            .total_cmp(&field[a].quality())
            .then(a.cmp(&b))
    });
    let mut left = purse;
    going.retain(|&i| {
        let steps = next_step.saturating_sub(field[i].at_step) as u64;
        let taken = left.checked_sub(steps * evaluations_per_step);
        left = taken.unwrap_or(0);
        taken.is_some()
    });
    if going.len() <= keep {
        Vec::new()
    } else {
        going
    }
}

/// Every seed once, best first: contenders before dropped ones, each by predicted quality, and
/// those with no prediction last.
pub fn ranking(field: &[Standing]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..field.len()).collect();
    order.sort_by(|&a, &b| {
        field[a]
            .dropped
            .cmp(&field[b].dropped)
            .then(field[b].quality().total_cmp(&field[a].quality()))
            .then(field[b].at_step.cmp(&field[a].at_step))
            .then(a.cmp(&b))
    });
    order
}

/// Whether no more than `keep` contend.
pub fn is_clear(field: &[Standing], keep: usize) -> bool {
    contenders(field).count() <= keep
}

fn contenders(field: &[Standing]) -> impl Iterator<Item = usize> + '_ {
    (0..field.len()).filter(|&i| !field[i].dropped)
}

/// What a race may cost where no budget was given: bringing every seed to the step `at_step`, and
/// half as much again to tell the best apart.
pub fn default_budget(seeds: usize, at_step: usize, evaluations_per_step: u64) -> u64 {
    seeds as u64 * at_step as u64 * evaluations_per_step * 3 / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(quality: f64, half: f64) -> Standing {
        Standing {
            prediction: Some(Prediction {
                quality,
                interval: Some([quality - half, quality + half]),
                p_good: None,
                word_risks: Vec::new(),
            }),
            at_step: 1,
            dropped: false,
        }
    }

    fn field(qualities: &[f64], half: f64) -> Vec<Standing> {
        qualities.iter().map(|q| standing(*q, half)).collect()
    }

    fn dropped(field: &[Standing]) -> Vec<usize> {
        (0..field.len()).filter(|&i| field[i].dropped).collect()
    }

    #[test]
    fn only_seeds_that_are_surely_not_among_the_best_are_dropped() {
        for (keep, hopeless) in [(1, vec![1, 3]), (2, vec![1, 3]), (3, vec![3]), (4, vec![])] {
            let mut race = field(&[0.9, 0.5, 0.85, 0.1], 0.1);
            drop_the_hopeless(&mut race, keep);
            assert_eq!(
                dropped(&race),
                hopeless,
                "0.85 may still be the best; keep {keep}"
            );
        }
    }

    #[test]
    fn wide_intervals_drop_nobody() {
        let mut race = field(&[0.9, 0.5, 0.85, 0.6], 0.5);
        drop_the_hopeless(&mut race, 1);
        assert!(dropped(&race).is_empty());
    }

    #[test]
    fn the_best_are_never_dropped() {
        for keep in 1..6 {
            let mut race = field(&[0.9, 0.8, 0.3, 0.3, 0.1], 0.01);
            drop_the_hopeless(&mut race, keep);
            assert!((0..race.len()).filter(|&i| !race[i].dropped).count() >= keep);
            assert!(!race[0].dropped);
        }
    }

    #[test]
    fn without_intervals_nothing_is_dropped() {
        let mut race = field(&[0.9, 0.1], 0.1);
        for standing in &mut race {
            standing.prediction.as_mut().unwrap().interval = None;
        }
        drop_the_hopeless(&mut race, 1);
        assert!(dropped(&race).is_empty());
    }

    #[test]
    fn the_race_is_over_when_the_best_are_clear() {
        let mut race = field(&[0.9, 0.2, 0.1], 0.1);
        assert!(!is_clear(&race, 1));
        drop_the_hopeless(&mut race, 1);
        assert!(is_clear(&race, 1));
        assert!(who_goes_on(&race, 1, 5, 2, 1000).is_empty());
    }

    #[test]
    fn what_cannot_be_afforded_does_not_go_on() {
        let race = field(&[0.5, 0.7, 0.6, 0.4], 0.5);
        // From step 1 to 5 is 8 evaluations each.
        assert_eq!(who_goes_on(&race, 1, 5, 2, 32), [1, 2, 0, 3]);
        assert_eq!(who_goes_on(&race, 1, 5, 2, 23), [1, 2]);
        assert!(
            who_goes_on(&race, 2, 5, 2, 23).is_empty(),
            "would not change who is kept"
        );
        assert!(who_goes_on(&race, 1, 5, 2, 15).is_empty());
    }

    #[test]
    fn those_who_lag_behind_pay_for_all_their_steps() {
        let mut race = field(&[0.5, 0.7, 0.6], 0.5);
        race[0].at_step = 5;
        race[1].at_step = 5;
        // 10 evaluations each from step 5 to 10, 18 from step 1.
        assert_eq!(who_goes_on(&race, 1, 10, 2, 38), [1, 2, 0]);
        assert_eq!(who_goes_on(&race, 1, 10, 2, 28), [1, 2]);
    }

    #[test]
    fn the_ranking_holds_every_seed_once_with_the_dropped_last() {
        let mut race = field(&[0.2, 0.9, 0.6, 0.95], 0.1);
        race[3].dropped = true;
        race.push(Standing::default());
        assert_eq!(ranking(&race), [1, 2, 0, 4, 3]);
    }

    #[test]
    fn a_dropped_seed_has_no_say_in_who_is_dropped_next() {
        let mut race = field(&[0.9, 0.6, 0.5], 0.05);
        race[0].dropped = true;
        drop_the_hopeless(&mut race, 2);
        assert_eq!(dropped(&race), [0]);
    }
}
