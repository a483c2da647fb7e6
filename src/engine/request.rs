//! A request as the engine goes through it: a lane a candidate, each with what it was told so far.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::UnboundedSender;

use super::shelf::Kept;
use super::{Event, OVER, Place, Work};
use crate::backbones::{Backbone, TapRequest};
use crate::candidate::Handle;
use crate::sampling::Observation;
use crate::{Error, Result};

pub(super) struct Request {
    pub work: Work,
    pub backbone: Arc<dyn Backbone>,
    pub lanes: Vec<Lane>,
    pub events: UnboundedSender<Result<Event>>,
    /// Done, failed or cancelled.
    pub over: bool,
    /// Denoiser evaluations that it has set out on; whoever asked for the work reads along.
    spent: Arc<AtomicU64>,
    _place: Place,
}

/// One candidate of a request.
pub(super) struct Lane {
    pub handle: Handle,
    /// Whether the engine has begun to work on it for this request.
    pub begun: bool,
    pub done: bool,
    /// Steps that were already there when the request came.
    pub resumed_from: usize,
    /// Steps done that were told.
    told: usize,
    /// Steps at which an observation is still to be given.
    pub unseen: BTreeSet<usize>,
    /// What is still to be seen half-way through the step after [`Work::to_step`].
    pub glimpse: Option<TapRequest>,
    picture: bool,
}

/// What a lane needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Step,
    /// The first half of its next step.
    Glimpse,
    /// To start over: something was not seen in a step that has passed.
    Restart,
    Decode,
    Nothing,
}

impl Request {
    /// Checks that the work makes sense for its model.
    pub(super) fn new(
        work: Work,
        backbone: Arc<dyn Backbone>,
        events: UnboundedSender<Result<Event>>,
        (spent, place): (Arc<AtomicU64>, Place),
    ) -> std::result::Result<Self, (Error, UnboundedSender<Result<Event>>)> {
        if let Err(error) = check(&work, backbone.as_ref()) {
            return Err((error, events));
        }
        let facts = backbone.facts();
        let fingerprint = &facts.fingerprint;
        let lanes = work.candidates.iter().map(|candidate| Lane {
            handle: candidate.handle(fingerprint),
            begun: false,
            done: false,
            resumed_from: 0,
            told: 0,
            unseen: work.observe_at.iter().copied().collect(),
            glimpse: work.glimpse.then(|| work.tap.of_glimpse(facts)),
            picture: work.picture,
        });
        Ok(Self {
            lanes: lanes.collect(),
            work,
            backbone,
            events,
            over: false,
            spent,
            _place: place,
        })
    }

    /// Tells the lane with this index all that is known of its candidate, and returns what it needs
    /// beyond that. `paid` is what this request just paid for the candidate's newest step.
    pub(super) fn tell(&mut self, index: usize, kept: Option<&Kept>, paid: u64) -> Need {
        let need = self.lanes[index].tell(index, &self.work, kept, paid, &self.events);
        self.lanes[index].done = need == Need::Nothing;
        need
    }

    /// Tells the lane with this index what a glimpse showed, if it waits for that, and what this
    /// request paid for it.
    pub(super) fn tell_glimpse(&mut self, index: usize, kept: &Kept, paid: u64) {
        self.lanes[index].tell_glimpse(index, &self.work, kept, paid, &self.events);
    }

    pub(super) fn tell_picture(&mut self, index: usize, picture: image::RgbImage) {
        let lane = &mut self.lanes[index];
        lane.picture = false;
        send(
            &self.events,
            Event::Picture {
                index,
                picture: Arc::new(picture),
                resumed_from_step: lane.resumed_from,
            },
        );
    }

    /// Counts so many evaluations more; false where its purse does not take them, or nobody wants them
    /// any more.
    pub(super) fn pay(&self, evaluations: u64) -> bool {
        let purse = self.work.purse.unwrap_or(OVER - 1);
        let paid = self
            .spent
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |spent| {
                let all = spent.saturating_add(evaluations);
                (spent < OVER && all <= purse).then_some(all)
            });
        paid.is_ok()
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.over = true;
        // A receiver that is gone has cancelled.
        let _ = self.events.send(Err(error));
    }

    /// Steps that are left to do, as far as is known.
    pub(super) fn steps_left(&self) -> usize {
        let open = self.lanes.iter().filter(|lane| !lane.done);
        open.map(|lane| self.work.to_step - lane.told).sum()
    }
}

impl Lane {
    fn tell(
        &mut self,
        index: usize,
        work: &Work,
        kept: Option<&Kept>,
        paid: u64,
        events: &UnboundedSender<Result<Event>>,
    ) -> Need {
        let steps_done = kept.map_or(0, Kept::steps_done);
        if let Some(kept) = kept {
            self.tell_glimpse(index, work, kept, 0, events);
        }
        if !self.begun {
            self.resumed_from = steps_done.min(work.to_step);
        }
        let step_of = |steps_done, evaluations| Event::Stepped {
            index,
            steps_done,
            evaluations,
        };
        let seen = |step: usize| kept.and_then(|kept| kept.observation(step, &work.tap));
        let mut passed = self.unseen.range(..=steps_done);
        if paid == 0 && passed.any(|step| seen(*step).is_none()) {
            return Need::Restart;
        }
        if paid > 0 && steps_done <= self.told {
            send(events, step_of(steps_done, paid));
        }
        while self.told < steps_done.min(work.to_step) {
            self.told += 1;
            let newest = self.told == steps_done;
            send(events, step_of(self.told, if newest { paid } else { 0 }));
            self.show(index, self.told, seen(self.told), events);
        }
        // Steps that were told before: the trajectory has started over since.
        for step in self.unseen.clone().range(..=self.told) {
            self.show(index, *step, seen(*step), events);
        }
        let seen_all = self.unseen.is_empty() && self.glimpse.is_none();
        if self.told == work.to_step && seen_all && !self.picture {
            Need::Nothing
        } else if self.unseen.first().is_some_and(|step| *step <= steps_done) {
            Need::Restart
        } else if steps_done < work.to_step {
            Need::Step
        } else if self.glimpse.is_some() && steps_done > work.to_step {
            Need::Restart
        } else if self.glimpse.is_some() {
            Need::Glimpse
        } else {
            Need::Decode
        }
    }

    fn tell_glimpse(
        &mut self,
        index: usize,
        work: &Work,
        kept: &Kept,
        paid: u64,
        events: &UnboundedSender<Result<Event>>,
    ) {
        let wanted = self.glimpse.as_ref();
        let seen = wanted.and_then(|tap| kept.glimpse(work.to_step + 1, tap));
        if let Some(seen) = seen {
            let glimpsed = Event::Glimpsed {
                index,
                observation: Arc::clone(seen),
                evaluations: paid,
            };
            self.glimpse = None;
            send(events, glimpsed);
        }
    }

    fn show(
        &mut self,
        index: usize,
        step: usize,
        seen: Option<&Arc<Observation>>,
        events: &UnboundedSender<Result<Event>>,
    ) {
        if let Some(seen) = seen
            && self.unseen.remove(&step)
        {
            let observation = Arc::clone(seen);
            send(events, Event::Observed { index, observation });
        }
    }
}

/// A receiver that is gone has cancelled: the next tick sees it.
fn send(events: &UnboundedSender<Result<Event>>, event: Event) {
    let _ = events.send(Ok(event));
}

/// Adds what `other` asks for.
pub(super) fn widen(tap: &mut TapRequest, other: &TapRequest) {
    for block in &other.blocks {
        if !tap.wants(block) {
            tap.blocks.push(block.clone());
        }
    }
    tap.middle |= other.middle;
}

fn check(work: &Work, backbone: &dyn Backbone) -> Result<()> {
    let facts = backbone.facts();
    for candidate in &work.candidates {
        let steps = candidate.settings.steps;
        if candidate.settings.model != work.candidates[0].settings.model {
            return Err(Error::Internal("one request with several models".into()));
        }
        let last = work.to_step + usize::from(work.glimpse);
        if last == 0 || last > steps {
            return Err(Error::invalid(
                "at_step",
                format!("step {last} of a run of {steps}"),
                format!("Choose a step from 1 to {steps}"),
            ));
        }
        if work.glimpse && facts.glimpsed.is_empty() {
            return Err(Error::Internal(format!(
                "the {} denoiser is not run in halves",
                facts.family
            )));
        }
        if work.picture && work.to_step != steps {
            return Err(Error::Internal(format!(
                "a picture after {} of {steps} steps",
                work.to_step
            )));
        }
    }
    if let Some(step) = work
        .observe_at
        .iter()
        .find(|s| **s == 0 || **s > work.to_step)
    {
        return Err(Error::invalid(
            "at_step",
            format!("an observation at step {step} of {}", work.to_step),
            format!("Observe at steps from 1 to {}", work.to_step),
        ));
    }
    if let Some(block) = work.tap.blocks.iter().find(|b| !facts.tappable.contains(b)) {
        return Err(Error::invalid(
            "tap",
            format!("{block} is no attention block of this model"),
            format!("It has {}", facts.tappable.join(", ")),
        ));
    }
    Ok(())
}
