//! One step of the candidates in flight.

use std::sync::Arc;

use super::guard::guarded;
use super::shelf::Kept;
use crate::backbones::{Backbone, TapRequest};
use crate::candidate::Handle;
use crate::sampling::{self, Trajectory};
use crate::{Error, Result};

/// A candidate in its step.
pub(super) struct Flight {
    pub request: usize,
    pub lane: usize,
    pub handle: Handle,
    pub kept: Kept,
    pub trajectory: Trajectory,
    /// What to observe in this step, if anybody wants that.
    pub tap: Option<TapRequest>,
}

/// Steps all together. Where that fails, each again alone, so that only the one at fault fails.
pub(super) fn fly(backbone: &dyn Backbone, flights: &mut [Flight]) -> Vec<Result<()>> {
    // A trajectory is a few handles to tensors: its clone is its state before the step.
    let before: Vec<_> = flights.iter().map(|f| f.trajectory.clone()).collect();
    match advance(backbone, flights) {
        Ok(()) => flights.iter().map(|_| Ok(())).collect(),
        Err(error) if flights.len() == 1 => vec![Err(error)],
        Err(_) => flights
            .iter_mut()
            .zip(before)
            .map(|(flight, before)| {
                flight.trajectory = before;
                advance(backbone, std::slice::from_mut(flight))
            })
            .collect(),
    }
}

fn advance(backbone: &dyn Backbone, flights: &mut [Flight]) -> Result<()> {
    let taps: Vec<_> = flights.iter().map(|f| f.tap.clone()).collect();
    let taps: Vec<_> = taps.iter().map(Option::as_ref).collect();
    let mut trajectories: Vec<_> = flights.iter_mut().map(|f| &mut f.trajectory).collect();
    let seen = guarded("a denoising step", || {
        sampling::step_all(backbone, &mut trajectories, &taps)
    })?;
    for (flight, seen) in flights.iter_mut().zip(seen) {
        if let Some(seen) = seen {
            let wants_middle = flight.tap.as_ref().is_some_and(|tap| tap.middle);
            if wants_middle && seen.middle.is_none() {
                return Err(Error::Internal("this model shows no middle".into()));
            }
            let step = flight.trajectory.steps_done();
            flight.kept.observations.insert(step, Arc::new(seen));
        }
    }
    Ok(())
}
