//! The scores of a finished picture.

use std::collections::BTreeMap;

use image::RgbImage;

use crate::models::Models;
use crate::scorers;
use crate::store::RATING;
use crate::{Result, world};

/// The metric that reads the scene out of the prompt and the objects out of the picture.
pub const COMPOSITION: &str = "composition";

/// What a metric can take, where it is bounded.
pub fn range(metric: &str) -> Option<[f64; 2]> {
    match metric {
        RATING => Some([0.0, 1.0]),
        _ => scorers::range(metric),
    }
}

/// metric → score: of a picture of pocket's world its composition, of any other the metric that is
/// predicted of it, where its scorer is here. Nothing where nothing can be measured.
pub fn scores(
    models: &Models,
    model: &str,
    predicted: &str,
    prompt: &str,
    picture: &RgbImage,
) -> Result<BTreeMap<String, f64>> {
    let metric = match models.draws_shapes_only(model)? {
        true if world::parse(prompt).is_ok() => COMPOSITION,
        true => return Ok(BTreeMap::new()),
        false => predicted,
    };
    if !models.measurable(model)?.iter().any(|own| own == metric) {
        return Ok(BTreeMap::new());
    }
    let score = models.scorer(metric)?.score(prompt, picture)?;
    Ok(BTreeMap::from([(metric.to_string(), score.value)]))
}
