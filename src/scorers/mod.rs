//! What measures a finished image: pocket's own scorer, which needs no weights, and those that the
//! field reports, read from their published files.

mod aesthetic;
mod cleaning;
mod clip;
pub mod composition;
mod files;
mod head;
mod hps;
mod image;
mod image_reward;
pub mod metrics;
#[cfg(not(fuzzing))]
mod pickle;
#[cfg(fuzzing)]
pub mod pickle;
mod vision;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use ::image::RgbImage;
use candle_core::Device;

use crate::backbones::Word;
use crate::{Error, Result};

/// Gives a finished image a score for its prompt.
pub trait Scorer: Send + Sync {
    /// The name of what is measured, such as "composition".
    fn metric(&self) -> &str;

    /// At or above this value an image is good.
    fn good(&self) -> f64;

    /// Whether its scores hold verdicts on words.
    fn judges_words(&self) -> bool {
        false
    }

    /// The score of `image` for `prompt`. An error where the prompt is nothing that this scorer can
    /// judge.
    fn score(&self, prompt: &str, image: &RgbImage) -> Result<Score>;
}

/// How good an image is, and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Score {
    /// In the metric's own units; more is better.
    pub value: f64,
    /// What was asked for, piece by piece, where the scorer knows; else nothing.
    pub verdicts: Vec<Verdict>,
    /// The chance that a picture that differs a little, as by another decoder, is scored otherwise; `None`
    /// where the scorer cannot tell.
    pub doubt: Option<f64>,
}

impl Score {
    /// A value and no verdicts.
    pub fn plain(value: f64) -> Self {
        Self {
            value,
            verdicts: Vec::new(),
            doubt: None,
        }
    }
}

/// Whether one piece of what the prompt asked for is in the image.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Verdict {
    /// The piece in words, such as "red circle", "red circle left of blue square", "background".
    pub what: String,
    /// The byte ranges of the prompt's words that ask for it.
    pub words: Vec<Range<usize>>,
    /// Whether it is right.
    pub ok: bool,
    /// How far it is right, from 0 to 1.
    pub credit: f64,
}

impl Verdict {
    /// Whether any letter of `word` asks for this piece.
    pub fn concerns(&self, word: &Word) -> bool {
        let span = &word.span;
        self.words
            .iter()
            .any(|w| w.start < span.end && span.start < w.end)
    }
}

pub use composition::Composition;
pub use files::ScorerFiles;
pub use metrics::{METRICS, Metric, metric, range};

/// Loads the scorer of a metric out of `folders`, which hold its published files; `composition`
/// needs none. The error lists the metrics there are, or names the file that is missing or wrong.
pub fn load(name: &str, folders: Vec<PathBuf>, device: &Device) -> Result<Arc<dyn Scorer>> {
    use clip::{ClipSimilarity, Scale};
    let known = metric(name).ok_or_else(|| unknown(name))?;
    let files = ScorerFiles::new(name, folders);
    let similarity = |scale| ClipSimilarity::load(known, scale, &files, device);
    Ok(match name {
        "composition" => Arc::new(Composition),
        "clipscore" | "clipscore-b32" => Arc::new(similarity(Scale::Hundredfold)?),
        "pickscore" => Arc::new(similarity(Scale::Learned)?),
        "imagereward" => Arc::new(image_reward::ImageReward::load(&files, device)?),
        "aesthetic" => Arc::new(aesthetic::Aesthetic::load(&files, device)?),
        "hpsv2.1" => Arc::new(hps::Hps::load(&files, device)?),
        _ => return Err(unknown(name)),
    })
}

/// An error about a metric that nothing measures.
pub fn unknown(name: &str) -> Error {
    let names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    Error::invalid(
        "metric",
        format!("{name:?} has no scorer"),
        format!(
            "There are {}; composition is for prompts of the embedded model's world",
            names.join(", ")
        ),
    )
}
