//! EulerDiscreteScheduler: Algorithm 2 of Karras et al. 2022 without churn, over the noise levels
//! of a discretely trained model; and EulerAncestralDiscreteScheduler, which steps below the next
//! level and goes up to it with new noise.

use serde::Deserialize;
use serde_json::Value;

use super::spacing::{exponential, karras};
use super::training::{FinalSigma, Levels, PredictionKind, Spacing, Training};
use crate::Result;
use crate::sampling::{Schedule, Solver};

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

/// How a run picks among the noise levels; the defaults are diffusers'.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    interpolation_type: Interpolation,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
    timestep_spacing: Spacing,
    timestep_type: TimestepKind,
    steps_offset: usize,
    final_sigmas_type: FinalSigma,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interpolation_type: Interpolation::Linear,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            use_beta_sigmas: None,
            sigma_min: None,
            sigma_max: None,
            timestep_spacing: Spacing::Linspace,
            timestep_type: TimestepKind::Discrete,
            steps_offset: 0,
            final_sigmas_type: FinalSigma::Zero,
        }
    }
}

/// The noise levels that a model was trained at, and how a run picks among them.
#[derive(Clone, Debug)]
pub struct EulerDiscrete {
    training: Training,
    levels: Levels,
    config: Config,
    solver: Solver,
}

impl EulerDiscrete {
    /// Checks the configuration of an EulerDiscreteScheduler.
    pub fn new(
        (training, levels): (Training, Levels),
        raw: Value,
        bad: &dyn Fn(String) -> crate::Error,
    ) -> Result<Self> {
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
        Ok(Self {
            training,
            levels,
            config,
            solver: Solver::Euler,
        })
    }

    /// Checks the configuration of an EulerAncestralDiscreteScheduler, which looks at the spacing
    /// alone.
    pub fn ancestral(
        (training, levels): (Training, Levels),
        raw: Value,
        bad: &dyn Fn(String) -> crate::Error,
    ) -> Result<Self> {
        let named: Config = serde_json::from_value(raw).map_err(|e| bad(e.to_string()))?;
        if training.prediction_type == PredictionKind::Sample {
            return Err(bad(
                "prediction_type = sample is not supported: epsilon and v_prediction are".into(),
            ));
        }
        Ok(Self {
            training,
            levels,
            config: Config {
                timestep_spacing: named.timestep_spacing,
                steps_offset: named.steps_offset,
                ..Config::default()
            },
            solver: Solver::EulerAncestral,
        })
    }

    /// The noise levels of a run of `steps`, at least one and at most as many as were trained.
    pub fn schedule(&self, steps: usize) -> Schedule {
        let mut timesteps = self.spaced(steps);
        let mut sigmas = match self.config.interpolation_type {
            Interpolation::Linear => timesteps.iter().map(|t| self.levels.at(*t)).collect(),
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
            let time = |sigma: &f64| self.levels.time_of(*sigma) as f32;
            timesteps = rescaled.iter().map(time).collect();
            sigmas = rescaled;
        }
        // Log-linear interpolation has one level more than there are steps: it ends there.
        if sigmas.len() == steps {
            sigmas.push(match self.config.final_sigmas_type {
                FinalSigma::Zero => 0.0,
                FinalSigma::SigmaMin => f64::from(self.levels.lowest()),
            });
        }
        let sigmas: Vec<f32> = sigmas.into_iter().map(|s| s as f32).collect();
        let continuous = self.config.timestep_type == TimestepKind::Continuous
            && self.training.prediction_type == PredictionKind::V;
        if continuous {
            timesteps = sigmas[..steps]
                .iter()
                .map(|s| 0.25 * libm::logf(*s))
                .collect();
        }
        let max = sigmas.iter().copied().fold(0f32, f32::max);
        Schedule {
            timesteps,
            sigmas,
            init_noise_sigma: match self.config.timestep_spacing {
                Spacing::Linspace | Spacing::Trailing => max,
                Spacing::Leading => (max * max + 1.0).sqrt(),
            },
            prediction: self.training.prediction_type.prediction(),
            solver: self.solver,
        }
    }

    /// The training steps of a run, falling.
    fn spaced(&self, steps: usize) -> Vec<f32> {
        let trained = self.training.num_train_timesteps;
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
            Spacing::Trailing => trailing(trained, steps),
        }
    }

    fn log_linear(&self, steps: usize) -> Vec<f64> {
        let high = f64::from(libm::logf(self.levels.highest()));
        let low = f64::from(libm::logf(self.levels.lowest()));
        (0..=steps)
            .map(|i| (high + (low - high) * i as f64 / steps as f64).exp())
            .collect()
    }
}

/// Training steps from the last one down, evenly.
///
/// At some numbers of steps (61, 103, …) the reference's rounding appends one step more, at time −1;
/// here a run has the steps that it was asked for.
pub fn trailing(trained: usize, steps: usize) -> Vec<f32> {
    let gap = trained as f64 / steps as f64;
    (0..steps)
        .map(|i| (trained as f64 - i as f64 * gap).round_ties_even() as f32 - 1.0)
        .collect()
}
