//! FlowMatchEulerDiscreteScheduler: Euler's method along the straight paths of rectified flow (Liu et
//! al. 2022), with noise levels shifted for the picture's size (Esser et al. 2024, section 5.3.2).

use serde::Deserialize;

use super::spacing::{exponential, karras};
use crate::backbones::files::ModelFiles;
use crate::sampling::{Prediction, Schedule, Solver};
use crate::{Error, Result};

const PATH: &str = "scheduler/scheduler_config.json";
const CLASS: &str = "FlowMatchEulerDiscreteScheduler";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TimeShift {
    Exponential,
    Linear,
}

/// The file as it is; the defaults are diffusers'.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    num_train_timesteps: usize,
    shift: f64,
    use_dynamic_shifting: bool,
    base_shift: f64,
    max_shift: f64,
    base_image_seq_len: usize,
    max_image_seq_len: usize,
    invert_sigmas: bool,
    shift_terminal: Option<f64>,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    time_shift_type: TimeShift,
    stochastic_sampling: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            invert_sigmas: false,
            shift_terminal: None,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            use_beta_sigmas: None,
            time_shift_type: TimeShift::Exponential,
            stochastic_sampling: false,
        }
    }
}

/// How a run spaces its noise levels between 1 and 0.
#[derive(Clone, Debug)]
pub struct FlowMatchEuler {
    config: Config,
}

impl FlowMatchEuler {
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
        for (name, on) in [
            ("invert_sigmas", config.invert_sigmas),
            ("stochastic_sampling", config.stochastic_sampling),
            ("use_beta_sigmas", config.use_beta_sigmas == Some(true)),
        ] {
            if on {
                return Err(bad(format!("{name} = true is not supported")));
            }
        }
        if config.use_karras_sigmas == Some(true) && config.use_exponential_sigmas == Some(true) {
            return Err(bad(
                "use_karras_sigmas and use_exponential_sigmas exclude each other".into(),
            ));
        }
        if config.num_train_timesteps == 0 {
            return Err(bad("num_train_timesteps is 0".into()));
        }
        if config.base_image_seq_len == config.max_image_seq_len && config.use_dynamic_shifting {
            return Err(bad(format!(
                "base_image_seq_len and max_image_seq_len are both {}, and must differ",
                config.base_image_seq_len
            )));
        }
        for (name, value) in [
            ("shift", Some(config.shift)),
            ("base_shift", Some(config.base_shift)),
            ("max_shift", Some(config.max_shift)),
            ("shift_terminal", config.shift_terminal),
        ] {
            if let Some(value) = value
                && !value.is_finite()
            {
                return Err(bad(format!("{name} is {value}, and must be finite")));
            }
        }
        Ok(Self { config })
    }

    /// The class and what the denoiser predicts.
    pub fn name(&self) -> String {
        format!("{CLASS}/flow")
    }

    /// The noise levels of a run of `steps` on a picture that the denoiser reads as `image_tokens`.
    pub fn schedule(&self, steps: usize, image_tokens: usize) -> Result<Schedule> {
        let config = &self.config;
        let terminal = config.shift_terminal.filter(|t| *t != 0.0);
        // The last level is moved to the terminal one, and the first stays at 1: that takes two.
        let fewest = if terminal.is_some() { 2 } else { 1 };
        if steps < fewest || steps > config.num_train_timesteps {
            return Err(Error::invalid(
                "steps",
                format!("{steps} steps cannot be run"),
                format!("Send {fewest} to {}", config.num_train_timesteps),
            ));
        }
        // In f32 from here on, as the reference rounds.
        let mut sigmas: Vec<f32> = falling(steps)
            .map(|s| self.shifted(s, image_tokens))
            .collect();
        if let Some(terminal) = terminal {
            let scale = (1.0 - sigmas[steps - 1]) / (1.0 - terminal) as f32;
            sigmas
                .iter_mut()
                .for_each(|s| *s = 1.0 - (1.0 - *s) / scale);
        }
        let (high, low) = (f64::from(sigmas[0]), f64::from(sigmas[steps - 1]));
        let respaced = if config.use_karras_sigmas == Some(true) {
            Some(karras(low, high, steps))
        } else if config.use_exponential_sigmas == Some(true) {
            Some(exponential(low, high, steps))
        } else {
            None
        };
        if let Some(respaced) = respaced {
            sigmas = respaced.into_iter().map(|s| s as f32).collect();
        }
        let trained = config.num_train_timesteps as f32;
        let timesteps = sigmas.iter().map(|s| s * trained).collect();
        sigmas.push(0.0);
        Ok(Schedule {
            timesteps,
            sigmas,
            init_noise_sigma: 1.0,
            prediction: Prediction::Flow,
            solver: Solver::Euler,
        })
    }

    /// A noise level moved towards 1 by as much as the picture is large, or by a fixed amount.
    fn shifted(&self, sigma: f32, image_tokens: usize) -> f32 {
        let config = &self.config;
        if !config.use_dynamic_shifting {
            let shift = config.shift;
            return (shift as f32 * sigma) / (1.0 + (shift - 1.0) as f32 * sigma);
        }
        let mu = self.mu(image_tokens);
        let pull = match config.time_shift_type {
            TimeShift::Exponential => mu.exp(),
            TimeShift::Linear => mu,
        } as f32;
        pull / (pull + (1.0 / sigma - 1.0))
    }

    /// The shift of a picture of so many tokens: linear in their number.
    fn mu(&self, image_tokens: usize) -> f64 {
        let config = &self.config;
        let (base, max) = (
            config.base_image_seq_len as f64,
            config.max_image_seq_len as f64,
        );
        let slope = (config.max_shift - config.base_shift) / (max - base);
        image_tokens as f64 * slope + (config.base_shift - slope * base)
    }
}

/// 1 down to 1/steps, evenly: diffusers' FLUX and Qwen-Image pipelines ask their scheduler for
/// these, a constant of theirs in no file.
fn falling(steps: usize) -> impl Iterator<Item = f32> {
    let last = 1.0 / steps as f64;
    let gap = (last - 1.0) / (steps.max(2) - 1) as f64;
    (0..steps).map(move |i| match i {
        0 => 1.0,
        _ if i + 1 == steps => last as f32,
        _ => (1.0 + i as f64 * gap) as f32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(json: &str) -> FlowMatchEuler {
        FlowMatchEuler {
            config: serde_json::from_str(json).unwrap(),
        }
    }

    fn assert_near(ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            assert!(
                (a - b).abs() <= 2e-6 * b.abs(),
                "{ours:?} is not {theirs:?}"
            );
        }
    }

    #[test]
    fn a_static_shift_moves_the_levels_towards_noise() {
        let schedule = scheduler(r#"{"shift": 3.0}"#).schedule(4, 100).unwrap();
        assert_near(&schedule.sigmas, &[1.0, 0.9, 0.75, 0.5, 0.0]);
        assert_near(&schedule.timesteps, &[1000.0, 900.0, 750.0, 500.0]);
        assert_eq!(schedule.init_noise_sigma, 1.0);
    }

    #[test]
    fn without_a_shift_the_levels_are_even() {
        let schedule = scheduler("{}").schedule(4, 4096).unwrap();
        assert_near(&schedule.sigmas, &[1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_near(&scheduler("{}").schedule(1, 9).unwrap().sigmas, &[1.0, 0.0]);
    }

    #[test]
    fn larger_pictures_are_shifted_further() {
        let dynamic = scheduler(r#"{"use_dynamic_shifting": true}"#);
        // e^1.15 / (e^1.15 + 1) and e^0.5 / (e^0.5 + 1)
        assert_near(
            &dynamic.schedule(2, 4096).unwrap().sigmas[1..2],
            &[0.759_510_9],
        );
        assert_near(
            &dynamic.schedule(2, 256).unwrap().sigmas[1..2],
            &[0.622_459_3],
        );
    }

    #[test]
    fn a_terminal_level_is_reached_before_the_last_step() {
        let terminal = scheduler(r#"{"shift_terminal": 0.02, "use_dynamic_shifting": true}"#);
        let sigmas = terminal.schedule(5, 1024).unwrap().sigmas;
        assert_near(&[sigmas[0], sigmas[4]], &[1.0, 0.02]);
        assert!(terminal.schedule(1, 1024).is_err());
    }
}
