//! `predict_quality`: how good a prompt's images will be, seed by seed and over seeds.

use super::call::{Call, Opened};
use super::predictor::Predictor;
use super::race::Moment;
use super::replies::{CandidatePrediction, PredictReply, WeakWord};
use super::requests::PredictRequest;
use super::uncertainty::{prompt_mean, prompt_risk};
use super::weak_words::weak_words;
use super::{Caller, Foresight, advice, look, validate};
use crate::Result;
use crate::candidate::Candidate;
use crate::probe::Prediction;

/// Enough to tell a prompt's mean from its spread.
const DEFAULT_COUNT: u32 = 4;

impl Foresight {
    /// Brings each seed of the prompt to the step of the prediction and says what it will come to.
    ///
    /// # Errors
    /// An argument out of bounds, named with its value; a model that cannot be loaded or is busy;
    /// [`crate::Error::Cancelled`].
    pub async fn predict(&self, request: PredictRequest, caller: &Caller) -> Result<PredictReply> {
        let asked = &request.settings;
        validate::prompt("prompt", &request.prompt)?;
        validate::shared(&asked.shared)?;
        let seeds = validate::seeds(&request.seeds, DEFAULT_COUNT)?;
        let name = self.model_for(&request.prompt, asked.shared.model.as_deref())?;

        let mut call = Call::begin(self, caller);
        let Some(opened) = call.open(&asked.shared).await? else {
            let metric = asked.metric.as_deref().unwrap_or("unknown");
            return Ok(PredictReply {
                expected_quality: None,
                interval: None,
                prompt_risk: None,
                candidates: Vec::new(),
                weak_words: Vec::new(),
                attention: None,
                shown: None,
                advice: advice::go_on("predict_quality"),
                common: call.end(&name, metric, false, 0),
            });
        };
        let predictor = call.predictor(&opened, asked)?;
        let at_step = predictor.at_step;
        let candidates: Vec<Candidate> = seeds
            .iter()
            .map(|seed| opened.candidate(&request.prompt, *seed))
            .collect();
        call.foresee(candidates.len() * at_step);
        let predictions = call
            .predictions(
                &opened,
                &predictor,
                &candidates,
                Moment::after(at_step),
                None,
            )
            .await?;
        let drawn = match request.attention && !call.out_of_time {
            true => look::draw(&mut call, &opened, &predictor, &candidates[0]).await?,
            false => None,
        };
        let mut reply = reply(&mut call, &opened, &predictor, &candidates, &predictions)?;
        if let Some((attention, shown)) = drawn {
            (reply.attention, reply.shown) = (attention, Some(shown));
        }
        Ok(reply)
    }
}

fn reply(
    call: &mut Call<'_>,
    opened: &Opened,
    predictor: &Predictor,
    candidates: &[Candidate],
    predictions: &[Option<Prediction>],
) -> Result<PredictReply> {
    let known: Vec<&Prediction> = predictions.iter().flatten().collect();
    let expected = prompt_mean(&known, predictor.range(), predictor.shares());
    let risk = prompt_risk(&known);
    let weak_words = weak_words_of(opened, &candidates[0].prompt, &known)?;
    let candidates_out: Vec<CandidatePrediction> = candidates
        .iter()
        .zip(predictions)
        .filter_map(|(candidate, prediction)| {
            prediction.as_ref().map(|p| CandidatePrediction {
                seed: candidate.seed,
                quality: p.quality,
                interval: p.interval,
                p_good: p.p_good,
                handle: opened.handle(candidate),
            })
        })
        .collect();
    let model = &opened.settings.model;
    let advice = if call.out_of_time {
        advice::go_on("predict_quality")
    } else if let Some(caveat) = predictor.caveat(model) {
        caveat
    } else {
        advice::about_prompt(risk.unwrap_or(1.0), &candidates_out, &weak_words)
    };
    Ok(PredictReply {
        expected_quality: expected.map(|e| e.point),
        interval: expected.and_then(|e| e.interval),
        prompt_risk: risk,
        candidates: candidates_out,
        weak_words,
        attention: None,
        shown: None,
        advice,
        common: call.end(
            model,
            &predictor.metric,
            predictor.is_calibrated(),
            opened.full_evaluations(candidates.len()),
        ),
    })
}

/// The weak words of a prompt, as its predictions see them.
pub(super) fn weak_words_of(
    opened: &Opened,
    prompt: &str,
    predictions: &[&Prediction],
) -> Result<Vec<WeakWord>> {
    Ok(weak_words(&opened.backbone.words(prompt)?, predictions))
}
