//! How a diffusion model was trained, and the noise levels that this gives its samplers.

use serde::Deserialize;

use crate::sampling::Prediction;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    Linear,
    ScaledLinear,
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCosine,
}

/// Which of the training steps a run takes (Lin et al. 2024, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    Linspace,
    Leading,
    Trailing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    Zero,
    SigmaMin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PredictionKind {
    #[serde(rename = "epsilon")]
    Epsilon,
    #[serde(rename = "v_prediction")]
    V,
    #[serde(rename = "sample", alias = "original_sample")]
    Sample,
}

impl PredictionKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::V => "v_prediction",
            Self::Sample => "sample",
        }
    }

    pub fn prediction(self) -> Prediction {
        match self {
            Self::Epsilon => Prediction::Epsilon,
            Self::V => Prediction::V,
            Self::Sample => Prediction::Sample,
        }
    }
}

/// What the schedulers' configurations say of the training; the defaults are diffusers'.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Training {
    pub num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
    pub beta_schedule: BetaSchedule,
    trained_betas: Option<Vec<f32>>,
    pub prediction_type: PredictionKind,
    rescale_betas_zero_snr: bool,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            prediction_type: PredictionKind::Epsilon,
            rescale_betas_zero_snr: false,
        }
    }
}

/// Published models are trained at a thousand.
const MOST_STEPS: usize = 100_000;

/// The noise levels that a model was trained at: one a training step, rising.
#[derive(Clone, Debug)]
pub struct Levels(Vec<f32>);

impl Levels {
    /// `None` where the betas make no finite levels, or fewer than two, or more than any model is
    /// trained at.
    pub fn of(training: &Training) -> Option<Self> {
        if training.num_train_timesteps > MOST_STEPS {
            return None;
        }
        let sigmas = training_sigmas(training);
        let usable = sigmas.len() >= 2 && sigmas.iter().all(|s| s.is_finite());
        usable.then_some(Self(sigmas))
    }

    pub fn lowest(&self) -> f32 {
        self.0[0]
    }

    pub fn highest(&self) -> f32 {
        self.0[self.0.len() - 1]
    }

    /// The noise level at a training step, linear between them and constant beyond them.
    pub fn at(&self, time: f32) -> f64 {
        let last = self.0.len() - 1;
        let time = f64::from(time).clamp(0.0, last as f64);
        let below = (time as usize).min(last - 1);
        let (a, b) = (f64::from(self.0[below]), f64::from(self.0[below + 1]));
        (b - a) * (time - below as f64) + a
    }

    /// The training step at which the noise has this level, linear in its logarithm.
    pub fn time_of(&self, sigma: f64) -> f64 {
        let log = sigma.max(1e-10).ln();
        let logs = |i: usize| f64::from(libm::logf(self.0[i]));
        let below = self
            .0
            .iter()
            .rposition(|s| log >= f64::from(libm::logf(*s)))
            .unwrap_or(0)
            .min(self.0.len() - 2);
        let (low, high) = (logs(below), logs(below + 1));
        let w = ((low - log) / (low - high)).clamp(0.0, 1.0);
        (1.0 - w) * below as f64 + w * (below + 1) as f64
    }
}

/// σ = √((1 − ᾱ) / ᾱ) at each training step, in f32 where the reference computes in f32.
fn training_sigmas(config: &Training) -> Vec<f32> {
    let mut betas = betas(config);
    if config.rescale_betas_zero_snr {
        betas = zero_terminal_snr(&betas);
    }
    let mut alphas = products(&betas);
    if config.rescale_betas_zero_snr
        && let Some(last) = alphas.last_mut()
    {
        // diffusers' stand-in for zero, so that the first noise level is finite.
        *last = 2f32.powi(-24);
    }
    alphas.iter().map(|a| ((1.0 - a) / a).sqrt()).collect()
}

fn betas(config: &Training) -> Vec<f32> {
    let n = config.num_train_timesteps;
    if let Some(betas) = &config.trained_betas {
        return betas.clone();
    }
    match config.beta_schedule {
        BetaSchedule::Linear => linspace(config.beta_start as f32, config.beta_end as f32, n),
        BetaSchedule::ScaledLinear => {
            let (start, end) = (
                config.beta_start.sqrt() as f32,
                config.beta_end.sqrt() as f32,
            );
            linspace(start, end, n).iter().map(|b| b * b).collect()
        }
        BetaSchedule::SquaredCosine => {
            const MAX_BETA: f64 = 0.999;
            let bar = |t: f64| {
                ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2)
                    .cos()
                    .powi(2)
            };
            (0..n)
                .map(|i| {
                    let (from, to) = (i as f64 / n as f64, (i + 1) as f64 / n as f64);
                    (1.0 - bar(to) / bar(from)).min(MAX_BETA) as f32
                })
                .collect()
        }
    }
}

/// As torch computes it: from both ends towards the middle, in f32.
fn linspace(start: f32, end: f32, n: usize) -> Vec<f32> {
    let step = (end - start) / (n.max(2) - 1) as f32;
    (0..n)
        .map(|i| match i < n / 2 || n == 1 {
            true => start + step * i as f32,
            false => end - step * (n - 1 - i) as f32,
        })
        .collect()
}

/// ᾱ: running products of 1 − β, summed up in f64 as torch does.
fn products(betas: &[f32]) -> Vec<f32> {
    betas
        .iter()
        .scan(1f64, |product, beta| {
            *product *= f64::from(1.0 - beta);
            Some(*product as f32)
        })
        .collect()
}

/// Lin et al. 2024, algorithm 1: shifts √ᾱ so that it ends in zero, keeping its beginning.
fn zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = products(betas).iter().map(|a| a.sqrt()).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let bars: Vec<f32> = roots
        .iter()
        .map(|r| {
            let shifted = (r - last) * (first / (first - last));
            shifted * shifted
        })
        .collect();
    (0..bars.len())
        .map(|i| match i {
            0 => 1.0 - bars[0],
            _ => 1.0 - bars[i] / bars[i - 1],
        })
        .collect()
}
