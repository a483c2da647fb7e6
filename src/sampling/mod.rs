//! What all families share: the noise schedule, a denoising step, guidance, and the trajectory that
//! can be paused after any step and taken up again.

mod noise;
mod rows;
mod solver;
mod step;
mod trajectory;

use std::collections::BTreeMap;

use candle_core::Tensor;

pub use self::noise::standard_normal;
pub use self::solver::{DpmPlusPlus, Solver};
pub use self::step::{glimpse_all, step_all};
pub use self::trajectory::{Fresh, Trajectory};
use crate::backbones::TextState;

/// What the sampler's update reads the denoiser's output as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    Epsilon,
    V,
    Sample,
    /// The velocity from data to noise along a straight path: x = (1 − σ)·data + σ·noise.
    Flow,
}

/// The noise levels of one run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What the denoiser is told at each step.
    pub timesteps: Vec<f32>,
    /// One more than there are steps.
    pub sigmas: Vec<f32>,
    /// The standard deviation of the initial latents.
    pub init_noise_sigma: f32,
    pub prediction: Prediction,
    pub solver: Solver,
}

/// What was seen of a trajectory at one step: enough for a probe, and independent of the device.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Steps done when it was taken.
    pub steps_done: usize,
    /// Where the maps and the middle were read: in the last of the steps done (the one with the
    /// index `steps_done - 1`) or, in a glimpse, half-way through the one after it, with no more
    /// blocks than that half has.
    pub glimpse: bool,
    /// The predicted finished latents, (channels, height, width), f32 on the CPU; zeros in a
    /// glimpse of the first step, before which nothing was predicted.
    pub x0: Tensor,
    /// `x0` of the step before; `None` where there was none.
    pub previous_x0: Option<Tensor>,
    /// Module path → (heads, image queries, text keys) of the conditional half, f32 on the CPU.
    pub maps: BTreeMap<String, Tensor>,
    /// The activations after the middle block, (channels, height, width), f32 on the CPU.
    pub middle: Option<Tensor>,
    /// The prompt as the denoiser read it, f32 on the CPU.
    pub text: TextState,
}
