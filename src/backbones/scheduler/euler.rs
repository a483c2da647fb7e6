//! EulerDiscreteScheduler: Algorithm 2 of Karras et al. 2022 without churn, over the noise levels
//! of a discretely trained model.

use serde::Deserialize;

use super::spacing::{exponential, karras};
use crate::backbones::files::ModelFiles;
use crate::sampling::{Prediction, Schedule};
use crate::{Error, Result};

const PATH: &str = "scheduler/scheduler_config.json";
const CLASS: &str = "EulerDiscreteScheduler";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BetaSchedule {
    Linear,
    ScaledLinear,
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCosine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Spacing {
    Linspace,
    Leading,
    Trailing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Interpolation {
    Linear,
    LogLinear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TimestepKind {
    Discrete,
    Continuous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FinalSigma {
    Zero,
    SigmaMin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum PredictionKind {
    #[serde(rename = "epsilon")]
    Epsilon,
    #[serde(rename = "v_prediction")]
    V,
    #[serde(rename = "sample", alias = "original_sample")]
    Sample,
}

/// The file as it is; the defaults are diffusers'.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    #[serde(rename = "_class_name")]
    class: Option<String>,
    num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
    beta_schedule: BetaSchedule,
    trained_betas: Option<Vec<f32>>,
    prediction_type: PredictionKind,
    interpolation_type: Interpolation,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
    timestep_spacing: Spacing,
    timestep_type: TimestepKind,
    steps_offset: usize,
    rescale_betas_zero_snr: bool,
    final_sigmas_type: FinalSigma,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            class: None,
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            prediction_type: PredictionKind::Epsilon,
            interpolation_type: Interpolation::Linear,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            use_beta_sigmas: None,
            sigma_min: None,
            sigma_max: None,
            timestep_spacing: Spacing::Linspace,
            timestep_type: TimestepKind::Discrete,
            steps_offset: 0,
            rescale_betas_zero_snr: false,
            final_sigmas_type: FinalSigma::Zero,
        }
    }
}

/// The noise levels that a model was trained at, and how a run picks among them.
#[derive(Clone, Debug)]
pub struct EulerDiscrete {
    config: Config,
    /// One a training step, rising.
    sigmas: Vec<f32>,
}

impl EulerDiscrete {
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let raw: serde_json::Value = files.json(PATH)?;
        let bad = |problem: String| files.error(format!("{PATH}: {problem}"));
        let class = raw.get("_class_name").and_then(|c| c.as_str());
        if class != Some(CLASS) {
            return Err(bad(format!(
                "the scheduler {} is not supported: {CLASS} is",
                class.unwrap_or("without a name")
            )));
        }
        let config: Config = serde_json::from_value(raw).map_err(|e| bad(e.to_string()))?;
        if config.use_beta_sigmas == Some(true) {
            return Err(bad("use_beta_sigmas = true is not supported".into()));
        }
        if config.use_karras_sigmas == Some(true) && config.use_exponential_sigmas == Some(true) {
            return Err(bad(
                "use_karras_sigmas and use_exponential_sigmas exclude each other".into(),
            ));
        }
        if config.timestep_type == TimestepKind::Continuous
            && config.interpolation_type == Interpolation::LogLinear
        {
            return Err(bad(
                "timestep_type = continuous with interpolation_type = log_linear is not supported"
                    .into(),
            ));
        }
        let sigmas = training_sigmas(&config);
        if sigmas.len() < 2 || sigmas.iter().any(|s| !s.is_finite()) {
            return Err(bad(
                "its betas make no finite noise levels; at least two are needed".into(),
            ));
        }
        Ok(Self { config, sigmas })
    }

    /// The class and what the denoiser predicts.
    pub fn name(&self) -> String {
        let prediction = match self.config.prediction_type {
            PredictionKind::Epsilon => "epsilon",
            PredictionKind::V => "v_prediction",
            PredictionKind::Sample => "sample",
        };
        let class = self.config.class.as_deref().unwrap_or(CLASS);
        format!("{class}/{prediction}")
    }

    /// The noise levels of a run of `steps`.
    pub fn schedule(&self, steps: usize) -> Result<Schedule> {
        let trained = self.config.num_train_timesteps;
        if steps == 0 || steps > trained {
            return Err(Error::invalid(
                "steps",
                format!("{steps} steps cannot be run"),
                format!("Send 1 to {trained}"),
            ));
        }
        let mut timesteps = self.spaced(steps);
        let mut sigmas = match self.config.interpolation_type {
            Interpolation::Linear => timesteps.iter().map(|t| self.interpolated(*t)).collect(),
            Interpolation::LogLinear => self.log_linear(steps),
        };
        let low = |s: &[f64]| self.config.sigma_min.unwrap_or(s[s.len() - 1]);
        let high = |s: &[f64]| self.config.sigma_max.unwrap_or(s[0]);
        let rescaled = if self.config.use_karras_sigmas == Some(true) {
            Some(karras(low(&sigmas), high(&sigmas), steps))
        } else if self.config.use_exponential_sigmas == Some(true) {
            Some(exponential(low(&sigmas), high(&sigmas), steps))
        } else {
            None
        };
        if let Some(rescaled) = rescaled {
            timesteps = rescaled.iter().map(|s| self.time_of(*s)).collect();
            sigmas = rescaled;
        }
        // Log-linear interpolation has one level more than there are steps: it ends there.
        if sigmas.len() == steps {
            sigmas.push(match self.config.final_sigmas_type {
                FinalSigma::Zero => 0.0,
                FinalSigma::SigmaMin => f64::from(self.sigmas[0]),
            });
        }
        let sigmas: Vec<f32> = sigmas.into_iter().map(|s| s as f32).collect();
        let continuous = self.config.timestep_type == TimestepKind::Continuous
            && self.config.prediction_type == PredictionKind::V;
        if continuous {
            timesteps = sigmas[..steps]
                .iter()
                .map(|s| 0.25 * libm::logf(*s))
                .collect();
        }
        let max = sigmas.iter().copied().fold(0f32, f32::max);
        Ok(Schedule {
            timesteps,
            sigmas,
            init_noise_sigma: match self.config.timestep_spacing {
                Spacing::Linspace | Spacing::Trailing => max,
                Spacing::Leading => (max * max + 1.0).sqrt(),
            },
            prediction: match self.config.prediction_type {
                PredictionKind::Epsilon => Prediction::Epsilon,
                PredictionKind::V => Prediction::V,
                PredictionKind::Sample => Prediction::Sample,
            },
        })
    }

    /// The training steps of a run, falling (Lin et al. 2024, table 2).
    fn spaced(&self, steps: usize) -> Vec<f32> {
        let trained = self.config.num_train_timesteps;
        match self.config.timestep_spacing {
            Spacing::Linspace => {
                let last = (trained - 1) as f64;
                let gap = last / (steps.max(2) - 1) as f64;
                let mut rising: Vec<f32> = (0..steps).map(|i| (i as f64 * gap) as f32).collect();
                if steps > 1 {
                    rising[steps - 1] = last as f32;
                }
                rising.reverse();
                rising
            }
            Spacing::Leading => (0..steps)
                .rev()
                .map(|i| (i * (trained / steps)) as f32 + self.config.steps_offset as f32)
                .collect(),
            // At some numbers of steps (61, 103, …) the reference's rounding appends one step more,
            // at time −1; here a run has the steps that it was asked for.
            Spacing::Trailing => {
                let gap = trained as f64 / steps as f64;
                (0..steps)
                    .map(|i| (trained as f64 - i as f64 * gap).round_ties_even() as f32 - 1.0)
                    .collect()
            }
        }
    }

    /// The noise level at a training step, linear between them and constant beyond them.
    fn interpolated(&self, time: f32) -> f64 {
        let last = self.sigmas.len() - 1;
        let time = f64::from(time).clamp(0.0, last as f64);
        let below = (time as usize).min(last - 1);
        let (a, b) = (
            f64::from(self.sigmas[below]),
            f64::from(self.sigmas[below + 1]),
        );
        (b - a) * (time - below as f64) + a
    }

    fn log_linear(&self, steps: usize) -> Vec<f64> {
        let high = f64::from(libm::logf(self.sigmas[self.sigmas.len() - 1]));
        let low = f64::from(libm::logf(self.sigmas[0]));
        (0..=steps)
            .map(|i| (high + (low - high) * i as f64 / steps as f64).exp())
            .collect()
    }

    /// The training step at which the noise has this level, linear in its logarithm.
    fn time_of(&self, sigma: f64) -> f32 {
        let log = sigma.max(1e-10).ln();
        let logs = |i: usize| f64::from(libm::logf(self.sigmas[i]));
        let below = self
            .sigmas
            .iter()
            .rposition(|s| log >= f64::from(libm::logf(*s)))
            .unwrap_or(0)
            .min(self.sigmas.len() - 2);
        let (low, high) = (logs(below), logs(below + 1));
        let w = ((low - log) / (low - high)).clamp(0.0, 1.0);
        ((1.0 - w) * below as f64 + w * (below + 1) as f64) as f32
    }
}

/// σ = √((1 − ᾱ) / ᾱ) at each training step, in f32 where the reference computes in f32.
fn training_sigmas(config: &Config) -> Vec<f32> {
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

fn betas(config: &Config) -> Vec<f32> {
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
