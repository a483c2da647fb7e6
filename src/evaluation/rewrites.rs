//! The gain that `refine_prompt` promised against the gain that was measured.

use serde::Serialize;

use crate::probe::stats::mean;

use super::resampled::{mean_with_interval, pooled_standard_error, with_interval};
use super::rewriting::Rewrite;

/// Half the width of a 90 % interval, in standard errors.
const Z90: f64 = 1.6449;

/// Over all prompts; each `*_ci` holds 95 %, over prompts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rewrites {
    pub prompts: usize,
    /// Fresh seeds that each wording was rendered on.
    pub seeds: usize,
    /// Prompts whose original wording was kept: no gain promised, none measured.
    pub kept: usize,
    /// The mean of the denoiser evaluations that a call of `refine_prompt` took.
    pub evaluations: f64,
    /// The mean measured quality of the original wordings.
    pub original: f64,
    /// The mean gain that was promised.
    pub promised: f64,
    /// The mean gain that was measured, of the picked wording over the original.
    pub gain: f64,
    pub gain_ci: [f64; 2],
    /// The same of rewordings taken by chance, averaged for each prompt.
    pub random_gain: f64,
    pub random_gain_ci: [f64; 2],
    /// The first less the second, prompt by prompt.
    pub over_random: f64,
    pub over_random_ci: [f64; 2],
    /// Of the prompts that were reworded: how often `gain_interval` (90 %) holds the measured gain.
    pub coverage: f64,
    /// The measured gain is itself a mean over few seeds: how often it is held where the interval is
    /// widened by that.
    pub coverage_with_noise: f64,
    /// The standard error of one prompt's measured gain.
    pub noise: f64,
    /// The standard deviation of a prompt's expected quality from one of its wordings to another, as
    /// the rewordings by chance show it beyond their noise: all that there is to choose from.
    pub apart: f64,
    pub apart_ci: [f64; 2],
}

/// `None` where nothing was rewritten.
pub fn figures(rewrites: &[Rewrite]) -> Option<Rewrites> {
    let first = rewrites.first()?;
    let less_the_original = |scores: &[f64], r: &Rewrite| -> Vec<f64> {
        let pairs = scores.iter().zip(&r.original_scores);
        pairs.map(|(a, b)| a - b).collect()
    };
    let picked: Vec<Vec<f64>> = rewrites
        .iter()
        .map(|r| less_the_original(&r.picked_scores, r))
        .collect();
    let random: Vec<Vec<Vec<f64>>> = rewrites
        .iter()
        .map(|r| {
            let each = r.random_scores.iter();
            each.map(|scores| less_the_original(scores, r)).collect()
        })
        .collect();
    let gains: Vec<f64> = picked.iter().map(|seeds| mean(seeds)).collect();
    let random_gains: Vec<f64> = random.iter().map(|some| mean(&some.concat())).collect();
    let over_random: Vec<f64> = gains
        .iter()
        .zip(&random_gains)
        .map(|(a, b)| a - b)
        .collect();
    let (gain, gain_ci) = mean_with_interval(&gains);
    let (random_gain, random_gain_ci) = mean_with_interval(&random_gains);
    let (over_random, over_random_ci) = mean_with_interval(&over_random);
    // One of each prompt: those of the same prompt are not independent.
    let firsts: Vec<Vec<f64>> = random.iter().filter_map(|r| r.first().cloned()).collect();
    let (apart, apart_ci) = apart(&firsts);

    let reworded: Vec<usize> = (0..rewrites.len())
        .filter(|&i| rewrites[i].picked != rewrites[i].prompt)
        .collect();
    let differences: Vec<Vec<f64>> = reworded.iter().map(|&i| picked[i].clone()).collect();
    let noise = pooled_standard_error(&differences);
    let promises: Vec<(f64, [f64; 2], f64)> = reworded
        .iter()
        .filter_map(|&i| Some((rewrites[i].promised, rewrites[i].interval?, gains[i])))
        .collect();
    Some(Rewrites {
        prompts: rewrites.len(),
        seeds: first.original_scores.len(),
        kept: rewrites.len() - reworded.len(),
        evaluations: mean(
            &rewrites
                .iter()
                .map(|r| r.evaluations as f64)
                .collect::<Vec<_>>(),
        ),
        original: mean(
            &rewrites
                .iter()
                .map(|r| mean(&r.original_scores))
                .collect::<Vec<_>>(),
        ),
        promised: mean(&rewrites.iter().map(|r| r.promised).collect::<Vec<_>>()),
        gain,
        gain_ci,
        random_gain,
        random_gain_ci,
        over_random,
        over_random_ci,
        coverage: coverage(&promises, 0.0),
        coverage_with_noise: coverage(&promises, Z90 * noise),
        noise,
        apart,
        apart_ci,
    })
}

/// How far two wordings' expected qualities lie apart, from seed-wise differences of such pairs.
fn apart(differences: &[Vec<f64>]) -> (f64, [f64; 2]) {
    let means: Vec<f64> = differences.iter().map(|d| mean(d)).collect();
    let squares: Vec<f64> = means.iter().map(|m| m * m).collect();
    let noise = pooled_standard_error(differences).powi(2);
    with_interval(means.len(), |times| {
        let spread = times.mean(&squares) - times.mean(&means).powi(2);
        // A difference has the variance of both its ends.
        ((spread - noise).max(0.0) / 2.0).sqrt()
    })
}

/// How often a promise's interval, each side of its point widened by `half`, holds what was measured.
fn coverage(promises: &[(f64, [f64; 2], f64)], half: f64) -> f64 {
    let held = promises
        .iter()
        .filter(|(point, [low, high], measured)| {
            let (down, up) = ((point - low).hypot(half), (high - point).hypot(half));
            (point - down..=point + up).contains(measured)
        })
        .count();
    held as f64 / promises.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(picked: &str, promised: f64, scores: [[f64; 2]; 3]) -> Rewrite {
        let [original, best, random] = scores;
        Rewrite {
            prompt: "a".into(),
            picked: picked.into(),
            promised,
            interval: Some([promised - 0.1, promised + 0.1]),
            evaluations: (1000.0 * promised) as u64,
            original_scores: original.into(),
            picked_scores: best.into(),
            // Two by chance, on average as good as this.
            random_scores: [0.1, -0.1].map(|by| random.map(|q| q + by).into()).into(),
        }
    }

    #[test]
    fn gains_are_paired_by_seed_and_averaged_over_prompts() {
        let all = [
            rewrite("b", 0.2, [[0.2, 0.4], [0.5, 0.5], [0.3, 0.4]]),
            rewrite("a", 0.0, [[0.6, 0.6], [0.6, 0.6], [0.5, 0.4]]),
        ];
        let figures = figures(&all).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(figures.original, 0.45);
        close(figures.evaluations, 100.0);
        close(figures.gain, 0.1);
        close(figures.promised, 0.1);
        close(figures.random_gain, -0.05);
        close(figures.over_random, 0.15);
        assert_eq!((figures.prompts, figures.seeds, figures.kept), (2, 2, 1));
        // Of the one that was reworded: gains 0.3 and 0.1, a variance of 0.02 over two seeds.
        close(figures.noise, 0.1);
        close(figures.coverage, 1.0);
    }

    #[test]
    fn wordings_lie_apart_by_what_their_noise_does_not_explain() {
        // Means of ±0.3 with no noise: a standard deviation of 0.3 of the difference.
        let (clear, _) = apart(&[vec![0.3, 0.3], vec![-0.3, -0.3]]);
        assert!((clear - 0.3 / 2f64.sqrt()).abs() < 1e-12);
        let (noise, [low, _]) = apart(&[vec![0.6, 0.0], vec![-0.6, 0.0]]);
        assert_eq!((noise, low), (0.0, 0.0));
    }

    #[test]
    fn noise_widens_each_side_of_the_promise() {
        let promises = [(0.2, [0.1, 0.25], 0.31), (0.2, [0.1, 0.25], 0.05)];
        assert_eq!(coverage(&promises, 0.0), 0.0);
        // Below: hypot(0.1, 0.12) = 0.156, above: hypot(0.05, 0.12) = 0.13.
        assert_eq!(coverage(&promises, 0.12), 1.0);
        // 0.05 lies below 0.2 − hypot(0.1, 0.1) = 0.059, 0.31 just within.
        assert_eq!(coverage(&promises, 0.1), 0.5);
    }

    #[test]
    fn nothing_rewritten_has_no_figures() {
        assert_eq!(figures(&[]), None);
    }
}
