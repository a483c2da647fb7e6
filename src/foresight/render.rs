//! `render`: the finished picture of a candidate, resumed from where its trajectory was left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use image::RgbImage;

use super::call::{Call, Finished, Opened, blocking};
use super::predictor::Predictor;
use super::replies::RenderReply;
use super::requests::{PredictingSettings, RenderRequest, RenderWhat, SharedSettings};
use super::{Caller, Foresight, advice, measure, validate};
use crate::backbones::{TapRequest, Word};
use crate::candidate::{Candidate, Handle};
use crate::pictures::{self, PictureMetadata};
use crate::probe::Prediction;
use crate::sampling::Observation;
use crate::store::{PredictionRecord, RenderRecord};
use crate::{Error, Result};

impl Foresight {
    /// Renders a candidate to a PNG, and measures it where the model's metric can be measured here.
    ///
    /// # Errors
    /// An unknown handle, or an argument out of bounds, named with its value; a model that cannot be
    /// loaded or is busy; a picture that cannot be written; [`Error::Cancelled`].
    pub async fn render(&self, request: RenderRequest, caller: &Caller) -> Result<RenderReply> {
        let (prompt, seed, shared) = match &request.what {
            RenderWhat::Handle(handle) => {
                validate::handle(handle)?;
                validate::no_settings(&request.settings)?;
                let candidate = self
                    .store
                    .recall(handle)?
                    .ok_or_else(|| validate::unknown_handle(handle))?;
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
            return Err(Error::invalid(
                "handle",
                format!("{asked} belongs to other weights of {name}, which have changed since"),
                "Predict again with the weights that are there now, or send prompt and seed",
            ));
        }
        self.store
            .remember(&[(handle.clone(), candidate.clone())])?;
        call.foresee(opened.settings.steps);
        let (finished, foreseen) = render(&mut call, &opened, &candidate, &handle).await?;
        reply(&mut call, &opened, candidate, handle, finished, foreseen).await
    }
}

/// A record's settings as a request would send them.
fn recorded(settings: &crate::candidate::Settings) -> SharedSettings {
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
}

/// Denoises to the end. A candidate that nobody predicted is predicted on the way, so that every
/// render can be held against its prediction.
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
    let mut prediction = match &predictor {
        Some(predictor) => known(call, predictor, handle)?,
        None => None,
    };
    let (observe_at, tap) = match &predictor {
        Some(p) if prediction.is_none() && p.is_calibrated() => {
            (vec![p.at_step], p.tap(opened.backbone.facts()))
        }
        _ => (Vec::new(), TapRequest::default()),
    };
    let (finished, observation) = call.finish(candidate, observe_at, tap).await?;
    if let (Some(predictor), Some(observation)) = (&predictor, observation) {
        let words = opened.backbone.words(&candidate.prompt)?;
        prediction = predict_one(predictor.clone(), observation, words).await?;
        if let Some(prediction) = &prediction {
            call.foresight.store.keep_predictions(&[PredictionRecord {
                handle: handle.clone(),
                metric: predictor.metric.clone(),
                at_step: predictor.at_step,
                probe: predictor.id().to_string(),
                prediction: prediction.clone(),
            }])?;
        }
    }
    Ok((
        finished,
        Foreseen {
            predictor,
            prediction,
        },
    ))
}

/// The prediction made at the latest step, if any was made.
fn known(call: &Call<'_>, predictor: &Predictor, handle: &Handle) -> Result<Option<Prediction>> {
    for &step in predictor.at_steps.iter().rev() {
        let store = &call.foresight.store;
        let record = store.prediction(handle, &predictor.metric, step, predictor.id())?;
        if let Some(record) = record {
            return Ok(Some(record.prediction));
        }
    }
    Ok(None)
}

async fn predict_one(
    predictor: Predictor,
    observation: Arc<Observation>,
    words: Vec<Word>,
) -> Result<Option<Prediction>> {
    let predicted =
        blocking(move || predictor.predict(&[(observation.as_ref(), words.as_slice())])).await?;
    Ok(predicted.into_iter().next())
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
    let path = call
        .foresight
        .out
        .join(pictures::picture_name(&candidate, &handle));
    let closed_world = call.foresight.models.draws_shapes_only(&model)?;
    let measured = write(
        finished.picture,
        closed_world,
        candidate,
        &handle,
        predicted,
        path.clone(),
    )
    .await?;
    call.foresight.store.keep_render(&RenderRecord {
        handle: handle.clone(),
        path: path.clone(),
        measured: measured.clone(),
        rendered_at: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    })?;
    // Whatever the clock says, the picture is there.
    call.out_of_time = false;
    Ok(RenderReply {
        path: Some(path),
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
    closed_world: bool,
    candidate: Candidate,
    handle: &Handle,
    predicted: Option<f64>,
    path: PathBuf,
) -> Result<BTreeMap<String, f64>> {
    let handle = handle.0.clone();
    blocking(move || {
        let measured = if closed_world {
            measure::scores(&candidate.prompt, &picture)?
        } else {
            BTreeMap::new()
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
