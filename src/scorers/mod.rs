//! What measures a finished image.

pub mod composition;

use std::ops::Range;

use image::RgbImage;

use crate::backbones::Word;
use crate::{Error, Result};

/// Gives a finished image a score for its prompt.
pub trait Scorer: Send + Sync {
    /// The name of what is measured, such as "composition".
    fn metric(&self) -> &str;

    /// At or above this value an image is good.
    fn good(&self) -> f64;

    /// The score of `image` for `prompt`. An error where the prompt is nothing that this scorer can
    /// judge.
    fn score(&self, prompt: &str, image: &RgbImage) -> Result<Score>;
}

/// How good an image is, and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Score {
    /// From 0 to 1.
    pub value: f64,
    /// What was asked for, piece by piece.
    pub verdicts: Vec<Verdict>,
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

/// The scorer of a metric; the error lists what there is.
pub fn named(metric: &str) -> Result<Box<dyn Scorer>> {
    match metric {
        "composition" => Ok(Box::new(Composition)),
        _ => Err(Error::invalid(
            "metric",
            format!("{metric:?} has no scorer"),
            "There is composition, for prompts of the embedded model's world",
        )),
    }
}
