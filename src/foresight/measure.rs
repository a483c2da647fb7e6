//! The scores of a finished picture.

use std::collections::BTreeMap;

use image::RgbImage;

use crate::Result;
use crate::scorers::{Composition, Scorer};
use crate::store::RATING;
use crate::world;

/// The metric that reads the scene out of the prompt and the objects out of the picture.
pub const COMPOSITION: &str = "composition";

/// What a metric can take, where it is bounded.
pub fn range(metric: &str) -> Option<[f64; 2]> {
    [COMPOSITION, RATING]
        .contains(&metric)
        .then_some([0.0, 1.0])
}

/// metric → score, for a prompt of pocket's world; nothing for any other prompt.
pub fn scores(prompt: &str, picture: &RgbImage) -> Result<BTreeMap<String, f64>> {
    if world::parse(prompt).is_err() {
        return Ok(BTreeMap::new());
    }
    let score = Composition.score(prompt, picture)?;
    Ok(BTreeMap::from([(COMPOSITION.to_string(), score.value)]))
}
