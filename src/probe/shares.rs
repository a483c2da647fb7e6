//! How the error of a prediction is shared out: what all seeds of a wording have in common, what of
//! that all wordings of a scene have in common, and what is a seed's own. Estimated from residuals
//! by an analysis of variance, on scenes that took no part in fitting.

use serde::{Deserialize, Serialize};

/// Shares of the variance of `measured − predicted`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Of the error, what all seeds of one prompt have in common: the probe misjudges the prompt.
    pub prompt: f64,
    /// Of that, what stays when the wording changes and the scene does not.
    pub wording: f64,
}

/// How far a probe's predictions can be trusted at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    pub shares: Shares,
    /// The usual standard deviation of the error, where it was measured.
    pub error: Option<f64>,
}

impl Trust {
    /// Where nothing was measured.
    pub const USUAL: Self = Self {
        shares: Shares::USUAL,
        error: None,
    };
}

impl Shares {
    /// Where nothing was measured.
    pub const USUAL: Self = Self {
        prompt: 0.5,
        wording: 0.5,
    };

    /// From the residuals of each scene's wordings, by scene, wording and seed. Where no scene has
    /// several wordings, [`Shares::USUAL`] says how much of a prompt's error they share. `None`
    /// where the residuals tell nothing: fewer than two wordings, or one seed each.
    pub fn fit(residuals: &[Vec<Vec<f64>>]) -> Option<Self> {
        let wordings: Vec<&[f64]> = residuals.iter().flatten().map(Vec::as_slice).collect();
        let (between, within) = components(&wordings)?;
        let all = between + within;
        if all <= f64::EPSILON {
            return None;
        }
        let wording = match of_wording(residuals, within) {
            Some(wording) if between > 0.0 => (1.0 - wording / between).clamp(0.0, 1.0),
            _ => Self::USUAL.wording,
        };
        Some(Self {
            prompt: between / all,
            wording,
        })
    }
}

/// The variances between and within groups of unequal size: the method of moments of a one-way
/// analysis of variance with random effects (Searle, Casella & McCulloch 1992, chapter 3).
fn components(groups: &[&[f64]]) -> Option<(f64, f64)> {
    let groups: Vec<&[f64]> = groups.iter().copied().filter(|g| !g.is_empty()).collect();
    let sizes = groups.iter().map(|g| g.len() as f64);
    let (k, n) = (groups.len() as f64, sizes.clone().sum::<f64>());
    if k < 2.0 || n <= k {
        return None;
    }
    let grand = groups.iter().copied().flatten().sum::<f64>() / n;
    let (mut between, mut within) = (0.0, 0.0);
    for group in &groups {
        let mean = mean(group);
        between += group.len() as f64 * (mean - grand).powi(2);
        within += group.iter().map(|r| (r - mean).powi(2)).sum::<f64>();
    }
    let within = within / (n - k);
    let usual_size = (n - sizes.map(|s| s * s).sum::<f64>() / n) / (k - 1.0);
    let between = (between / (k - 1.0) - within) / usual_size;
    Some((between.max(0.0), within))
}

/// The variance between the wordings of one scene; `None` where no scene has several.
fn of_wording(residuals: &[Vec<Vec<f64>>], within: f64) -> Option<f64> {
    let (mut squares, mut noise, mut count) = (0.0, 0.0, 0.0);
    for scene in residuals.iter().filter(|wordings| wordings.len() > 1) {
        let means: Vec<f64> = scene.iter().map(|seeds| mean(seeds)).collect();
        let centre = mean(&means);
        let freedom = (scene.len() - 1) as f64;
        squares += means.iter().map(|m| (m - centre).powi(2)).sum::<f64>();
        let seeds: f64 = scene.iter().map(|s| 1.0 / s.len().max(1) as f64).sum();
        noise += freedom * within * seeds / scene.len() as f64;
        count += freedom;
    }
    (count > 0.0).then(|| ((squares - noise) / count).max(0.0))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::random::Random;

    fn normal(random: &mut Random) -> f64 {
        let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * random.unit()).cos()
    }

    /// Residuals whose variances by scene, wording and seed are known.
    fn residuals(
        scenes: usize,
        wordings: usize,
        [scene, wording, seed]: [f64; 3],
    ) -> Vec<Vec<Vec<f64>>> {
        let mut random = Random::new(5);
        let mut draw = |variance: f64| normal(&mut random) * variance.sqrt();
        let mut all = Vec::new();
        for _ in 0..scenes {
            let of_scene = draw(scene);
            let mut own = Vec::new();
            for number in 0..wordings {
                let of_wording = of_scene + draw(wording);
                // Not all of one size.
                own.push((0..4 + number).map(|_| of_wording + draw(seed)).collect());
            }
            all.push(own);
        }
        all
    }

    #[test]
    fn known_shares_are_found_again() {
        for [scene, wording, seed] in [[0.3, 0.1, 0.6], [0.1, 0.3, 0.6], [0.05, 0.05, 0.9]] {
            let shares = Shares::fit(&residuals(800, 3, [scene, wording, seed])).unwrap();
            let prompt = (scene + wording) / (scene + wording + seed);
            assert!(
                (shares.prompt - prompt).abs() < 0.03,
                "{shares:?}, {prompt}"
            );
            let stays = scene / (scene + wording);
            assert!((shares.wording - stays).abs() < 0.1, "{shares:?}, {stays}");
        }
    }

    #[test]
    fn an_error_that_is_all_the_seeds_own_is_shared_by_nobody() {
        let shares = Shares::fit(&residuals(500, 1, [0.0, 0.0, 1.0])).unwrap();
        assert!(shares.prompt < 0.03, "{shares:?}");
        assert_eq!(shares.wording, Shares::USUAL.wording, "one wording a scene");
    }

    #[test]
    fn too_little_tells_nothing() {
        assert_eq!(Shares::fit(&[]), None);
        assert_eq!(Shares::fit(&[vec![vec![0.1, 0.2]]]), None);
        assert_eq!(Shares::fit(&[vec![vec![0.1]], vec![vec![0.2]]]), None);
        assert_eq!(Shares::fit(&vec![vec![vec![0.1; 4]]; 5]), None);
    }
}
