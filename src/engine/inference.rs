//! The inference thread: it owns the device and every loaded backbone, and is talked to by messages.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::flight::{Flight, fly};
use super::guard::guarded;
use super::picture::picture_of;
use super::request::{Need, Request, widen};
use super::shelf::Shelf;
use super::texts::Texts;
use super::{Limits, Load, Loader, Message};
use crate::backbones::{Backbone, TapRequest};
use crate::candidate::{Candidate, Handle};
use crate::sampling::Trajectory;
use crate::{Error, Result};

pub(super) struct Inference {
    loader: Loader,
    limits: Limits,
    load: Arc<Load>,
    backbones: HashMap<String, Arc<dyn Backbone>>,
    texts: Texts,
    shelf: Shelf,
    requests: VecDeque<Request>,
    /// What a step of one candidate took lately.
    seconds_a_step: f64,
}

/// A lane that is worked on in a tick: the request's place in the queue, and the lane's in it.
struct Pick {
    request: usize,
    lane: usize,
    need: Need,
}

impl Inference {
    pub(super) fn new(loader: Loader, limits: Limits, load: Arc<Load>) -> Self {
        let for_texts = limits.cache_bytes / 8;
        Self {
            shelf: Shelf::new(limits.cache_bytes - for_texts),
            loader,
            limits,
            load,
            backbones: HashMap::new(),
            texts: Texts::new(for_texts),
            requests: VecDeque::new(),
            seconds_a_step: 0.1,
        }
    }

    /// Until the last [`super::Engine`] is dropped.
    pub(super) fn run(mut self, mut inbox: UnboundedReceiver<Message>) {
        loop {
            let message = if self.requests.is_empty() {
                inbox.blocking_recv().ok_or(TryRecvError::Disconnected)
            } else {
                inbox.try_recv()
            };
            let begun = Instant::now();
            match message {
                Ok(message) => self.take(message),
                Err(TryRecvError::Empty) => self.tick(),
                Err(TryRecvError::Disconnected) => break,
            }
            let busy = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.load.busy.fetch_add(busy, Ordering::AcqRel);
        }
        for mut request in self.requests.drain(..) {
            request.fail(Error::Cancelled);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            // Whoever asked may be gone: then nobody needs the answer.
            Message::Open { model, reply } => drop(reply.send(self.backbone(&model))),
            Message::Submit {
                work,
                events,
                spent,
                place,
            } => {
                let Some(first) = work.candidates.first() else {
                    return;
                };
                let refusal = match self.backbone(&first.settings.model) {
                    Ok(backbone) => match Request::new(work, backbone, events, (spent, place)) {
                        Ok(mut request) => {
                            for lane in 0..request.lanes.len() {
                                let handle = request.lanes[lane].handle.clone();
                                request.tell(lane, self.shelf.peek(&handle), 0);
                            }
                            self.requests.push_back(request);
                            self.clear_away();
                            return;
                        }
                        Err(refusal) => refusal,
                    },
                    Err(error) => (error, events),
                };
                let (error, events) = refusal;
                drop(events.send(Err(error)));
            }
        }
    }

    fn backbone(&mut self, model: &str) -> Result<Arc<dyn Backbone>> {
        if let Some(backbone) = self.backbones.get(model) {
            return Ok(Arc::clone(backbone));
        }
        let backbone = guarded("loading the model", || (self.loader)(model))?;
        self.backbones
            .insert(model.to_owned(), Arc::clone(&backbone));
        Ok(backbone)
    }

    /// One step of as many candidates as fit into a batch.
    fn tick(&mut self) {
        self.clear_away();
        let picks = self.pick();
        let (decodes, steps): (Vec<_>, Vec<_>) =
            picks.into_iter().partition(|p| p.need == Need::Decode);
        for pick in decodes {
            self.decode(&pick);
        }
        self.step(steps);
        // Whoever came second is first the next time.
        if self.requests.len() > 1 {
            self.requests.rotate_left(1);
        }
        self.clear_away();
    }

    /// Forgets requests that are over or cancelled, and pauses what none of the others works on.
    fn clear_away(&mut self) {
        self.requests.retain(|request| {
            let done = request.over || request.lanes.iter().all(|lane| lane.done);
            !done && !request.events.is_closed()
        });
        let mut wanted: HashMap<Handle, BTreeSet<usize>> = HashMap::new();
        for request in &self.requests {
            for lane in request.lanes.iter().filter(|lane| lane.begun && !lane.done) {
                let steps = wanted.entry(lane.handle.clone()).or_default();
                steps.extend(&lane.unseen);
            }
        }
        self.shelf.settle(&wanted);
        let steps: usize = self.requests.iter().map(Request::steps_left).sum();
        let milliseconds = steps as f64 * self.seconds_a_step * 1000.0;
        self.load
            .milliseconds
            .store(milliseconds as u64, Ordering::Release);
    }

    fn batch_size(&self) -> usize {
        let on_cpu = |request: &Request| request.backbone.device().is_cpu();
        let limit = match self.requests.front() {
            Some(request) if on_cpu(request) => rayon::current_num_threads(),
            _ => usize::MAX,
        };
        self.limits.max_batch.min(limit).max(1)
    }

    /// A candidate of each request in turn, then a second one, until the batch is full. Within a
    /// request the first unfinished candidates come first, so that few are in flight at a time.
    fn pick(&mut self) -> Vec<Pick> {
        let size = self.batch_size();
        let mut picks: Vec<Pick> = Vec::new();
        let mut handles: HashSet<Handle> = HashSet::new();
        let mut next_lane = vec![0; self.requests.len()];
        loop {
            let before = picks.len();
            for (place, request) in self.requests.iter_mut().enumerate() {
                while picks.len() < size && next_lane[place] < request.lanes.len() {
                    let lane = next_lane[place];
                    next_lane[place] += 1;
                    let handle = request.lanes[lane].handle.clone();
                    if request.lanes[lane].done || handles.contains(&handle) {
                        continue;
                    }
                    let need = request.tell(lane, self.shelf.peek(&handle), 0);
                    if need == Need::Nothing {
                        continue;
                    }
                    handles.insert(handle);
                    picks.push(Pick {
                        request: place,
                        lane,
                        need,
                    });
                    break;
                }
            }
            if picks.len() == before || picks.len() == size {
                return picks;
            }
        }
    }

    fn decode(&mut self, pick: &Pick) {
        let request = &mut self.requests[pick.request];
        let handle = request.lanes[pick.lane].handle.clone();
        let Some(trajectory) = self.shelf.peek(&handle).and_then(|k| k.trajectory.as_ref()) else {
            return;
        };
        let picture = guarded("decoding", || {
            picture_of(&request.backbone.decode(trajectory.latents())?)
        });
        match picture {
            Ok(picture) => {
                request.tell_picture(pick.lane, picture);
                request.tell(pick.lane, self.shelf.peek(&handle), 0);
            }
            Err(error) => request.fail(error),
        }
    }

    /// Steps the picked candidates, model by model.
    fn step(&mut self, mut picks: Vec<Pick>) {
        while let Some(first) = picks.first() {
            let backbone = Arc::clone(&self.requests[first.request].backbone);
            let same = |p: &Pick| Arc::ptr_eq(&backbone, &self.requests[p.request].backbone);
            let (group, rest): (Vec<_>, Vec<_>) = picks.into_iter().partition(same);
            picks = rest;
            self.step_group(backbone.as_ref(), &group);
        }
    }

    fn step_group(&mut self, backbone: &dyn Backbone, picks: &[Pick]) {
        let mut flights = Vec::with_capacity(picks.len());
        for pick in picks {
            match self.take_off(backbone, pick) {
                Ok(flight) if self.requests[pick.request].pay(flight.evaluations) => {
                    flights.push(flight);
                }
                Ok(flight) => {
                    let Flight {
                        handle,
                        mut kept,
                        trajectory,
                        ..
                    } = flight;
                    kept.trajectory = Some(trajectory);
                    self.shelf.fly(handle, kept);
                    self.requests[pick.request].over = true;
                }
                Err(error) => self.requests[pick.request].fail(error),
            }
        }
        let (mut halves, mut steps): (Vec<_>, Vec<_>) =
            flights.into_iter().partition(|f| f.glimpse);
        let mut outcomes = fly(backbone, &mut halves);
        let begun = Instant::now();
        outcomes.extend(fly(backbone, &mut steps));
        if !steps.is_empty() {
            let lately = begun.elapsed().as_secs_f64() / steps.len() as f64;
            self.seconds_a_step = 0.8 * self.seconds_a_step + 0.2 * lately;
        }
        for (flight, outcome) in halves.into_iter().chain(steps).zip(outcomes) {
            self.land(flight, outcome);
        }
    }

    /// Makes a picked candidate ready for its next step.
    fn take_off(&mut self, backbone: &dyn Backbone, pick: &Pick) -> Result<Flight> {
        let request = &self.requests[pick.request];
        let handle = request.lanes[pick.lane].handle.clone();
        let candidate = request.work.candidates[pick.lane].clone();
        let mut kept = self.shelf.take(&handle);
        if pick.need == Need::Restart {
            let lane = &request.lanes[pick.lane];
            let passed = lane.unseen.first().copied();
            kept.go_back_before(passed.unwrap_or(request.work.to_step + 1));
        }
        if pick.need == Need::Restart || kept.trajectory.is_none() {
            // Wherever it was before, for those who work on it now it begins here.
            let here = kept.steps_done();
            self.lanes_of(&handle, |lane| {
                lane.resumed_from = lane.resumed_from.min(here);
            });
        }
        let trajectory = match kept.trajectory.take() {
            Some(trajectory) => trajectory,
            None => match self.start(backbone, &candidate) {
                Ok(trajectory) => trajectory,
                Err(error) => {
                    self.shelf.fly(handle, kept);
                    return Err(error);
                }
            },
        };
        let next = trajectory.steps_done() + 1;
        let mut tap: Option<TapRequest> = None;
        // Before the step that one request needs comes the half of it that another waits for.
        let mut glimpse = false;
        for request in &mut self.requests {
            let asked = &request.work.tap;
            for lane in request
                .lanes
                .iter_mut()
                .filter(|lane| lane.handle == handle)
            {
                lane.begun |= !lane.done;
                let half_way = lane.glimpse.is_some() && request.work.to_step + 1 == next;
                if half_way || lane.unseen.contains(&next) {
                    widen(tap.get_or_insert_default(), asked);
                }
                glimpse |= half_way && !lane.done;
            }
        }
        let before = match glimpse {
            true => kept.glimpses.get(&next),
            false => kept.observations.get(&next),
        };
        if let (Some(tap), Some(seen)) = (&mut tap, before) {
            // What was read before is read again, so that the new observation stands for both.
            tap.blocks.extend(
                seen.maps
                    .keys()
                    .filter(|b| !tap.wants(b))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            tap.middle |= seen.middle.is_some();
        }
        let wanted = tap.clone().unwrap_or_default();
        let evaluations = match glimpse {
            true => 1,
            false => trajectory.evaluations_left_in_step(backbone.facts(), &wanted),
        };
        Ok(Flight {
            glimpse,
            evaluations,
            request: pick.request,
            lane: pick.lane,
            handle,
            kept,
            trajectory,
            tap,
        })
    }

    fn start(&mut self, backbone: &dyn Backbone, candidate: &Candidate) -> Result<Trajectory> {
        let text = self.texts.encoded(backbone, candidate)?;
        guarded("starting a candidate", || {
            Trajectory::start_encoded(backbone, text, candidate.seed, &candidate.settings)
        })
    }

    /// Puts a candidate back and tells everybody who waits for it. An error is for the request that
    /// asked for the step: the others meet it, if it is there to stay, when it is their turn.
    fn land(&mut self, flight: Flight, outcome: Result<()>) {
        let Flight {
            request,
            lane,
            handle,
            mut kept,
            trajectory,
            glimpse,
            evaluations,
            ..
        } = flight;
        match outcome {
            Ok(()) => {
                kept.trajectory = Some(trajectory);
                self.load
                    .evaluations
                    .fetch_add(evaluations, Ordering::AcqRel);
            }
            Err(error) => self.requests[request].fail(error),
        }
        // A glimpse is paid by the first who waits for it, a step by who asked for it.
        let mut glimpse_due = if glimpse { evaluations } else { 0 };
        for (place, waiting) in self.requests.iter_mut().enumerate() {
            for index in 0..waiting.lanes.len() {
                if waiting.lanes[index].handle == handle && !waiting.lanes[index].done {
                    if waiting.lanes[index].glimpse.is_some() {
                        waiting.tell_glimpse(index, &kept, glimpse_due);
                        glimpse_due = 0;
                    }
                    let paid = match (place, index) == (request, lane) && !glimpse {
                        true => evaluations,
                        false => 0,
                    };
                    waiting.tell(index, Some(&kept), paid);
                }
            }
        }
        self.shelf.fly(handle, kept);
    }

    fn lanes_of(&mut self, handle: &Handle, mut change: impl FnMut(&mut super::request::Lane)) {
        for request in &mut self.requests {
            let lanes = request.lanes.iter_mut();
            lanes
                .filter(|lane| lane.handle == *handle)
                .for_each(&mut change);
        }
    }
}
