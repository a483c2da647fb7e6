//! The arguments of the tools, as agents write them: flat, with the bounds that are published and
//! enforced. What depends on the model (a width that it can draw, a step that a probe knows) is
//! checked where the model is known.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::candidate::{Handle, Seed};
use crate::foresight::requests::{
    PredictRequest, PredictingSettings, RankRequest, RefineRequest, RenderRequest, RenderWhat,
    SeedChoice, SharedSettings,
};
use crate::foresight::validate;
use crate::{Error, Result};

/// The settings that every job shares; what is left out is the model's own default.
#[derive(Deserialize, JsonSchema)]
pub struct Settings {
    model: Option<String>,
    negative_prompt: Option<String>,
    #[schemars(range(min = 1, max = validate::MAX_STEPS))]
    steps: Option<u32>,
    #[schemars(range(min = 0.0, max = validate::MAX_GUIDANCE))]
    guidance: Option<f64>,
    #[schemars(range(min = 8, max = validate::MAX_SIDE), extend("multipleOf" = 8))]
    width: Option<u32>,
    #[schemars(range(min = 8, max = validate::MAX_SIDE), extend("multipleOf" = 8))]
    height: Option<u32>,
}

/// What the predicting tools share besides.
#[derive(Deserialize, JsonSchema)]
pub struct Predicting {
    #[serde(flatten)]
    settings: Settings,
    #[schemars(range(min = 1, max = validate::MAX_STEPS))]
    at_step: Option<u32>,
    metric: Option<String>,
}

/// Which seeds are looked at.
#[derive(Deserialize, JsonSchema)]
pub struct Seeds {
    #[schemars(length(min = 1, max = validate::MAX_SEEDS), extend("uniqueItems" = true))]
    #[schemars(inner(range(min = 0, max = 4294967295u32)))]
    seeds: Option<Vec<u32>>,
    #[schemars(range(min = 1, max = validate::MAX_SEEDS))]
    count: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
pub struct Predict {
    #[schemars(length(min = 1, max = validate::MAX_PROMPT_CHARS))]
    prompt: String,
    #[serde(flatten)]
    seeds: Seeds,
    /// Draw where the first seed attends to each word.
    attention: Option<bool>,
    #[serde(flatten)]
    predicting: Predicting,
}

#[derive(Deserialize, JsonSchema)]
pub struct Rank {
    #[schemars(length(min = 1, max = validate::MAX_PROMPT_CHARS))]
    prompt: String,
    #[serde(flatten)]
    seeds: Seeds,
    /// How many of the best you need.
    #[schemars(range(min = 1, max = validate::MAX_SEEDS))]
    keep: Option<u32>,
    /// Denoiser evaluations at most.
    #[schemars(range(min = 1))]
    budget: Option<u64>,
    contact_sheet: Option<bool>,
    #[serde(flatten)]
    predicting: Predicting,
}

#[derive(Deserialize, JsonSchema)]
pub struct Refine {
    #[schemars(length(min = 1, max = validate::MAX_PROMPT_CHARS))]
    prompt: String,
    /// Your rewrites; else some are made.
    #[schemars(length(min = 1, max = validate::MAX_VARIANTS), inner(length(min = 1, max = validate::MAX_PROMPT_CHARS)))]
    variants: Option<Vec<String>>,
    /// Seeds a wording.
    #[schemars(range(min = 1, max = validate::MAX_SEEDS))]
    count: Option<u32>,
    #[schemars(range(min = 1, max = validate::MAX_ROUNDS))]
    rounds: Option<u32>,
    #[serde(flatten)]
    predicting: Predicting,
}

#[derive(Deserialize, JsonSchema)]
pub struct Render {
    /// Holds prompt, seed and settings: send none beside it.
    #[schemars(regex(pattern = r"^fs_[0-9a-f]{32}$"))]
    handle: Option<String>,
    #[schemars(length(min = 1, max = validate::MAX_PROMPT_CHARS))]
    prompt: Option<String>,
    #[schemars(range(min = 0, max = 4294967295u32))]
    seed: Option<u32>,
    /// How good the picture is to you: teaches the probe; nothing is rendered twice.
    #[schemars(range(min = 0.0, max = 1.0))]
    rating: Option<f64>,
    #[serde(flatten)]
    settings: Settings,
}

/// `list_models` takes nothing.
#[derive(Deserialize, JsonSchema)]
pub struct ListModels {}

impl From<Settings> for SharedSettings {
    fn from(s: Settings) -> Self {
        Self {
            model: s.model,
            negative_prompt: s.negative_prompt,
            steps: s.steps,
            guidance: s.guidance,
            width: s.width,
            height: s.height,
        }
    }
}

impl From<Predicting> for PredictingSettings {
    fn from(p: Predicting) -> Self {
        Self {
            shared: p.settings.into(),
            at_step: p.at_step,
            metric: p.metric,
        }
    }
}

impl From<Seeds> for SeedChoice {
    fn from(s: Seeds) -> Self {
        Self {
            seeds: s.seeds.map(|seeds| seeds.into_iter().map(Seed).collect()),
            count: s.count,
        }
    }
}

impl From<Predict> for PredictRequest {
    fn from(a: Predict) -> Self {
        Self {
            prompt: a.prompt,
            seeds: a.seeds.into(),
            attention: a.attention.unwrap_or(false),
            settings: a.predicting.into(),
        }
    }
}

impl From<Rank> for RankRequest {
    fn from(a: Rank) -> Self {
        Self {
            prompt: a.prompt,
            seeds: a.seeds.into(),
            keep: a.keep,
            budget: a.budget,
            contact_sheet: a.contact_sheet.unwrap_or(false),
            settings: a.predicting.into(),
        }
    }
}

impl From<Refine> for RefineRequest {
    fn from(a: Refine) -> Self {
        Self {
            prompt: a.prompt,
            variants: a.variants,
            count: a.count,
            rounds: a.rounds,
            settings: a.predicting.into(),
        }
    }
}

impl TryFrom<Render> for RenderRequest {
    type Error = Error;

    fn try_from(a: Render) -> Result<Self> {
        let settings: SharedSettings = a.settings.into();
        let what = match (a.handle, a.prompt, a.seed) {
            (Some(handle), None, None) if settings == SharedSettings::default() => {
                RenderWhat::Handle(Handle(handle))
            }
            (Some(handle), ..) => {
                return Err(Error::invalid(
                    "handle",
                    format!("{handle} stands beside a prompt, a seed or settings"),
                    "Send the handle alone, for its record holds them all; or leave it out",
                ));
            }
            (None, Some(prompt), Some(seed)) => RenderWhat::Candidate {
                prompt,
                seed: Seed(seed),
            },
            (None, Some(_), None) => {
                return Err(Error::invalid(
                    "seed",
                    "missing beside a prompt",
                    "Send a whole number from 0 to 4294967295, or call rank_seeds to find a good one",
                ));
            }
            (None, None, seed) => {
                return Err(Error::invalid(
                    if seed.is_some() { "prompt" } else { "handle" },
                    "missing",
                    "Send a handle from an earlier reply, or a prompt and a seed",
                ));
            }
        };
        Ok(Self {
            what,
            settings,
            rating: a.rating,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(arguments: serde_json::Value) -> Result<RenderRequest> {
        serde_json::from_value::<Render>(arguments)
            .unwrap()
            .try_into()
    }

    #[test]
    fn render_takes_a_handle_alone_or_a_prompt_and_a_seed() {
        let handle = "fs_0123456789abcdef0123456789abcdef";
        assert!(render(json!({"handle": handle})).is_ok());
        assert!(render(json!({"handle": handle, "rating": 0.5})).is_ok());
        assert!(render(json!({"prompt": "a", "seed": 1, "steps": 9})).is_ok());
        for wrong in [
            json!({}),
            json!({"seed": 1}),
            json!({"prompt": "a"}),
            json!({"handle": handle, "seed": 1}),
            json!({"handle": handle, "steps": 9}),
        ] {
            assert!(render(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
