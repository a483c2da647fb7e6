//! What tells that a small decoder's picture is scored otherwise than the VAE's, to fit the weights of
//! `composition`'s doubt to:
//! `cargo run --release --example pocket_doubts -- PROMPTS [--seeds 4] [--at 10] [--draw 1]`
//! PROMPTS holds a list of wordings a line, of which the first is taken (`pocket_scenes` writes such).
//! Prints a JSON line a candidate: the signs, read of the small decoder's picture of what is predicted after
//! so many steps, carried on by its last change; what it scores, and what the VAE's picture does.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use foreseed::backbones::TapRequest;
use foreseed::candidate::{Candidate, Seed, Settings};
use foreseed::engine::{Engine, Event, Limits, Work};
use foreseed::models::{ModelOptions, Models, POCKET};
use foreseed::probe::preview::Decoding;
use foreseed::scorers::Composition;
use foreseed::scorers::composition::{judge_open, reader};
use foreseed::world;
use rayon::prelude::*;

#[derive(Parser)]
struct Arguments {
    /// The prompts.
    prompts: PathBuf,
    /// Candidates a prompt.
    #[arg(long, default_value_t = 4)]
    seeds: u32,
    /// Steps done.
    #[arg(long, default_value_t = 10)]
    at: usize,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    draw: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let text = std::fs::read_to_string(&arguments.prompts)
        .with_context(|| format!("cannot read {:?}", arguments.prompts))?;
    let options = ModelOptions {
        model: Some(POCKET.into()),
        ..Default::default()
    };
    let models = Arc::new(Models::discover(options)?);
    let name = models.default_name().to_owned();
    let engine = Engine::start(models, Limits::default())?;
    let backbone = engine.open(&name).await?;
    let facts = backbone.facts();
    for (number, line) in text.lines().enumerate() {
        let prompt = serde_json::from_str::<Vec<String>>(line)?.swap_remove(0);
        let first = arguments.draw.wrapping_add(number as u32 * arguments.seeds);
        let candidates = (0..arguments.seeds).map(|seed| Candidate {
            prompt: prompt.clone(),
            seed: Seed(first.wrapping_add(seed)),
            settings: Settings {
                model: name.clone(),
                negative_prompt: None,
                steps: facts.default_steps,
                guidance: facts.default_guidance,
                width: facts.default_width,
                height: facts.default_height,
            },
        });
        let mut running = engine.submit(Work {
            candidates: candidates.collect(),
            to_step: arguments.at,
            observe_at: vec![arguments.at],
            tap: TapRequest::default(),
            glimpse: false,
            picture: false,
            purse: None,
        })?;
        let mut seen = Vec::new();
        while let Some(event) = running.events.recv().await {
            if let Event::Observed { observation, .. } = event? {
                seen.push(observation);
            }
        }
        let small = Decoding::default();
        let vae = Decoding {
            vae_from: Some(0),
            ahead: 1.0,
            doubt: None,
        };
        let lines = seen.par_iter().map(|seen| -> Result<String> {
            let done = seen.steps_done;
            let x0 = vae.shown(seen)?;
            let picture = small.picture(backbone.as_ref(), &x0, done)?;
            let reading = world::parse(&prompt)?;
            let side = picture.width().min(picture.height());
            let (score, signs) = judge_open(&reading, &reader::read(&picture), side);
            let by_vae = vae.score(backbone.as_ref(), &Composition, &prompt, (&x0, done))?;
            let line = serde_json::json!({
                "prompt": number,
                "signs": signs.numbers(),
                "small": score.value,
                "vae": by_vae.value,
            });
            Ok(line.to_string())
        });
        for line in lines.collect::<Result<Vec<_>>>()? {
            println!("{line}");
        }
    }
    Ok(())
}
