//! What can be asked, field by field as agents and people name it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::candidate::{Handle, Seed};

/// The optional settings that every job shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedSettings {
    pub model: Option<String>,
    pub negative_prompt: Option<String>,
    pub steps: Option<u32>,
    pub guidance: Option<f64>,
    pub width: Option<u32>,
    pub height: Option<u32>,
}

/// What the predicting jobs share besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictingSettings {
    #[serde(flatten)]
    pub shared: SharedSettings,
    /// Steps done before the prediction.
    pub at_step: Option<u32>,
    pub metric: Option<String>,
}

/// Which seeds: these, or so many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeedChoice {
    pub seeds: Option<Vec<Seed>>,
    pub count: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PredictRequest {
    pub prompt: String,
    pub seeds: SeedChoice,
    /// Whether it is drawn where in the first seed's picture each word is attended to.
    pub attention: bool,
    pub settings: PredictingSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RankRequest {
    pub prompt: String,
    pub seeds: SeedChoice,
    /// How many of the best must be known for certain; the rest may be dropped early.
    pub keep: Option<u32>,
    /// Denoiser evaluations to spend at most.
    pub budget: Option<u64>,
    pub contact_sheet: bool,
    pub settings: PredictingSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RefineRequest {
    pub prompt: String,
    /// The agent's own rewrites.
    pub variants: Option<Vec<String>>,
    /// Seeds a wording.
    pub count: Option<u32>,
    pub rounds: Option<u32>,
    pub settings: PredictingSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RenderWhat {
    Handle(Handle),
    Candidate { prompt: String, seed: Seed },
}

#[derive(Clone, Debug, PartialEq)]
pub struct RenderRequest {
    pub what: RenderWhat,
    /// With a handle these must be absent: its record holds them.
    pub settings: SharedSettings,
    /// How good the picture is, in 0–1, to whoever looked at it.
    pub rating: Option<f64>,
}
