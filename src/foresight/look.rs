//! A candidate looked at once more: what its picture was going to be when it was judged, and where in
//! it each word of the prompt is attended to.

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;

use super::call::{Call, Opened, blocking, to_moment};
use super::predictor::Predictor;
use super::race::Moment;
use super::requests::PredictingSettings;
use super::sheet::{self, Sheet};
use super::weak_words::is_empty_word;
use super::{Caller, Foresight, render, validate};
use crate::Result;
use crate::backbones::{TapRequest, Word};
use crate::candidate::{Candidate, Handle};
use crate::engine::Event;
use crate::pictures::{self, Tile, WordHeat};
use crate::probe::attention_of_words;
use crate::sampling::Observation;

/// So many words are drawn, from the first on; more would be stamps.
const DRAWN: usize = 24;

impl Foresight {
    /// What the picture of a candidate was going to be when it was last judged or, where it never
    /// was, at the step at which it would be.
    ///
    /// # Errors
    /// An unknown handle; a model that cannot be loaded or is busy; [`crate::Error::TimeOut`];
    /// [`crate::Error::Cancelled`].
    pub async fn preview(&self, handle: &Handle, caller: &Caller) -> Result<RgbImage> {
        let mut call = Call::begin(self, caller);
        let (opened, candidate, predictor) = again(&mut call, handle).await?;
        let step = judged_at(self, handle, &predictor)?;
        let seen = call.look(&candidate, step, TapRequest::default()).await?;
        let seen = seen.ok_or_else(|| call.too_late())?;
        let backbone = opened.backbone.clone();
        blocking(move || sheet::preview(backbone.as_ref(), &seen.x0)).await
    }

    /// Where in that picture each word is attended to, as the tiles of a sheet.
    ///
    /// # Errors
    /// As [`Self::preview`].
    pub async fn attention(&self, handle: &Handle, caller: &Caller) -> Result<Sheet> {
        let mut call = Call::begin(self, caller);
        let (opened, candidate, predictor) = again(&mut call, handle).await?;
        let step = judged_at(self, handle, &predictor)?;
        let tiles = attend(&mut call, &opened, &predictor, &candidate, step).await?;
        let tiles = tiles.ok_or_else(|| call.too_late())?;
        Ok(Sheet::of(title(&candidate, step), tiles))
    }
}

/// What a handle stands for, with its model and who predicts of it.
async fn again(call: &mut Call<'_>, handle: &Handle) -> Result<(Opened, Candidate, Predictor)> {
    validate::handle(handle)?;
    let foresight = call.foresight;
    let candidate = foresight.store.recall(handle)?;
    let candidate = candidate.ok_or_else(|| validate::unknown_handle(handle))?;
    let shared = render::recorded(&candidate.settings);
    let opened = call.open(&shared).await?.ok_or_else(|| call.too_late())?;
    if opened.handle(&candidate) != *handle {
        return Err(validate::other_weights(handle, &candidate.settings.model));
    }
    let predictor = call.predictor(&opened, &PredictingSettings::default())?;
    Ok((opened, candidate, predictor))
}

/// The step after which it was last judged.
fn judged_at(foresight: &Foresight, handle: &Handle, predictor: &Predictor) -> Result<usize> {
    Ok(match foresight.store.render_of(handle)? {
        // A render is predicted at every step on its way, but it was chosen before.
        Some(render) if render.chosen_after > 0 => render.chosen_after,
        Some(_) => predictor.at_step,
        None => match foresight.store.predicted_up_to(handle)? {
            0 => predictor.at_step,
            step => step,
        },
    })
}

fn title(candidate: &Candidate, step: usize) -> String {
    format!(
        "seed {}, after step {step}, where each word is attended to: {}",
        candidate.seed, candidate.prompt
    )
}

impl Call<'_> {
    /// Observes a candidate after `step` steps. `None`: patience ended first.
    async fn look(
        &mut self,
        candidate: &Candidate,
        step: usize,
        tap: TapRequest,
    ) -> Result<Option<Arc<Observation>>> {
        let work = to_moment(Moment::after(step), vec![candidate.clone()], tap, None);
        let events = self.watch(work).await?;
        Ok(events.into_iter().find_map(|event| match event {
            Event::Observed { observation, .. } => Some(observation),
            _ => None,
        }))
    }
}

/// Draws where each word of a candidate is attended to and, where pictures are written, writes it.
/// `None`: patience ended first.
pub(super) async fn draw(
    call: &mut Call<'_>,
    opened: &Opened,
    predictor: &Predictor,
    candidate: &Candidate,
) -> Result<Option<(Option<PathBuf>, Arc<RgbImage>)>> {
    call.say("drawing the attention");
    let step = predictor.at_step;
    let Some(tiles) = attend(call, opened, predictor, candidate, step).await? else {
        return Ok(None);
    };
    let name = pictures::picture_name(candidate, &opened.handle(candidate));
    let name = format!("attention-of-{}-{name}", tiles.len());
    let sheet = Sheet::of(title(candidate, step), tiles);
    Ok(Some(sheet.write(call.foresight, &name).await?))
}

async fn attend(
    call: &mut Call<'_>,
    opened: &Opened,
    predictor: &Predictor,
    candidate: &Candidate,
    step: usize,
) -> Result<Option<Vec<Tile>>> {
    let facts = opened.backbone.facts();
    let mut tap = predictor.tap(facts);
    if tap.blocks.is_empty() {
        tap.blocks = facts.default_tap.clone();
    }
    let Some(seen) = call.look(candidate, step, tap).await? else {
        return Ok(None);
    };
    let words = opened.backbone.words(&candidate.prompt)?;
    let handle = opened.handle(candidate);
    let store = &call.foresight.store;
    let mut risks = Vec::new();
    // A race may have judged it half-way into the step.
    for glimpse in [true, false] {
        let said_by = predictor.id_at(Moment { step, glimpse });
        let record = store.prediction(&handle, &predictor.metric, step, &said_by)?;
        risks = record.map_or(risks, |r| r.prediction.word_risks);
    }
    let backbone = opened.backbone.clone();
    blocking(move || {
        let picture = sheet::preview(backbone.as_ref(), &seen.x0)?;
        let heats = heats(&seen, &words, &risks)?;
        Ok(Some(pictures::attention_tiles(&picture, &heats)))
    })
    .await
}

/// The heat of each word that a part of the picture can belong to, in the order of the prompt.
fn heats(seen: &Observation, words: &[Word], risks: &[f64]) -> Result<Vec<WordHeat>> {
    let maps = attention_of_words(seen, words)?;
    let drawn = words.iter().zip(maps.of_words).enumerate();
    let drawn = drawn.filter(|(_, (word, _))| !is_empty_word(&word.text));
    Ok(drawn
        .filter_map(|(n, (word, heat))| {
            Some(WordHeat {
                word: word.text.clone(),
                risk: risks.get(n).copied().filter(|risk| risk.is_finite()),
                width: maps.width,
                height: maps.height,
                heat: heat?,
            })
        })
        .take(DRAWN)
        .collect())
}
