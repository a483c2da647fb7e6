//! `render`: the finished picture of a candidate, resumed from where its trajectory was left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use image::RgbImage;

use super::call::{Call, Finished, Opened, blocking};
use super::predictor::{Predictor, Seen};
use super::replies::RenderReply;
use super::requests::{PredictingSettings, RenderRequest, RenderWhat, SharedSettings};
use super::{Caller, Foresight, advice, measure, validate};
use crate::Result;
use crate::backbones::TapRequest;
use crate::candidate::{Candidate, Handle};
use crate::models::Models;
use crate::pictures::{self, PictureMetadata};
use crate::probe::Prediction;
use crate::sampling::Observation;
use crate::store::{PredictionRecord, RATING, RenderRecord, Told};

impl Foresight {
    /// Renders a candidate to a PNG, and measures it where the model's metric can be measured here.
    /// With a rating, a picture that is there already is rated and not rendered again.
    ///
    /// # Errors
    /// An unknown handle, or an argument out of bounds, named with its value; a model that cannot be
    /// loaded or is busy; a picture that cannot be written; [`Error::Cancelled`].
    pub async fn render(&self, request: RenderRequest, caller: &Caller) -> Result<RenderReply> {
        validate::rating(request.rating)?;
        let (prompt, seed, shared) = match &request.what {
            RenderWhat::Handle(handle) => {
                validate::handle(handle)?;
                validate::no_settings(&request.settings)?;
                let candidate = self
                    .store
                    .recall(handle)?
                    .ok_or_else(|| validate::unknown_handle(handle))?;
                if let Some(rating) = request.rating
                    && let Some(reply) = self.rate(&candidate, handle, rating, caller)?
                {
                    return Ok(reply);
                }
                (
                    candidate.prompt,
                    candidate.seed,
                    recorded(&candidate.settings),
                )
            }
            RenderWhat::Candidate { prompt, seed } => {
                validate::prompt("prompt", prompt)?;
                (prompt.clone(), *seed, request.settings.clone())
            }
        };
        validate::shared(&shared)?;
        let name = self.model_for(&prompt, shared.model.as_deref())?;

        let mut call = Call::begin(self, caller);
        let Some(opened) = call.open(&shared).await? else {
            let handle = match request.what {
                RenderWhat::Handle(handle) => handle,
                // Its name depends on the weights, which are still being read.
                RenderWhat::Candidate { .. } => Handle(String::new()),
            };
            return Ok(RenderReply {
                path: None,
                shown: None,
                seed,
                prompt,
                predicted: None,
                measured: BTreeMap::new(),
                resumed_from_step: 0,
                handle,
                next: Some(advice::go_on("render")),
                common: call.end(&name, "unknown", false, 0),
            });
        };
        let candidate = opened.candidate(&prompt, seed);
        let handle = opened.handle(&candidate);
        if let RenderWhat::Handle(asked) = &request.what
            && *asked != handle
        {
            return Err(validate::other_weights(asked, &name));
        }
        let fingerprint = &opened.backbone.facts().fingerprint;
        self.store
            .remember(fingerprint, &[(handle.clone(), candidate.clone())])?;
        if let Some(rating) = request.rating
            && let Some(reply) = self.rate(&candidate, &handle, rating, caller)?
        {
            return Ok(reply);
        }
        call.foresee(opened.settings.steps);
        let (finished, foreseen) = render(&mut call, &opened, &candidate, &handle).await?;
        if finished.is_some()
            && let Some(rating) = request.rating
        {
            self.store.keep_score(&handle, RATING, rating)?;
        }
        reply(&mut call, &opened, candidate, handle, finished, foreseen).await
    }
}

/// A record's settings as a request would send them.
pub(super) fn recorded(settings: &crate::candidate::Settings) -> SharedSettings {
    SharedSettings {
        model: Some(settings.model.clone()),
        negative_prompt: settings.negative_prompt.clone(),
        steps: Some(settings.steps as u32),
        guidance: Some(settings.guidance),
        width: Some(settings.width as u32),
        height: Some(settings.height as u32),
    }
}

/// What was foreseen of a candidate, and by whom.
struct Foreseen {
    predictor: Option<Predictor>,
    prediction: Option<Prediction>,
    /// The last step at which it had been predicted when the render was asked for.
    chosen_after: usize,
}

/// Denoises to the end. The probe predicts at every step on the way at which it did not before, so
/// that every render can be held against its predictions.
async fn render(
    call: &mut Call<'_>,
    opened: &Opened,
    candidate: &Candidate,
    handle: &Handle,
) -> Result<(Option<Finished>, Foreseen)> {
    let predictor = match opened.settings.steps {
        0 | 1 => None,
        _ => Some(call.predictor(opened, &PredictingSettings::default())?),
    };
    let store = &call.foresight.store;
    let chosen_after = match store.render_of(handle)? {
        // What was predicted on the way of that render did not choose it.
        Some(earlier) => earlier.chosen_after,
        None => store.predicted_up_to(handle)?,
    };
    let Some(judge) = &predictor else {
        let (finished, _) = call
            .finish(candidate, Vec::new(), TapRequest::default())
            .await?;
        let foreseen = Foreseen {
            predictor,
            prediction: None,
            chosen_after,
        };
        return Ok((finished, foreseen));
    };
    let mut known = known(call, judge, handle)?;
    let ahead = judge.watched.iter().copied();
    let ahead: Vec<usize> = ahead
        .filter(|step| *step > chosen_after && !known.contains_key(step))
        .collect();
    let tap = judge.tap(opened.backbone.facts());
    let (finished, seen) = call.finish(candidate, ahead, tap).await?;
    let records = predict_seen(opened, judge, candidate, handle, seen).await?;
    call.foresight.store.keep_predictions(&records)?;
    for record in records {
        known.insert(record.at_step, record.prediction);
    }
    let told_at = known.range(..=chosen_after).next_back();
    let told_at = told_at.or_else(|| known.get_key_value(&judge.at_step));
    let prediction = told_at.map(|(step, own)| judge.understood(own, *step));
    let foreseen = Foreseen {
        predictor,
        prediction,
        chosen_after,
    };
    Ok((finished, foreseen))
}

/// The predictor's own predictions so far, by step.
fn known(
    call: &Call<'_>,
    predictor: &Predictor,
    handle: &Handle,
) -> Result<BTreeMap<usize, Prediction>> {
    let mut known = BTreeMap::new();
    for &step in predictor.watched.iter().chain(&predictor.at_steps) {
        let store = &call.foresight.store;
        let record = store.prediction(handle, &predictor.metric, step, predictor.id())?;
        known.extend(record.map(|r| (step, r.prediction)));
    }
    Ok(known)
}

/// What the probe says of what was seen on the way.
async fn predict_seen(
    opened: &Opened,
    predictor: &Predictor,
    candidate: &Candidate,
    handle: &Handle,
    seen: Vec<Arc<Observation>>,
) -> Result<Vec<PredictionRecord>> {
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    let words = opened.backbone.words(&candidate.prompt)?;
    let steps: Vec<usize> = seen.iter().map(|o| o.steps_done).collect();
    let (judge, backbone) = (predictor.clone(), opened.backbone.clone());
    let prompt = candidate.prompt.clone();
    let predicted = blocking(move || {
        let seen: Vec<Seen<'_>> = seen
            .iter()
            .map(|observation| Seen {
                prompt: &prompt,
                observation,
                words: &words,
            })
            .collect();
        judge.predict(backbone.as_ref(), &seen)
    })
    .await?;
    let record = |(at_step, prediction)| PredictionRecord {
        handle: handle.clone(),
        metric: predictor.metric.clone(),
        at_step,
        probe: predictor.id().to_string(),
        prediction,
    };
    Ok(steps.into_iter().zip(predicted).map(record).collect())
}

/// Measures the picture, writes it with its record, and answers.
async fn reply(
    call: &mut Call<'_>,
    opened: &Opened,
    candidate: Candidate,
    handle: Handle,
    finished: Option<Finished>,
    foreseen: Foreseen,
) -> Result<RenderReply> {
    let predicted = foreseen.prediction.as_ref().map(|p| p.quality);
    let metric = foreseen
        .predictor
        .as_ref()
        .map_or("none", |p| &p.metric)
        .to_string();
    let calibrated = foreseen
        .prediction
        .as_ref()
        .is_some_and(|p| p.interval.is_some());
    let full = opened.full_evaluations(1);
    let model = opened.settings.model.clone();
    let (prompt, seed) = (candidate.prompt.clone(), candidate.seed);
    let Some(finished) = finished else {
        return Ok(RenderReply {
            path: None,
            shown: None,
            seed,
            prompt,
            predicted,
            measured: BTreeMap::new(),
            resumed_from_step: 0,
            handle,
            next: Some(advice::go_on("render")),
            common: call.end(&model, &metric, calibrated, full),
        });
    };
    call.say("measuring and writing the picture");
    let Foresight { out, writes, .. } = call.foresight;
    let path = writes.then(|| out.join(pictures::picture_name(&candidate, &handle)));
    let measured = write(
        finished.picture.clone(),
        (call.foresight.models.clone(), metric.clone()),
        candidate,
        &handle,
        predicted,
        path.clone(),
    )
    .await?;
    call.foresight.store.keep_render(&RenderRecord {
        handle: handle.clone(),
        path: path.clone().unwrap_or_default(),
        measured,
        rendered_at: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        chosen_after: foreseen.chosen_after,
        told: Some(Told {
            metric: metric.clone(),
            calibrated,
            predicted,
            full_evaluations: full,
        }),
    })?;
    // With what was said of it before.
    let kept = call.foresight.store.render_of(&handle)?;
    let measured = kept.map(|r| r.measured).unwrap_or_default();
    // Whatever the clock says, the picture is there.
    call.out_of_time = false;
    Ok(RenderReply {
        path,
        shown: Some(finished.picture),
        seed,
        prompt,
        predicted,
        measured,
        resumed_from_step: finished.resumed_from_step as u32,
        handle,
        next: None,
        common: call.end(&model, &metric, calibrated, full),
    })
}

async fn write(
    picture: Arc<RgbImage>,
    (models, metric): (Arc<Models>, String),
    candidate: Candidate,
    handle: &Handle,
    predicted: Option<f64>,
    path: Option<PathBuf>,
) -> Result<BTreeMap<String, f64>> {
    let handle = handle.0.clone();
    blocking(move || {
        let model = &candidate.settings.model;
        let measured = measure::scores(&models, model, &metric, &candidate.prompt, &picture)?;
        let Some(path) = path else {
            return Ok(measured);
        };
        let metadata = PictureMetadata {
            candidate,
            handle,
            predicted,
            measured: measured.clone(),
            software: concat!("foreseed ", env!("CARGO_PKG_VERSION")).to_string(),
        };
        pictures::write_png(&path, &picture, &metadata)?;
        Ok(measured)
    })
    .await
}
