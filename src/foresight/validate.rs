//! What is refused before any work is done. Every refusal names the field, the value that was seen
//! and what would be right. Nothing here touches the file system: a model or handle that looks like
//! a path is only ever compared.

use std::collections::BTreeSet;

use super::requests::{RefineRequest, SeedChoice, SharedSettings};
use crate::backbones::Facts;
use crate::candidate::{Handle, Seed, Settings};
use crate::{Error, Result};

/// Longer prompts than this are a mistake: text encoders read 77 to 512 tokens of them.
pub const MAX_PROMPT_CHARS: usize = 4000;
/// Samplers gain nothing beyond this, and a typing error would cost hours.
pub const MAX_STEPS: u32 = 200;
pub const MAX_GUIDANCE: f64 = 50.0;
pub const MIN_SIDE: usize = 64;
pub const MAX_SIDE: usize = 2048;
/// A model made for one size is driven to at most this many times its width or height, and as many
/// times its area: attention's memory grows with the square of the area.
pub const MAX_STRETCH: usize = 4;
pub const MAX_SEEDS: usize = 256;
pub const MAX_VARIANTS: usize = 16;
pub const MAX_ROUNDS: u32 = 4;

/// A value as an error shows it: on one line, and short, however long it is.
pub fn shown(text: &str) -> String {
    const AT_MOST: usize = 60;
    let count = text.chars().count();
    if count <= AT_MOST {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(AT_MOST).collect();
    format!("{start:?}… ({count} characters)")
}

/// A text to be drawn: something in it, and not a book.
pub fn prompt(field: &'static str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::invalid(
            field,
            format!("{} is empty", shown(text)),
            "Say what the image should show",
        ));
    }
    length(field, text)
}

fn length(field: &'static str, text: &str) -> Result<()> {
    if text.chars().count() > MAX_PROMPT_CHARS {
        return Err(Error::invalid(
            field,
            format!("{} is too long", shown(text)),
            format!(
                "Send at most {MAX_PROMPT_CHARS} characters; text encoders read a few hundred words"
            ),
        ));
    }
    Ok(())
}

/// What can be told of the settings before the model is known.
pub fn shared(settings: &SharedSettings) -> Result<()> {
    if let Some(negative) = &settings.negative_prompt {
        length("negative_prompt", negative)?;
    }
    if let Some(steps) = settings.steps
        && !(1..=MAX_STEPS).contains(&steps)
    {
        return Err(Error::invalid(
            "steps",
            format!("{steps} is out of range"),
            format!("Send 1 to {MAX_STEPS}: beyond that, samplers gain nothing"),
        ));
    }
    if let Some(guidance) = settings.guidance
        && !(guidance.is_finite() && (0.0..=MAX_GUIDANCE).contains(&guidance))
    {
        return Err(Error::invalid(
            "guidance",
            format!("{guidance} is out of range"),
            format!("Send a number from 0 to {MAX_GUIDANCE}; at 1 or below guidance is off"),
        ));
    }
    for (field, side) in [("width", settings.width), ("height", settings.height)] {
        if let Some(side) = side
            && !(1..=MAX_SIDE).contains(&(side as usize))
        {
            return Err(Error::invalid(
                field,
                format!("{side} pixels is out of range"),
                format!("Send {MIN_SIDE} to {MAX_SIDE}"),
            ));
        }
    }
    Ok(())
}

/// The settings in full: what was left out is the model's own, and the size is one it can draw.
pub fn complete(settings: &SharedSettings, model: &str, facts: &Facts) -> Result<Settings> {
    shared(settings)?;
    let width = side("width", settings.width, facts.default_width, facts)?;
    let height = side("height", settings.height, facts.default_height, facts)?;
    let default_area = facts.default_width * facts.default_height;
    if width * height > MAX_STRETCH * default_area {
        return Err(Error::invalid(
            "width",
            format!("{width}×{height} is too large for {model}"),
            format!(
                "It is made for {}×{}: send at most {MAX_STRETCH} times as many pixels in all",
                facts.default_width, facts.default_height
            ),
        ));
    }
    Ok(Settings {
        model: model.to_string(),
        negative_prompt: settings.negative_prompt.clone(),
        steps: settings.steps.map_or(facts.default_steps, |s| s as usize),
        guidance: settings.guidance.unwrap_or(facts.default_guidance),
        width,
        height,
    })
}

fn side(field: &'static str, asked: Option<u32>, default: usize, facts: &Facts) -> Result<usize> {
    let Some(asked) = asked else {
        return Ok(default);
    };
    let asked = asked as usize;
    let multiple = facts.size_multiple.max(1);
    let least = MIN_SIDE.min(default).next_multiple_of(multiple);
    let most = MAX_SIDE.min(MAX_STRETCH * default) / multiple * multiple;
    if asked.is_multiple_of(multiple) && (least..=most).contains(&asked) {
        return Ok(asked);
    }
    Err(Error::invalid(
        field,
        format!("{asked} pixels does not fit this model"),
        format!("Send a multiple of {multiple} from {least} to {most}, e.g. {default}"),
    ))
}

/// The seeds that were asked for: these, or the first so many from 0 on, so that the same call is
/// the same work.
pub fn seeds(choice: &SeedChoice, default_count: u32) -> Result<Vec<Seed>> {
    let Some(seeds) = &choice.seeds else {
        let asked = choice.count.unwrap_or(default_count);
        return Ok((0..count("count", asked)?).map(Seed).collect());
    };
    if let Some(count) = choice.count {
        return Err(Error::invalid(
            "count",
            format!("{count} was sent together with seeds"),
            "Send seeds or count, not both",
        ));
    }
    if seeds.is_empty() || seeds.len() > MAX_SEEDS {
        return Err(Error::invalid(
            "seeds",
            format!("{} seeds were sent", seeds.len()),
            format!("Send 1 to {MAX_SEEDS} of them"),
        ));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = seeds.iter().find(|seed| !seen.insert(**seed)) {
        return Err(Error::invalid(
            "seeds",
            format!("{twice} was sent twice"),
            "Send each seed once: the same seed is the same image",
        ));
    }
    Ok(seeds.clone())
}

/// How many seeds: from 1 to [`MAX_SEEDS`].
pub fn count(field: &'static str, count: u32) -> Result<u32> {
    if (1..=MAX_SEEDS as u32).contains(&count) {
        return Ok(count);
    }
    Err(Error::invalid(
        field,
        format!("{count} is out of range"),
        format!("Send 1 to {MAX_SEEDS}"),
    ))
}

/// The step to predict at: at least one step done, at least one left.
pub fn at_step(at_step: Option<u32>, steps: usize) -> Result<()> {
    if steps < 2 {
        return Err(Error::invalid(
            "steps",
            format!("{steps} leaves nothing to predict"),
            "Send 2 or more: a prediction is made between two steps",
        ));
    }
    if let Some(at) = at_step
        && !(1..steps).contains(&(at as usize))
    {
        return Err(Error::invalid(
            "at_step",
            format!("{at} is out of range"),
            format!("Send 1 to {}: one less than the {steps} steps", steps - 1),
        ));
    }
    Ok(())
}

/// How good somebody found a picture.
pub fn rating(rating: Option<f64>) -> Result<()> {
    match rating {
        Some(rating) if !(0.0..=1.0).contains(&rating) => Err(Error::invalid(
            "rating",
            format!("{rating} is out of range"),
            "Send a number from 0 (useless) to 1 (just what was wanted)",
        )),
        _ => Ok(()),
    }
}

/// How many of `count` seeds are to be kept.
pub fn keep(keep: Option<u32>, count: usize) -> Result<usize> {
    match keep {
        None => Ok(1),
        Some(keep) if (1..=count).contains(&(keep as usize)) => Ok(keep as usize),
        Some(keep) => Err(Error::invalid(
            "keep",
            format!("{keep} is out of range"),
            format!("Send 1 to {count}, the number of seeds"),
        )),
    }
}

/// Budgets below `least` cannot bring every seed to the first step that can be predicted at.
pub fn budget(budget: Option<u64>, least: u64, first_step: usize, seeds: usize) -> Result<()> {
    match budget {
        Some(budget) if budget < least => Err(Error::invalid(
            "budget",
            format!("{budget} denoiser evaluations are too few"),
            format!(
                "Send at least {least}: bringing {seeds} seeds to step {first_step} costs that much; \
                 or ask for fewer seeds"
            ),
        )),
        _ => Ok(()),
    }
}

/// The wordings, their number, and the rounds.
pub fn refinement(request: &RefineRequest) -> Result<()> {
    prompt("prompt", &request.prompt)?;
    if let Some(variants) = &request.variants {
        if variants.is_empty() || variants.len() > MAX_VARIANTS {
            return Err(Error::invalid(
                "variants",
                format!("{} were sent", variants.len()),
                format!("Send 1 to {MAX_VARIANTS} rewrites, or leave them out to have them made"),
            ));
        }
        for variant in variants {
            prompt("variants", variant)?;
        }
    }
    if let Some(seeds) = request.count {
        count("count", seeds)?;
    }
    if let Some(rounds) = request.rounds
        && !(1..=MAX_ROUNDS).contains(&rounds)
    {
        return Err(Error::invalid(
            "rounds",
            format!("{rounds} is out of range"),
            format!("Send 1 to {MAX_ROUNDS}"),
        ));
    }
    Ok(())
}

/// A handle has one form; anything else was never given out.
pub fn handle(handle: &Handle) -> Result<()> {
    let hex = handle.0.strip_prefix("fs_").unwrap_or("");
    if hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(Error::invalid(
        "handle",
        format!("{} is not a handle", shown(&handle.0)),
        "Send one that predict_quality or rank_seeds gave (fs_ and 32 hex digits), or send prompt \
         and seed instead",
    ))
}

/// The error for a well-formed handle that was never given out.
pub fn unknown_handle(handle: &Handle) -> Error {
    Error::invalid(
        "handle",
        format!("{handle} was never given out here"),
        "Send one that predict_quality or rank_seeds gave, or send prompt and seed instead",
    )
}

/// The error for a handle whose model's weights are no longer those it was given out for.
pub fn other_weights(handle: &Handle, model: &str) -> Error {
    Error::invalid(
        "handle",
        format!("{handle} belongs to other weights of {model}, which have changed since"),
        "Predict again with the weights that are there now, or send prompt and seed",
    )
}

/// With a handle no setting may be sent: its record holds them all.
pub fn no_settings(settings: &SharedSettings) -> Result<()> {
    let sent = [
        ("model", settings.model.is_some()),
        ("negative_prompt", settings.negative_prompt.is_some()),
        ("steps", settings.steps.is_some()),
        ("guidance", settings.guidance.is_some()),
        ("width", settings.width.is_some()),
        ("height", settings.height.is_some()),
    ];
    match sent.into_iter().find(|(_, sent)| *sent) {
        None => Ok(()),
        Some((field, _)) => Err(Error::invalid(
            field,
            "it was sent together with a handle, which holds its own settings",
            "Leave it out, or send prompt and seed instead of the handle",
        )),
    }
}

/// The same refusal, said of the argument that held `value`.
pub fn about(field: &'static str, value: &str, error: Error) -> Error {
    match error {
        Error::Invalid { problem, help, .. } => Error::Invalid {
            field,
            problem: format!("{}: {problem}", shown(value)),
            help,
        },
        other => other,
    }
}

/// One name out of those there are.
pub fn one_of(field: &'static str, value: &str, known: &[String], otherwise: &str) -> Result<()> {
    if known.iter().any(|k| k == value) {
        return Ok(());
    }
    let known = match known {
        [] => "there is none".to_string(),
        known => known.join(", "),
    };
    Err(Error::invalid(
        field,
        format!("{} is not known", shown(value)),
        format!("Known: {known}. {otherwise}"),
    ))
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
