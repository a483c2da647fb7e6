//! What is true: pictures rendered and scored by the library itself, out of the agent's sight.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use foreseed::backbones::Backbone;
use foreseed::candidate::{Seed, Settings};
use foreseed::models::{ModelOptions, Models, POCKET};
use foreseed::sampling::{Trajectory, step_all};
use foreseed::scorers::{Composition, Score, Scorer};
use image::RgbImage;
use rayon::prelude::*;

/// So many trajectories are denoised at a time.
const BATCH: usize = 8;

/// A finished picture and its verdicts.
pub struct Finished {
    pub picture: RgbImage,
    pub score: Score,
}

/// Renders on demand, each candidate once.
pub struct Truth {
    backbone: Arc<dyn Backbone>,
    settings: Settings,
    known: RefCell<HashMap<(String, u32), Rc<Finished>>>,
}

impl Truth {
    pub fn new() -> Result<Self> {
        let options = ModelOptions {
            model: Some(POCKET.into()),
            ..Default::default()
        };
        let backbone = Models::discover(options)?.load(POCKET)?;
        let facts = backbone.facts();
        let settings = Settings {
            model: POCKET.into(),
            negative_prompt: None,
            steps: facts.default_steps,
            guidance: facts.default_guidance,
            width: facts.default_width,
            height: facts.default_height,
        };
        Ok(Self {
            backbone,
            settings,
            known: RefCell::default(),
        })
    }

    /// Denoiser evaluations of one full render.
    pub fn full_evaluations(&self) -> u64 {
        let guidance = self.settings.guidance;
        self.settings.steps as u64 * self.backbone.evaluations_per_step(None, guidance)
    }

    /// How many pictures were rendered for the truth's sake.
    pub fn rendered(&self) -> usize {
        self.known.borrow().len()
    }

    /// The pictures of a prompt's seeds, in their order.
    pub fn finished(&self, prompt: &str, seeds: &[u32]) -> Result<Vec<Rc<Finished>>> {
        let key = |seed: &u32| (prompt.to_string(), *seed);
        let missing: Vec<u32> = seeds
            .iter()
            .copied()
            .filter(|seed| !self.known.borrow().contains_key(&key(seed)))
            .collect();
        let (backbone, settings) = (self.backbone.as_ref(), &self.settings);
        let rendered: Vec<Finished> = missing
            .par_chunks(BATCH)
            .map(|seeds| render(backbone, settings, prompt, seeds))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        for (seed, finished) in missing.iter().zip(rendered) {
            self.known.borrow_mut().insert(key(seed), Rc::new(finished));
        }
        let known = self.known.borrow();
        seeds
            .iter()
            .map(|seed| known.get(&key(seed)).cloned().context("a lost picture"))
            .collect()
    }

    /// The scores of a prompt's seeds, in their order.
    pub fn scores(&self, prompt: &str, seeds: &[u32]) -> Result<Vec<f64>> {
        let finished = self.finished(prompt, seeds)?;
        Ok(finished.iter().map(|f| f.score.value).collect())
    }

    /// The same by what another wording asks for.
    pub fn scores_for(&self, asked: &str, drawn: &str, seeds: &[u32]) -> Result<Vec<f64>> {
        let finished = self.finished(drawn, seeds)?;
        let score = |f: &Rc<Finished>| Ok(Composition.score(asked, &f.picture)?.value);
        finished.iter().map(score).collect()
    }

    /// Whether the file at `path` holds the very picture of this candidate.
    pub fn is_picture_of(&self, path: &Path, prompt: &str, seed: u32) -> Result<bool> {
        let there = image::open(path)?.to_rgb8();
        Ok(there == self.finished(prompt, &[seed])?[0].picture)
    }
}

fn render(
    backbone: &dyn Backbone,
    settings: &Settings,
    prompt: &str,
    seeds: &[u32],
) -> Result<Vec<Finished>> {
    let text = Arc::new(backbone.encode(prompt, None, settings.guidance)?);
    let mut trajectories = seeds
        .iter()
        .map(|seed| Trajectory::start_encoded(backbone, text.clone(), Seed(*seed), settings))
        .collect::<foreseed::Result<Vec<_>>>()?;
    for _ in 0..settings.steps {
        let mut all: Vec<&mut Trajectory> = trajectories.iter_mut().collect();
        step_all(backbone, &mut all, &vec![None; seeds.len()])?;
    }
    trajectories
        .iter()
        .map(|trajectory| {
            let picture = pixels(&backbone.decode(trajectory.latents())?)?;
            let score = Composition.score(prompt, &picture)?;
            Ok(Finished { picture, score })
        })
        .collect()
}

/// An image (1, 3, height, width) in 0–1 as pixels.
fn pixels(image: &Tensor) -> Result<RgbImage> {
    let image = image.squeeze(0)?.to_dtype(DType::F32)?;
    let (_, height, width) = image.dims3()?;
    let values = image.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?;
    let bytes = values
        .into_iter()
        .map(|v| (v * 255.0).round().clamp(0.0, 255.0) as u8)
        .collect();
    RgbImage::from_raw(width as u32, height as u32, bytes).context("no picture")
}
