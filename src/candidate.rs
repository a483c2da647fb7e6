//! The words that all of Foreseed shares: a candidate is a prompt, a seed and settings.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the initial noise is drawn from. The same seed is the same noise on every machine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Seed(pub u32);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All that shapes an image besides its prompt and seed, complete: nothing is left to a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The model's name, as `models list` prints it.
    pub model: String,
    /// `None` is what diffusers does without one; an empty text is encoded like any other.
    pub negative_prompt: Option<String>,
    /// Denoising steps of a full render.
    pub steps: usize,
    /// Guidance scale; at 1 or below, classifier-free guidance is off.
    pub guidance: f64,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

/// One image that could be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub prompt: String,
    pub seed: Seed,
    pub settings: Settings,
}

/// The opaque name of a candidate. Its record is kept on disk and outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Handle(pub String);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Candidate {
    /// The name of this candidate under the weights with `fingerprint`: equal candidates have equal
    /// handles, so work done once is found again.
    pub fn handle(&self, fingerprint: &str) -> Handle {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let s = &self.settings;
        field(b"foreseed candidate 1");
        field(fingerprint.as_bytes());
        field(self.prompt.as_bytes());
        match &s.negative_prompt {
            None => field(&[0]),
            Some(negative) => {
                field(&[1]);
                field(negative.as_bytes());
            }
        }
        field(&self.seed.0.to_le_bytes());
        field(&s.guidance.to_bits().to_le_bytes());
        for n in [s.steps, s.width, s.height] {
            field(&(n as u64).to_le_bytes());
        }
        let digest = hash.finalize();
        let hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
        Handle(format!("fs_{hex}"))
    }
}
