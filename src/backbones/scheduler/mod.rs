//! The samplers' noise levels, out of `scheduler/scheduler_config.json`.

mod euler;
mod flow;
mod spacing;

pub use euler::EulerDiscrete;
pub use flow::FlowMatchEuler;
