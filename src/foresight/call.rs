//! One call under way: whose it is, how long it may take, what it has spent, and the loop that
//! brings candidates to a step and has them predicted.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use candle_core::Tensor;
use image::RgbImage;
use tokio::time::Instant;

use super::predictor::{Predictor, Seen};
use super::race::Moment;
use super::replies::{Common, Cost};
use super::requests::{PredictingSettings, SharedSettings};
use super::{Caller, Foresight, Progress, validate};
use crate::backbones::{Backbone, TapRequest, Word};
use crate::candidate::{Candidate, Handle, Seed, Settings};
use crate::engine::{Event, Work};
use crate::probe::Prediction;
use crate::sampling::Observation;
use crate::store::PredictionRecord;
use crate::{Error, Result};

/// A model that is loaded, and settings that it can draw.
pub(super) struct Opened {
    pub backbone: Arc<dyn Backbone>,
    pub settings: Settings,
    pub evaluations_per_step: u64,
}

impl Opened {
    pub fn candidate(&self, prompt: &str, seed: Seed) -> Candidate {
        Candidate {
            prompt: prompt.to_string(),
            seed,
            settings: self.settings.clone(),
        }
    }

    pub fn handle(&self, candidate: &Candidate) -> Handle {
        candidate.handle(&self.backbone.facts().fingerprint)
    }

    /// What rendering so many candidates costs from the start.
    pub fn full_evaluations(&self, candidates: usize) -> u64 {
        candidates as u64 * self.settings.steps as u64 * self.evaluations_per_step
    }
}

/// The words of each prompt.
type WordsOf = HashMap<String, Arc<Vec<Word>>>;

/// A finished picture, and the step from which it was resumed.
pub(super) struct Finished {
    pub picture: Arc<RgbImage>,
    pub resumed_from_step: usize,
}

pub(super) struct Call<'a> {
    pub foresight: &'a Foresight,
    caller: &'a Caller,
    started: Instant,
    /// Denoiser evaluations paid in this call.
    pub evaluations: u64,
    /// Patience ended before the work did.
    pub out_of_time: bool,
    /// The predicted finished latents of each candidate as it was seen, where they are wanted.
    pub x0: Option<HashMap<(Handle, Moment), Tensor>>,
    done: u64,
    of: u64,
}

impl<'a> Call<'a> {
    pub fn begin(foresight: &'a Foresight, caller: &'a Caller) -> Self {
        let call = Self {
            foresight,
            caller,
            started: Instant::now(),
            evaluations: 0,
            out_of_time: false,
            x0: None,
            done: 0,
            of: 1,
        };
        call.say("waiting for the model");
        call
    }

    /// The model with its settings completed and checked. `None`: patience ended while its weights
    /// were loaded, which goes on without us.
    pub async fn open(&mut self, shared: &SharedSettings) -> Result<Option<Opened>> {
        let models = &self.foresight.models;
        let name = shared.model.as_deref().unwrap_or(models.default_name());
        let card = models.card(name)?;
        if !card.installed {
            return Err(Error::invalid(
                "model",
                format!("{name} is not installed"),
                format!("Fetch it with `foreseed models pull {name}`, or use another"),
            ));
        }
        let Some(backbone) = self.within(self.foresight.engine.open(name)).await? else {
            return Ok(None);
        };
        let settings = validate::complete(shared, name, backbone.facts())?;
        let negative = settings.negative_prompt.as_deref();
        Ok(Some(Opened {
            evaluations_per_step: backbone.evaluations_per_step(negative, settings.guidance),
            backbone,
            settings,
        }))
    }

    /// Who predicts under these settings.
    pub fn predictor(&self, opened: &Opened, asked: &PredictingSettings) -> Result<Predictor> {
        validate::at_step(asked.at_step, opened.settings.steps)?;
        let facts = opened.backbone.facts();
        let predictor = Predictor::choose(
            &self.foresight.models,
            facts,
            &opened.settings,
            asked.metric.as_deref(),
            asked.at_step,
        )?;
        match &self.foresight.learned {
            Some(learned) => predictor.learning_from(
                learned,
                &self.foresight.store,
                &opened.settings,
                asked.at_step,
            ),
            None => Ok(predictor),
        }
    }

    /// Predictions of `candidates` at `moment`, in their order. What was predicted before is read
    /// back; the rest is denoised so far, under `purse` evaluations where one is given. `None` for
    /// those that the purse or patience did not reach.
    pub async fn predictions(
        &mut self,
        opened: &Opened,
        predictor: &Predictor,
        candidates: &[Candidate],
        moment: Moment,
        purse: Option<u64>,
    ) -> Result<Vec<Option<Prediction>>> {
        let store = &self.foresight.store;
        let named: Vec<(Handle, Candidate)> = candidates
            .iter()
            .map(|c| (opened.handle(c), c.clone()))
            .collect();
        store.remember(&opened.backbone.facts().fingerprint, &named)?;
        let mut predictions = Vec::with_capacity(named.len());
        for (handle, _) in &named {
            predictions.push(self.known(predictor, handle, moment)?);
        }
        let missing: Vec<usize> = (0..named.len())
            .filter(|&i| predictions[i].is_none())
            .collect();
        self.done += ((named.len() - missing.len()) * moment.steps_done()) as u64;
        if missing.is_empty() || self.out_of_time {
            return Ok(predictions);
        }

        let words = words_of_each_prompt(opened, candidates)?;
        let missed = missing.iter().map(|&i| candidates[i].clone()).collect();
        let tap = predictor.tap(opened.backbone.facts());
        let mut running = self
            .foresight
            .engine
            .submit(to_moment(moment, missed, tap, purse))?;
        let mut known = vec![0; missing.len()];
        let paid_before = self.evaluations;
        while let Some(Some(first)) = self.within(next(&mut running.events)).await? {
            let mut seen: Vec<(usize, Arc<Observation>)> = Vec::new();
            // All that is there already, so that the probe sees observations in batches.
            let mut event = Some(first);
            while let Some(happened) = event {
                seen.extend(self.take_in(happened, &mut known, moment.step));
                event = running.events.try_recv().ok().transpose()?;
            }
            if !seen.is_empty() {
                let batch: Vec<(usize, Arc<Observation>)> = seen
                    .into_iter()
                    .map(|(index, observation)| (missing[index], observation))
                    .collect();
                let looks = (&words, moment, batch);
                self.predict_seen((opened, predictor), &named, looks, &mut predictions)
                    .await?;
            }
        }
        self.evaluations = paid_before + running.end();
        Ok(predictions)
    }

    /// What was predicted before.
    pub fn known(
        &self,
        predictor: &Predictor,
        handle: &Handle,
        moment: Moment,
    ) -> Result<Option<Prediction>> {
        let (metric, probe) = (&predictor.metric, predictor.id_at(moment));
        let store = &self.foresight.store;
        let record = store.prediction(handle, metric, moment.step, &probe)?;
        Ok(record.map(|r| predictor.understood(&r.prediction, moment.step)))
    }

    async fn predict_seen(
        &mut self,
        (opened, predictor): (&Opened, &Predictor),
        named: &[(Handle, Candidate)],
        (words, moment, batch): (&WordsOf, Moment, Vec<(usize, Arc<Observation>)>),
        predictions: &mut [Option<Prediction>],
    ) -> Result<()> {
        if let Some(x0) = &mut self.x0 {
            for (index, observation) in &batch {
                x0.insert((named[*index].0.clone(), moment), observation.x0.clone());
            }
        }
        let indices: Vec<usize> = batch.iter().map(|(index, _)| *index).collect();
        let words: Vec<Arc<Vec<Word>>> = indices
            .iter()
            .map(|&i| words.get(&named[i].1.prompt).cloned().unwrap_or_default())
            .collect();
        let prompts: Vec<String> = indices.iter().map(|&i| named[i].1.prompt.clone()).collect();
        let (judge, backbone) = (predictor.clone(), opened.backbone.clone());
        let predicted = blocking(move || {
            let seen: Vec<Seen<'_>> = batch
                .iter()
                .zip(&words)
                .zip(&prompts)
                .map(|(((_, observation), words), prompt)| Seen {
                    prompt,
                    observation,
                    words,
                })
                .collect();
            judge.predict(backbone.as_ref(), &seen)
        })
        .await?;
        let mut records = Vec::with_capacity(indices.len());
        for (index, prediction) in indices.into_iter().zip(predicted) {
            predictions[index] = Some(predictor.understood(&prediction, moment.step));
            // Kept as the probe said it: a correction is never fitted to what it corrected.
            records.push(PredictionRecord {
                handle: named[index].0.clone(),
                metric: predictor.metric.clone(),
                at_step: moment.step,
                probe: predictor.id_at(moment),
                prediction,
            });
        }
        self.foresight.store.keep_predictions(&records)
    }

    /// Counts what happened; hands an observation on. `known` are the steps done by each.
    fn take_in(
        &mut self,
        event: Event,
        known: &mut [usize],
        of_steps: usize,
    ) -> Option<(usize, Arc<Observation>)> {
        match event {
            Event::Stepped {
                index, steps_done, ..
            } => {
                self.done += steps_done.saturating_sub(known[index]) as u64;
                known[index] = steps_done.max(known[index]);
                self.say(&format!("step {steps_done} of {of_steps}"));
                None
            }
            Event::Observed { index, observation } => Some((index, observation)),
            Event::Glimpsed {
                index, observation, ..
            } => Some((index, observation)),
            Event::Picture { .. } => None,
        }
    }

    /// Renders `candidate` from where it was left, observed at `observe_at` with `tap` on the way.
    /// `None`: patience ended first; the trajectory is kept.
    pub async fn finish(
        &mut self,
        candidate: &Candidate,
        observe_at: Vec<usize>,
        tap: TapRequest,
    ) -> Result<(Option<Finished>, Vec<Arc<Observation>>)> {
        let work = Work {
            candidates: vec![candidate.clone()],
            to_step: candidate.settings.steps,
            observe_at,
            tap,
            glimpse: false,
            picture: true,
            purse: None,
        };
        let (mut finished, mut seen) = (None, Vec::new());
        for event in self.watch(work).await? {
            match event {
                Event::Picture {
                    picture,
                    resumed_from_step,
                    ..
                } => {
                    finished = Some(Finished {
                        picture,
                        resumed_from_step,
                    });
                }
                Event::Observed { observation, .. } => seen.push(observation),
                Event::Stepped { .. } | Event::Glimpsed { .. } => {}
            }
        }
        Ok((finished, seen))
    }

    /// Observes `candidates` at `moment` once more for their [`Call::x0`], as far as `purse` goes.
    pub async fn look_again(
        &mut self,
        opened: &Opened,
        candidates: Vec<Candidate>,
        moment: Moment,
        purse: Option<u64>,
    ) -> Result<()> {
        let handles: Vec<Handle> = candidates.iter().map(|c| opened.handle(c)).collect();
        let work = to_moment(moment, candidates, TapRequest::default(), purse);
        let events = self.watch(work).await?;
        if let Some(x0) = &mut self.x0 {
            for event in events {
                if let Event::Observed { index, observation } = event {
                    x0.insert((handles[index].clone(), moment), observation.x0.clone());
                }
            }
        }
        Ok(())
    }

    /// Counts and reports the steps of `work`, and hands on all else that happens.
    pub(super) async fn watch(&mut self, work: Work) -> Result<Vec<Event>> {
        let to_step = work.to_step;
        let mut known = vec![0; work.candidates.len()];
        let mut happened = Vec::new();
        let mut running = self.foresight.engine.submit(work)?;
        let paid_before = self.evaluations;
        while let Some(Some(event)) = self.within(next(&mut running.events)).await? {
            if matches!(event, Event::Picture { .. }) {
                happened.push(event);
            } else if let Some((index, observation)) = self.take_in(event, &mut known, to_step) {
                happened.push(Event::Observed { index, observation });
            }
        }
        // With what was begun and not told any more, where patience ended.
        self.evaluations = paid_before + running.end();
        Ok(happened)
    }

    /// What was wanted of `work`, unless the caller cancels (an error) or patience ends (`None`).
    pub async fn within<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        let deadline = self.caller.patience.map(|patience| self.started + patience);
        let patience = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.caller.cancel.cancelled() => Err(Error::Cancelled),
            () = patience => {
                self.out_of_time = true;
                Ok(None)
            }
            outcome = work => outcome.map(Some),
        }
    }

    /// What is said where there is nothing to answer yet.
    pub fn too_late(&self) -> Error {
        Error::TimeOut(self.caller.patience.unwrap_or_default())
    }

    /// Adds steps to those foreseen.
    pub fn foresee(&mut self, steps: usize) {
        // The first stands for the model's loading.
        self.of += steps as u64;
        self.done = self.done.max(1);
    }

    /// Reports how far the call has come.
    pub fn say(&self, message: &str) {
        (self.caller.progress)(Progress {
            done: self.done.min(self.of),
            of: self.of,
            message: message.to_string(),
        });
    }

    /// The last report, and what every reply carries.
    pub fn end(
        &mut self,
        model: &str,
        metric: &str,
        calibrated: bool,
        full_evaluations: u64,
    ) -> Common {
        if !self.out_of_time {
            self.done = self.of;
        }
        self.say(if self.out_of_time {
            "out of time"
        } else {
            "done"
        });
        let saved = match full_evaluations {
            0 => 0.0,
            full => (1.0 - self.evaluations as f64 / full as f64).clamp(0.0, 1.0),
        };
        Common {
            model: model.to_string(),
            metric: metric.to_string(),
            calibrated,
            complete: !self.out_of_time,
            cost: Cost {
                evaluations: self.evaluations,
                full_evaluations,
                saved_fraction: saved,
                seconds: self.started.elapsed().as_secs_f64(),
            },
        }
    }
}

/// The work that brings candidates to a moment and looks at them there.
pub(super) fn to_moment(
    moment: Moment,
    candidates: Vec<Candidate>,
    tap: TapRequest,
    purse: Option<u64>,
) -> Work {
    Work {
        candidates,
        to_step: moment.steps_done(),
        observe_at: match moment.glimpse {
            true => Vec::new(),
            false => vec![moment.step],
        },
        tap,
        glimpse: moment.glimpse,
        picture: false,
        purse,
    }
}

/// The next event; `None` at the end.
async fn next(
    events: &mut tokio::sync::mpsc::UnboundedReceiver<Result<Event>>,
) -> Result<Option<Event>> {
    events.recv().await.transpose()
}

/// Runs heavy work off the runtime's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Internal(format!("a worker ended early: {e}")))?
}

fn words_of_each_prompt(opened: &Opened, candidates: &[Candidate]) -> Result<WordsOf> {
    let mut words = HashMap::new();
    for candidate in candidates {
        if !words.contains_key(&candidate.prompt) {
            let read = Arc::new(opened.backbone.words(&candidate.prompt)?);
            words.insert(candidate.prompt.clone(), read);
        }
    }
    Ok(words)
}
