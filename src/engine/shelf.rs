//! Where trajectories and their observations are kept: by what they are, under a memory budget.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use candle_core::Tensor;

use super::lru::Lru;
use crate::backbones::TapRequest;
use crate::candidate::Handle;
use crate::sampling::{Observation, Trajectory};

/// All that is known of one candidate.
#[derive(Default)]
pub(super) struct Kept {
    /// `None`: to be started from the noise.
    pub trajectory: Option<Trajectory>,
    /// Another state of it: of the one that went further and the one that was looked at on the way there,
    /// which is not the one above.
    other: Option<Trajectory>,
    /// Steps done → what was seen there. They stay valid when the trajectory starts over.
    pub observations: BTreeMap<usize, Arc<Observation>>,
    /// Step that was seen half-way through → what was seen.
    pub glimpses: BTreeMap<usize, Arc<Observation>>,
}

impl Kept {
    pub(super) fn steps_done(&self) -> usize {
        self.trajectory.as_ref().map_or(0, Trajectory::steps_done)
    }

    /// Has it go on from before `step`, which has passed: from its other state, or else from the noise.
    /// The furthest that it came to is kept.
    pub(super) fn go_back_before(&mut self, step: usize) {
        let earlier = self.other.take_if(|other| other.steps_done() < step);
        let states = self.trajectory.take().into_iter().chain(self.other.take());
        self.other = states.max_by_key(Trajectory::steps_done);
        self.trajectory = earlier;
    }

    /// Goes to the further of its states.
    fn take_up(&mut self) {
        let further = |other: &Trajectory| other.steps_done() > self.steps_done();
        if self.other.as_ref().is_some_and(further) {
            std::mem::swap(&mut self.trajectory, &mut self.other);
        }
    }

    /// What was seen after `steps_done` steps, if it holds all that `tap` asks for.
    pub(super) fn observation(
        &self,
        steps_done: usize,
        tap: &TapRequest,
    ) -> Option<&Arc<Observation>> {
        let seen = self.observations.get(&steps_done)?;
        holds(seen, tap).then_some(seen)
    }

    /// What was seen half-way through this step, if it holds all that `tap` asks for.
    pub(super) fn glimpse(&self, step: usize, tap: &TapRequest) -> Option<&Arc<Observation>> {
        let seen = self.glimpses.get(&step)?;
        holds(seen, tap).then_some(seen)
    }

    fn bytes(&self) -> u64 {
        let trajectories = self.trajectory.iter().chain(&self.other);
        let seen = self.observations.values().chain(self.glimpses.values());
        trajectories.map(Trajectory::bytes).sum::<u64>() + seen.map(|o| bytes_of(o)).sum::<u64>()
    }

    /// Lets go of half a step and of what was seen in it, which are cheap to make again. Gives their
    /// bytes.
    fn forget_glimpses(&mut self) -> u64 {
        let before = self.bytes();
        self.glimpses.clear();
        for trajectory in self.trajectory.iter_mut().chain(&mut self.other) {
            trajectory.forget_half();
        }
        before - self.bytes()
    }
}

fn holds(seen: &Observation, tap: &TapRequest) -> bool {
    let maps = tap.blocks.iter().all(|b| seen.maps.contains_key(b));
    maps && (seen.middle.is_some() || !tap.middle)
}

/// The texts that observations hold are shared between a prompt's candidates, and not counted.
fn bytes_of(observation: &Observation) -> u64 {
    let bytes = |t: &Tensor| (t.elem_count() * t.dtype().size_in_bytes()) as u64;
    let maps: u64 = observation.maps.values().map(bytes).sum();
    let more = observation.previous_x0.iter().chain(&observation.middle);
    bytes(&observation.x0) + maps + more.map(bytes).sum::<u64>()
}

/// Candidates in flight, which stay whatever they weigh, and paused ones, which go when memory is
/// short.
pub(super) struct Shelf {
    flying: HashMap<Handle, Kept>,
    paused: Lru<Handle, Kept>,
    budget: u64,
}

impl Shelf {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            flying: HashMap::new(),
            paused: Lru::new(),
            budget,
        }
    }

    pub(super) fn peek(&self, handle: &Handle) -> Option<&Kept> {
        self.flying.get(handle).or_else(|| self.paused.peek(handle))
    }

    /// Takes a candidate to work on it; [`Shelf::fly`] puts it back.
    pub(super) fn take(&mut self, handle: &Handle) -> Kept {
        let kept = self.flying.remove(handle);
        kept.or_else(|| self.paused.take(handle))
            .unwrap_or_default()
    }

    pub(super) fn fly(&mut self, handle: Handle, kept: Kept) {
        self.flying.insert(handle, kept);
    }

    /// Pauses what no request works on any more and keeps the budget. `wanted` says which candidates
    /// are still worked on, and at which of their steps somebody waits for an observation.
    pub(super) fn settle(&mut self, wanted: &HashMap<Handle, BTreeSet<usize>>) {
        let landed = self
            .flying
            .extract_if(|handle, _| !wanted.contains_key(handle));
        for (handle, mut kept) in landed {
            kept.take_up();
            let bytes = kept.bytes();
            self.paused.put(handle, kept, bytes);
        }
        let mut flying: u64 = self.flying.values().map(Kept::bytes).sum();
        if flying > self.budget {
            for (handle, kept) in &mut self.flying {
                kept.forget_glimpses();
                kept.other = None;
                let waiting = wanted.get(handle);
                kept.observations
                    .retain(|step, _| waiting.is_some_and(|steps| steps.contains(step)));
            }
            flying = self.flying.values().map(Kept::bytes).sum();
        }
        let left = self.budget.saturating_sub(flying);
        self.paused.lighten_to(left, Kept::forget_glimpses);
        self.paused.shrink_to(left);
    }

    /// Bytes of all that is kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.paused.bytes() + self.flying.values().map(Kept::bytes).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::backbones::TextState;

    fn seen(step: usize, values: usize) -> Arc<Observation> {
        let tensor = |count| Tensor::zeros(count, DType::F32, &Device::Cpu).unwrap();
        Arc::new(Observation {
            steps_done: step,
            glimpse: false,
            x0: tensor(values),
            previous_x0: None,
            maps: BTreeMap::from([("mid".to_owned(), tensor(values))]),
            middle: None,
            text: TextState {
                embeds: tensor(1),
                pooled: None,
            },
        })
    }

    fn kept(steps: &[usize]) -> Kept {
        Kept {
            trajectory: None,
            other: None,
            observations: steps.iter().map(|s| (*s, seen(*s, 100))).collect(),
            glimpses: BTreeMap::new(),
        }
    }

    #[test]
    fn the_budget_is_kept_by_dropping_what_nobody_waits_for() {
        // An observation is 800 bytes here.
        let mut shelf = Shelf::new(3000);
        let handle = |n: usize| Handle(format!("fs_{n}"));
        for n in 0..10 {
            shelf.fly(handle(n), kept(&[1]));
        }
        shelf.settle(&HashMap::new());
        assert_eq!(shelf.bytes(), 2400);

        shelf.fly(handle(20), kept(&[1, 2, 3, 4]));
        let wanted = HashMap::from([(handle(20), BTreeSet::from([4, 9]))]);
        shelf.settle(&wanted);
        assert!(shelf.bytes() <= 3000);
        let flying = shelf.peek(&handle(20)).unwrap();
        assert_eq!(flying.observations.keys().copied().collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn half_a_step_is_let_go_before_a_trajectory_is() {
        let mut shelf = Shelf::new(2400);
        let handle = |n: usize| Handle(format!("fs_{n}"));
        for n in 0..3 {
            let mut kept = kept(&[1]);
            kept.glimpses.insert(2, seen(1, 50));
            shelf.fly(handle(n), kept);
        }
        shelf.settle(&HashMap::new());
        for n in 0..3 {
            let kept = shelf.peek(&handle(n)).unwrap();
            assert_eq!((kept.observations.len(), kept.glimpses.len()), (1, 0));
        }
        assert_eq!(shelf.bytes(), 2400);
    }

    #[test]
    fn an_observation_stands_for_a_narrower_request_only() {
        let kept = kept(&[5]);
        let tap = |blocks: &[&str], middle| TapRequest {
            blocks: blocks.iter().map(|b| (*b).to_owned()).collect(),
            middle,
        };
        assert!(kept.observation(5, &tap(&[], false)).is_some());
        assert!(kept.observation(5, &tap(&["mid"], false)).is_some());
        assert!(kept.observation(5, &tap(&["mid"], true)).is_none());
        assert!(kept.observation(5, &tap(&["mid", "up"], false)).is_none());
        assert!(kept.observation(4, &tap(&[], false)).is_none());
    }
}
