//! DPMSolverMultistepScheduler: DPM-Solver++ (Lu et al. 2022) of first and second order, which users
//! know as "DPM++ 2M", with Karras' noise levels as "DPM++ 2M Karras", and with new noise in every
//! step as "DPM++ 2M SDE".

use serde::Deserialize;
use serde_json::Value;

use super::euler::trailing;
use super::spacing::{exponential, karras};
use super::training::{BetaSchedule, FinalSigma, Levels, Spacing, Training};
use crate::Result;
use crate::sampling::{DpmPlusPlus, Schedule, Solver};

/// How a run picks among the noise levels and goes between them; the defaults are diffusers'.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    solver_order: usize,
    algorithm_type: String,
    solver_type: String,
    lower_order_final: bool,
    euler_at_final: bool,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    final_sigmas_type: FinalSigma,
    timestep_spacing: Spacing,
    steps_offset: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            solver_order: 2,
            algorithm_type: "dpmsolver++".into(),
            solver_type: "midpoint".into(),
            lower_order_final: true,
            euler_at_final: false,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            final_sigmas_type: FinalSigma::Zero,
            timestep_spacing: Spacing::Linspace,
            steps_offset: 0,
        }
    }
}

/// Switches of diffusers' scheduler that change what it computes and are not supported, with the
/// only value that is.
const UNSUPPORTED: [(&str, Value); 6] = [
    ("thresholding", Value::Bool(false)),
    ("use_beta_sigmas", Value::Bool(false)),
    ("use_lu_lambdas", Value::Bool(false)),
    ("use_flow_sigmas", Value::Bool(false)),
    ("use_dynamic_shifting", Value::Bool(false)),
    ("variance_type", Value::Null),
];

/// Up to this many steps the last one is of first order, a constant of diffusers in no file.
const FEW_STEPS: usize = 15;

/// The noise levels that a model was trained at, and how a run picks among them.
#[derive(Clone, Debug)]
pub struct DpmSolver {
    training: Training,
    levels: Levels,
    config: Config,
    heun: bool,
    stochastic: bool,
}

impl DpmSolver {
    /// Checks the configuration: everything that it says is either followed or refused by name.
    pub fn new(
        (training, levels): (Training, Levels),
        raw: Value,
        bad: &dyn Fn(String) -> crate::Error,
    ) -> Result<Self> {
        for (name, only) in &UNSUPPORTED {
            let value = raw.get(name).unwrap_or(only);
            if value != only && !value.is_null() {
                return Err(bad(format!("{name} = {value} is not supported: {only} is")));
            }
        }
        // A clip below all levels, as "-inf" or the number of that name, clips nothing.
        let clip = raw.get("lambda_min_clipped").and_then(Value::as_f64);
        if let Some(clip) = clip.filter(|clip| *clip > f64::MIN) {
            return Err(bad(format!(
                "lambda_min_clipped = {clip} is not supported: -inf is"
            )));
        }
        let config: Config = serde_json::from_value(raw).map_err(|e| bad(e.to_string()))?;
        if !(1..=2).contains(&config.solver_order) {
            return Err(bad(format!(
                "solver_order = {} is not supported: 1 and 2 are",
                config.solver_order
            )));
        }
        let stochastic = match config.algorithm_type.as_str() {
            // diffusers' own reading of the name of another scheduler.
            "dpmsolver++" | "deis" => false,
            "sde-dpmsolver++" => true,
            other => {
                return Err(bad(format!(
                    "algorithm_type = {other} is not supported: dpmsolver++ and sde-dpmsolver++ are"
                )));
            }
        };
        let heun = match config.solver_type.as_str() {
            "midpoint" | "logrho" | "bh1" | "bh2" => false,
            "heun" => true,
            other => {
                return Err(bad(format!(
                    "solver_type = {other} is not supported: midpoint and heun are"
                )));
            }
        };
        if config.use_karras_sigmas == Some(true) && config.use_exponential_sigmas == Some(true) {
            return Err(bad(
                "use_karras_sigmas and use_exponential_sigmas exclude each other".into(),
            ));
        }
        Ok(Self {
            training,
            levels,
            config,
            heun,
            stochastic,
        })
    }

    /// The noise levels of a run of `steps`, at least one and at most as many as were trained.
    pub fn schedule(&self, steps: usize) -> Schedule {
        let (low, high) = (self.levels.lowest(), self.levels.highest());
        let (low, high) = (f64::from(low), f64::from(high));
        let by_level = |sigmas: Vec<f64>, rounded: bool| {
            let time = |sigma: &f64| {
                let time = self.levels.time_of(*sigma);
                // The reference keeps whole training steps: rounded here, cut off there.
                match rounded {
                    true => time.round_ties_even() as f32,
                    false => time.trunc() as f32,
                }
            };
            (sigmas.iter().map(time).collect(), sigmas)
        };
        let (timesteps, mut sigmas): (Vec<f32>, Vec<f64>) =
            if self.config.use_karras_sigmas == Some(true) {
                let rounded = self.training.beta_schedule != BetaSchedule::SquaredCosine;
                by_level(karras(low, high, steps), rounded)
            } else if self.config.use_exponential_sigmas == Some(true) {
                by_level(exponential(low, high, steps), false)
            } else {
                let times = self.spaced(steps);
                let sigmas = times.iter().map(|t| self.levels.at(*t)).collect();
                (times, sigmas)
            };
        sigmas.push(match self.config.final_sigmas_type {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => low,
        });
        let last_is_first_order = self.config.euler_at_final
            || (self.config.lower_order_final && steps < FEW_STEPS)
            || self.config.final_sigmas_type == FinalSigma::Zero;
        Schedule {
            timesteps,
            sigmas: sigmas.into_iter().map(|s| s as f32).collect(),
            init_noise_sigma: 1.0,
            prediction: self.training.prediction_type.prediction(),
            solver: Solver::DpmPlusPlus(DpmPlusPlus {
                second_order: self.config.solver_order == 2,
                last_is_first_order,
                heun: self.heun,
                stochastic: self.stochastic,
            }),
        }
    }

    /// The training steps of a run, falling: one more than there are steps is spread, and the last
    /// is left out.
    fn spaced(&self, steps: usize) -> Vec<f32> {
        let trained = self.training.num_train_timesteps;
        match self.config.timestep_spacing {
            Spacing::Linspace => {
                let gap = (trained - 1) as f64 / steps as f64;
                let time = |i: usize| (i as f64 * gap).round_ties_even() as f32;
                (1..=steps).rev().map(time).collect()
            }
            Spacing::Leading => {
                let gap = trained / (steps + 1);
                let offset = self.config.steps_offset;
                let time = |i: usize| (i * gap + offset) as f32;
                (1..=steps).rev().map(time).collect()
            }
            Spacing::Trailing => trailing(trained, steps),
        }
    }
}
