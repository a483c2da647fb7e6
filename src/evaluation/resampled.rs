//! Figures of a resample of groups without sorting anew: a bootstrap draws the same values over and
//! over, so a column is sorted once, and a resample is how many times each group was drawn.

use crate::probe::stats::{bootstrap, mean};

use super::{BOOTSTRAP_SEED, RESAMPLES};

/// How many times each group was drawn.
pub struct Times(Vec<f64>);

impl Times {
    /// Each group once: the figure itself.
    pub fn once(groups: usize) -> Self {
        Self(vec![1.0; groups])
    }

    fn of(drawn: &[usize], groups: usize) -> Self {
        let mut times = vec![0.0; groups];
        for &group in drawn {
            times[group] += 1.0;
        }
        Self(times)
    }

    /// The mean of one value a group; 0 where no group was drawn.
    pub fn mean(&self, values: &[f64]) -> f64 {
        let drawn: f64 = self.0.iter().sum();
        let total: f64 = values.iter().zip(&self.0).map(|(v, t)| v * t).sum();
        total / drawn.max(1.0)
    }

    /// The mean over the groups that have a value.
    pub fn mean_of_known(&self, values: &[Option<f64>]) -> f64 {
        let (mut total, mut drawn) = (0.0, 0.0f64);
        for (value, times) in values.iter().zip(&self.0) {
            if let Some(value) = value {
                total += value * times;
                drawn += times;
            }
        }
        total / drawn.max(1.0)
    }

    fn of_each<'a>(&'a self, column: &'a Column) -> impl Iterator<Item = f64> + 'a {
        column.group.iter().map(|&group| self.0[group])
    }
}

/// A figure over groups, and its 95 % interval by a bootstrap over them.
pub fn with_interval(groups: usize, figure: impl Fn(&Times) -> f64 + Sync) -> (f64, [f64; 2]) {
    let interval = bootstrap(groups, RESAMPLES, BOOTSTRAP_SEED, |drawn| {
        figure(&Times::of(drawn, groups))
    });
    (figure(&Times::once(groups)), interval)
}

/// The mean of one value a group with its interval.
pub fn mean_with_interval(values: &[f64]) -> (f64, [f64; 2]) {
    with_interval(values.len(), |times| times.mean(values))
}

/// The values of all groups in one row, and their order.
pub struct Column {
    values: Vec<f64>,
    /// The group of each value.
    group: Vec<usize>,
    order: Vec<usize>,
}

impl Column {
    pub fn new(groups: &[Vec<f64>]) -> Self {
        let values = groups.concat();
        let group = groups
            .iter()
            .enumerate()
            .flat_map(|(i, values)| values.iter().map(move |_| i))
            .collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        Self {
            values,
            group,
            order,
        }
    }

    /// The rank of each value in the resample, from 1, ties sharing their mean.
    fn ranks(&self, times: &Times) -> Vec<f64> {
        let mut ranks = vec![0.0; self.values.len()];
        let (mut start, mut before) = (0, 0.0);
        while start < self.order.len() {
            let value = self.values[self.order[start]];
            let (mut end, mut tied) = (start, 0.0);
            while end < self.order.len() && self.values[self.order[end]] == value {
                tied += times.0[self.group[self.order[end]]];
                end += 1;
            }
            for &i in &self.order[start..end] {
                ranks[i] = before + (tied + 1.0) / 2.0;
            }
            before += tied;
            start = end;
        }
        ranks
    }
}

/// Pearson's correlation; 0 where either side is constant.
pub fn pearson(x: &Column, y: &Column, times: &Times) -> f64 {
    weighted(&x.values, &y.values, times.of_each(x).collect())
}

/// Spearman's rank correlation; 0 where either side is constant.
pub fn spearman(x: &Column, y: &Column, times: &Times) -> f64 {
    weighted(&x.ranks(times), &y.ranks(times), times.of_each(x).collect())
}

fn weighted(x: &[f64], y: &[f64], weights: Vec<f64>) -> f64 {
    let total: f64 = weights.iter().sum();
    if total == 0.0 {
        return 0.0;
    }
    let center = |values: &[f64]| {
        let sum: f64 = values.iter().zip(&weights).map(|(v, w)| v * w).sum();
        sum / total
    };
    let (mx, my) = (center(x), center(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for ((a, b), w) in x.iter().zip(y).zip(&weights) {
        xy += w * (a - mx) * (b - my);
        xx += w * (a - mx) * (a - mx);
        yy += w * (b - my) * (b - my);
    }
    // A column of equal numbers leaves rounding behind rather than a clean zero.
    let tiny = 1e-18 * total;
    if xx <= tiny * (1.0 + mx * mx) || yy <= tiny * (1.0 + my * my) {
        return 0.0;
    }
    xy / (xx * yy).sqrt()
}

/// The area under the ROC curve; 0.5 where one of the two outcomes is missing.
pub fn auc(score: &Column, positive: &[bool], times: &Times) -> f64 {
    let ranks = score.ranks(times);
    let (mut hits, mut misses, mut sum) = (0.0, 0.0, 0.0);
    for ((rank, positive), times) in ranks.iter().zip(positive).zip(times.of_each(score)) {
        if *positive {
            hits += times;
            sum += times * rank;
        } else {
            misses += times;
        }
    }
    if hits == 0.0 || misses == 0.0 {
        return 0.5;
    }
    (sum - hits * (hits + 1.0) / 2.0) / (hits * misses)
}

/// Spearman's correlation within each group; `None` where every outcome is the same, since no skill
/// can show there.
pub fn within(x: &[Vec<f64>], y: &[Vec<f64>]) -> Vec<Option<f64>> {
    x.iter()
        .zip(y)
        .map(|(x, y)| {
            let varies = y.iter().any(|v| *v != y[0]);
            varies.then(|| crate::probe::stats::spearman(x, y))
        })
        .collect()
}

/// The standard error of a group's mean, from the variance within all groups together.
pub fn pooled_standard_error(groups: &[Vec<f64>]) -> f64 {
    let variances: Vec<f64> = groups
        .iter()
        .filter(|g| g.len() > 1)
        .map(|g| crate::probe::stats::deviation(g).powi(2) / g.len() as f64)
        .collect();
    mean(&variances).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::random::Random;
    use crate::probe::stats;

    fn groups(random: &mut Random, levels: usize) -> Vec<Vec<f64>> {
        let value = |random: &mut Random| random.below(levels) as f64;
        (0..12)
            .map(|_| (0..5).map(|_| value(random)).collect())
            .collect()
    }

    #[test]
    fn a_resample_by_counts_is_the_resample_by_copies() {
        let mut random = Random::new(8);
        for levels in [2, 7, 1000] {
            let (x, y) = (groups(&mut random, levels), groups(&mut random, levels));
            let drawn: Vec<usize> = (0..12).map(|_| random.below(12)).collect();
            let copies = |of: &[Vec<f64>]| -> Vec<f64> {
                drawn.iter().flat_map(|&i| of[i].clone()).collect()
            };
            let (cx, cy) = (Column::new(&x), Column::new(&y));
            let times = Times::of(&drawn, 12);
            let (px, py) = (copies(&x), copies(&y));
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
            close(spearman(&cx, &cy, &times), stats::spearman(&px, &py));
            close(pearson(&cx, &cy, &times), stats::pearson(&px, &py));
            let good = |values: &[f64]| -> Vec<bool> { values.iter().map(|v| *v > 0.5).collect() };
            close(
                auc(&cx, &good(&y.concat()), &times),
                stats::auc(&px, &good(&py)),
            );
        }
    }

    #[test]
    fn a_group_without_a_spread_of_outcomes_shows_no_skill() {
        let x = vec![vec![1.0, 2.0, 3.0], vec![1.0, 2.0, 3.0]];
        let y = vec![vec![0.1, 0.2, 0.3], vec![0.5; 3]];
        let skills = within(&x, &y);
        assert_eq!(skills[1], None);
        assert!((Times::once(2).mean_of_known(&skills) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_pooled_error_is_the_mean_variance_over_the_seeds() {
        // Variances 2 and 0 over two seeds each: (1 + 0) / 2.
        let groups = [vec![0.0, 2.0], vec![5.0, 5.0]];
        assert!((pooled_standard_error(&groups) - 0.5f64.sqrt()).abs() < 1e-12);
    }
}
