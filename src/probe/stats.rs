//! The statistics of `probe eval`: correlations, areas, shares of variance, calibration, and the
//! bootstrap over prompts.

use super::random::Random;

/// Ranks from 1, ties sharing their mean.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && values[order[end]] == values[order[start]] {
            end += 1;
        }
        for &i in &order[start..end] {
            ranks[i] = (start + end + 1) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The deviation of scores that lie anywhere between 0 and 1, by which metrics without bounds are
/// compared with those that have them.
pub const USUAL_DEVIATION: f64 = 0.3;

/// The standard deviation of a sample (n − 1); 0 below two values.
pub fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// Pearson's correlation; 0 where either side is constant, since it then predicts nothing.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let (mx, my) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        xy += (a - mx) * (b - my);
        xx += (a - mx) * (a - mx);
        yy += (b - my) * (b - my);
    }
    // A column of equal numbers leaves rounding behind rather than a clean zero.
    let tiny = 1e-18 * x.len() as f64;
    if xx <= tiny * (1.0 + mx * mx) || yy <= tiny * (1.0 + my * my) {
        return 0.0;
    }
    xy / (xx * yy).sqrt()
}

/// Spearman's rank correlation, ties sharing ranks; 0 where either side is constant.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

/// Kendall's τ-b in O(n log n) (Knight 1966); 0 where either side is constant.
pub fn kendall(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len();
    let pairs = |count: usize| count as f64 * (count as f64 - 1.0) / 2.0;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]).then(y[a].total_cmp(&y[b])));
    let tied = |equal: &dyn Fn(usize) -> bool| {
        let (mut total, mut run) = (0.0, 1);
        for i in 1..n {
            if equal(i) {
                run += 1;
            } else {
                total += pairs(run);
                run = 1;
            }
        }
        total + pairs(run)
    };
    let in_x = tied(&|i| x[order[i]] == x[order[i - 1]]);
    let in_both = tied(&|i| x[order[i]] == x[order[i - 1]] && y[order[i]] == y[order[i - 1]]);
    let mut column: Vec<f64> = order.iter().map(|&i| y[i]).collect();
    let swaps = sort_counting_swaps(&mut column) as f64;
    let in_y = tied(&|i| column[i] == column[i - 1]);
    let all = pairs(n);
    let denominator = ((all - in_x) * (all - in_y)).sqrt();
    if denominator <= 0.0 {
        return 0.0;
    }
    (all - in_x - in_y + in_both - 2.0 * swaps) / denominator
}

/// Sorts by merging, and counts the pairs that stood the wrong way round.
fn sort_counting_swaps(values: &mut [f64]) -> u64 {
    let n = values.len();
    let mut buffer = values.to_vec();
    let mut swaps = 0u64;
    let mut width = 1;
    while width < n {
        for start in (0..n).step_by(2 * width) {
            let (middle, end) = ((start + width).min(n), (start + 2 * width).min(n));
            let (mut left, mut right) = (start, middle);
            for slot in &mut buffer[start..end] {
                if left < middle && (right >= end || values[left] <= values[right]) {
                    *slot = values[left];
                    left += 1;
                } else {
                    *slot = values[right];
                    swaps += (middle - left) as u64;
                    right += 1;
                }
            }
        }
        values.copy_from_slice(&buffer);
        width *= 2;
    }
    swaps
}

/// The area under the ROC curve of `score` for `positive` (the chance that a positive scores above
/// a negative); 0.5 where one of the two is missing.
pub fn auc(score: &[f64], positive: &[bool]) -> f64 {
    let hits = positive.iter().filter(|&&p| p).count() as f64;
    let misses = positive.len() as f64 - hits;
    if hits == 0.0 || misses == 0.0 {
        return 0.5;
    }
    let total: f64 = ranks(score)
        .iter()
        .zip(positive)
        .filter(|(_, p)| **p)
        .map(|(r, _)| r)
        .sum();
    (total - hits * (hits + 1.0) / 2.0) / (hits * misses)
}

/// The share of variance that lies between groups: ICC(1), one-way random effects, for groups of
/// about equal size; floored at 0.
pub fn icc(groups: &[Vec<f64>]) -> f64 {
    let groups: Vec<&Vec<f64>> = groups.iter().filter(|g| !g.is_empty()).collect();
    let n: usize = groups.iter().map(|g| g.len()).sum();
    let k = groups.len();
    if k < 2 || n <= k {
        return 0.0;
    }
    let grand = groups.iter().flat_map(|g| g.iter()).sum::<f64>() / n as f64;
    let (mut between, mut within, mut squares) = (0.0, 0.0, 0.0);
    for group in &groups {
        let own = mean(group);
        between += group.len() as f64 * (own - grand) * (own - grand);
        within += group.iter().map(|v| (v - own) * (v - own)).sum::<f64>();
        squares += (group.len() * group.len()) as f64;
    }
    let size = (n as f64 - squares / n as f64) / (k - 1) as f64;
    let (between, within) = (between / (k - 1) as f64, within / (n - k) as f64);
    let total = between + (size - 1.0) * within;
    if total <= 0.0 {
        return 0.0;
    }
    ((between - within) / total).max(0.0)
}

/// The mean over groups of Spearman's correlation within a group; groups in which every outcome is
/// the same can show no skill and are left out.
pub fn within(groups: &[(Vec<f64>, Vec<f64>)]) -> f64 {
    let skills: Vec<f64> = groups
        .iter()
        .filter(|(_, y)| y.iter().any(|v| *v != y[0]))
        .map(|(x, y)| spearman(x, y))
        .collect();
    mean(&skills)
}

/// The expected calibration error of `probability` over `bins` bins of equal mass.
pub fn calibration_error(probability: &[f64], outcome: &[bool], bins: usize) -> f64 {
    let n = probability.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| probability[a].total_cmp(&probability[b]));
    (0..bins)
        .map(|bin| {
            let members = &order[bin * n / bins..(bin + 1) * n / bins];
            let gap: f64 = members
                .iter()
                .map(|&i| probability[i] - f64::from(u8::from(outcome[i])))
                .sum();
            gap.abs() / n.max(1) as f64
        })
        .sum()
}

/// The value that a share `q` of the values lies at or below, between two by linear interpolation.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let low = at.floor() as usize;
    let high = (low + 1).min(last);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

/// The 95 % interval of a figure by a bootstrap over groups: `figure` gets the indices of the groups
/// drawn with replacement. Deterministic in `seed`.
pub fn bootstrap(
    groups: usize,
    resamples: usize,
    seed: u64,
    figure: impl Fn(&[usize]) -> f64 + Sync,
) -> [f64; 2] {
    use rayon::prelude::*;
    let figures: Vec<f64> = (0..resamples as u64)
        .into_par_iter()
        .map(|i| {
            let mut random = Random::nth(seed, i);
            let drawn: Vec<usize> = (0..groups).map(|_| random.below(groups)).collect();
            figure(&drawn)
        })
        .collect();
    [quantile(&figures, 0.025), quantile(&figures, 0.975)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), vec![3.5, 1.0, 3.5, 2.0]);
    }

    // The expected numbers are what scipy.stats 1.x gives for the same columns.
    #[test]
    fn correlations_agree_with_scipy() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0];
        let y = [5.0, 6.0, 7.0, 8.0, 7.0];
        close(pearson(&x, &y), 0.832_050_294_337_843_7);
        close(spearman(&x, &y), 0.820_782_681_668_123_4);
        close(kendall(&x, &y), 0.737_864_787_372_622_8);
        let x = [12.0, 2.0, 1.0, 12.0, 2.0];
        let y = [1.0, 4.0, 7.0, 1.0, 0.0];
        close(kendall(&x, &y), -0.471_404_520_791_031_7);
    }

    #[test]
    fn kendall_counts_what_the_definition_counts() {
        let mut random = Random::new(3);
        for _ in 0..20 {
            let draw = |random: &mut Random| -> Vec<f64> {
                (0..40).map(|_| random.below(9) as f64).collect()
            };
            let (x, y) = (draw(&mut random), draw(&mut random));
            let (mut score, mut in_x, mut in_y) = (0.0, 0.0, 0.0);
            for i in 0..40 {
                for j in 0..i {
                    let (dx, dy) = (x[i] - x[j], y[i] - y[j]);
                    score += (dx * dy).partial_cmp(&0.0).map_or(0.0, |o| o as i8 as f64);
                    in_x += f64::from(u8::from(dx != 0.0));
                    in_y += f64::from(u8::from(dy != 0.0));
                }
            }
            close(kendall(&x, &y), score / f64::sqrt(in_x * in_y));
        }
    }

    #[test]
    fn a_constant_predicts_nothing() {
        let y = [0.1, 0.7, 0.3];
        for constant in [[0.0; 3], [0.1; 3], [1e6 + 0.1; 3]] {
            assert_eq!(pearson(&constant, &y), 0.0);
            assert_eq!(spearman(&constant, &y), 0.0);
            assert_eq!(kendall(&constant, &y), 0.0);
            close(auc(&constant, &[true, false, true]), 0.5);
        }
    }

    #[test]
    fn the_area_is_the_chance_of_ranking_a_pair_right() {
        let positive = [false, false, true, true];
        close(auc(&[0.1, 0.4, 0.35, 0.8], &positive), 0.75);
        close(auc(&[1.0, 2.0, 3.0, 4.0], &positive), 1.0);
    }

    #[test]
    fn variance_between_groups_is_told_from_variance_within() {
        let between = vec![vec![1.0, 1.0], vec![2.0, 2.0], vec![5.0, 5.0]];
        close(icc(&between), 1.0);
        let within = vec![vec![1.0, 2.0, 3.0], vec![3.0, 2.0, 1.0]];
        close(icc(&within), 0.0);
        // Mean squares 8 between and 1 within, two a group: (8 − 1) / (8 + 1).
        let mixed = vec![
            vec![0.0, 2f64.sqrt()],
            vec![2.0 * 2f64.sqrt(), 3.0 * 2f64.sqrt()],
        ];
        close(icc(&mixed), (8.0 - 1.0) / (8.0 + 1.0));
    }

    #[test]
    fn within_leaves_the_prompt_mean_out() {
        let group = |base: f64| (vec![1.0, 2.0, 3.0], vec![base, base + 0.1, base + 0.2]);
        close(within(&[group(0.0), group(9.0)]), 1.0);
        let prompt_only = |base: f64| (vec![base; 3], vec![base, base + 0.1, base + 0.2]);
        close(within(&[prompt_only(0.0), prompt_only(9.0)]), 0.0);
        let all_same = (vec![1.0, 2.0], vec![0.5, 0.5]);
        close(within(&[group(0.0), all_same]), 1.0);
    }

    #[test]
    fn calibration_error_is_zero_when_frequencies_match() {
        let probability = [0.25, 0.25, 0.25, 0.25, 1.0, 1.0, 1.0, 1.0];
        let outcome = [true, false, false, false, true, true, true, true];
        close(calibration_error(&probability, &outcome, 2), 0.0);
        close(calibration_error(&[1.0; 4], &[false; 4], 2), 1.0);
    }

    #[test]
    fn the_bootstrap_holds_the_figure_and_repeats() {
        let values: Vec<f64> = (0..100).map(|i| (i % 10) as f64).collect();
        let run = || {
            bootstrap(100, 500, 1, |drawn| {
                mean(&drawn.iter().map(|&i| values[i]).collect::<Vec<_>>())
            })
        };
        let [low, high] = run();
        assert!(low < 4.5 && 4.5 < high && high - low < 1.5, "{low} {high}");
        // 1.96 standard errors of the mean are 0.566.
        assert!(((high - low) / 2.0 - 0.566).abs() < 0.1, "{low} {high}");
        assert_eq!(run(), [low, high]);
    }

    #[test]
    fn quantiles_interpolate() {
        close(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        close(quantile(&[4.0, 1.0, 3.0, 2.0], 1.0), 4.0);
    }
}
