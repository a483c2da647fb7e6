//! The samplers' noise levels, out of `scheduler/scheduler_config.json`.

mod euler;

pub use euler::EulerDiscrete;
