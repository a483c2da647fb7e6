//! The samplers' noise levels, out of `scheduler/scheduler_config.json`.

mod dpm;
mod euler;
mod flow;
mod spacing;
mod training;

use serde_json::Value;

use self::dpm::DpmSolver;
use self::euler::EulerDiscrete;
pub use self::flow::FlowMatchEuler;
use self::training::{Levels, Training};
use super::files::ModelFiles;
use crate::sampling::Schedule;
use crate::{Error, Result};

const PATH: &str = "scheduler/scheduler_config.json";

const EULER: &str = "EulerDiscreteScheduler";
const ANCESTRAL: &str = "EulerAncestralDiscreteScheduler";
const DPM: &str = "DPMSolverMultistepScheduler";

/// The sampler of a model that was trained on discrete noise levels.
#[derive(Clone, Debug)]
pub struct DiscreteSampler {
    name: String,
    trained: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Euler(EulerDiscrete),
    Dpm(DpmSolver),
}

impl DiscreteSampler {
    /// Reads and checks the file; what it says is either followed or refused by name.
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let raw: Value = files.json(PATH)?;
        let bad = |problem: String| files.error(format!("{PATH}: {problem}"));
        let class = raw.get("_class_name").and_then(Value::as_str);
        let class = class.unwrap_or("without a name").to_owned();
        if ![EULER, ANCESTRAL, DPM].contains(&class.as_str()) {
            return Err(bad(format!(
                "the scheduler {class} is not supported: {EULER}, {ANCESTRAL} and {DPM} are"
            )));
        }
        let training: Training =
            serde_json::from_value(raw.clone()).map_err(|e| bad(e.to_string()))?;
        let Some(levels) = Levels::of(&training) else {
            return Err(bad(format!(
                "num_train_timesteps = {} and its betas make no finite noise levels; from two to \
                     100000 are needed",
                training.num_train_timesteps
            )));
        };
        let name = format!("{class}/{}", training.prediction_type.name());
        let trained = training.num_train_timesteps;
        let training = (training, levels);
        let kind = match class.as_str() {
            ANCESTRAL => Kind::Euler(EulerDiscrete::ancestral(training, raw, &bad)?),
            DPM => Kind::Dpm(DpmSolver::new(training, raw, &bad)?),
            _ => Kind::Euler(EulerDiscrete::new(training, raw, &bad)?),
        };
        Ok(Self {
            name,
            trained,
            kind,
        })
    }

    /// The class and what the denoiser predicts.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// The noise levels of a run of `steps`.
    pub fn schedule(&self, steps: usize) -> Result<Schedule> {
        let trained = self.trained;
        if steps == 0 || steps > trained {
            return Err(Error::invalid(
                "steps",
                format!("{steps} steps cannot be run"),
                format!("Send 1 to {trained}"),
            ));
        }
        Ok(match &self.kind {
            Kind::Euler(euler) => euler.schedule(steps),
            Kind::Dpm(dpm) => dpm.schedule(steps),
        })
    }
}
