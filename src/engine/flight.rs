//! One step of the candidates in flight, or the first half of one.

use std::sync::Arc;

use super::guard::guarded;
use super::shelf::Kept;
use crate::backbones::{Backbone, TapRequest};
use crate::candidate::Handle;
use crate::sampling::{self, Observation, Trajectory};
use crate::{Error, Result};

/// A candidate in its step, or in the first half of it.
pub(super) struct Flight {
    pub request: usize,
    pub lane: usize,
    pub handle: Handle,
    pub kept: Kept,
    pub trajectory: Trajectory,
    /// What to observe in this step, if anybody wants that.
    pub tap: Option<TapRequest>,
    /// Whether the step ends half-way.
    pub glimpse: bool,
    /// Denoiser evaluations that it takes.
    pub evaluations: u64,
}

/// Steps all together, or takes all half-way. Where that fails, each again alone, so that only the
/// one at fault fails.
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
    let glimpse = flights.iter().all(|f| f.glimpse);
    let taps: Vec<_> = flights.iter().map(|f| f.tap.clone()).collect();
    let mut trajectories: Vec<_> = flights.iter_mut().map(|f| &mut f.trajectory).collect();
    let seen: Vec<Option<Observation>> = guarded("a denoising step", || {
        if glimpse {
            let taps: Vec<_> = taps.into_iter().map(Option::unwrap_or_default).collect();
            let taps: Vec<_> = taps.iter().collect();
            let seen = sampling::glimpse_all(backbone, &mut trajectories, &taps)?;
            Ok(seen.into_iter().map(Some).collect())
        } else {
            let taps: Vec<_> = taps.iter().map(Option::as_ref).collect();
            sampling::step_all(backbone, &mut trajectories, &taps)
        }
    })?;
    for (flight, seen) in flights.iter_mut().zip(seen) {
        if let Some(seen) = seen {
            let wants_middle = flight.tap.as_ref().is_some_and(|tap| tap.middle);
            if wants_middle && seen.middle.is_none() {
                return Err(Error::Internal("this model shows no middle".into()));
            }
            let done = flight.trajectory.steps_done();
            let kept = &mut flight.kept;
            match glimpse {
                true => kept.glimpses.insert(done + 1, Arc::new(seen)),
                false => kept.observations.insert(done, Arc::new(seen)),
            };
        }
    }
    Ok(())
}
