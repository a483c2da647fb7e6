use std::path::PathBuf;
use std::sync::Arc;

use super::super::{Globals, output};
use super::bar;
use crate::candidate::Settings;
use crate::evaluation::{EvalOrder, evaluate, sample, text};
use crate::probe::Probe;
use crate::probe::prompts::Source;
use crate::world::Split;
use crate::{Error, Result};

/// Prompts and seeds of the default subset.
const PROMPTS: usize = 200;
const SEEDS: usize = 8;
/// How many times as many prompts `--full` takes.
const FULL: usize = 3;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A probe file. Default: the one that was trained for the model, the shipped one for pocket.
    #[arg(long, value_name = "FILE")]
    probe: Option<PathBuf>,

    /// Held-out prompts. Default: 200, or 600 with --full.
    #[arg(long, value_name = "N")]
    prompts: Option<usize>,

    /// Seeds of each prompt.
    #[arg(long, value_name = "K", default_value_t = SEEDS)]
    seeds: usize,

    /// Three times as many prompts.
    #[arg(long)]
    full: bool,

    /// Prompts of the family of scenes that was held out whole, instead of held-out scenes.
    #[arg(long)]
    family: bool,

    /// Prompts of your own, which the probe must not have been trained on, instead of held-out ones.
    #[arg(long, value_name = "FILE", conflicts_with = "family")]
    prompt_file: Option<PathBuf>,

    /// What prompts and seeds are drawn from.
    #[arg(long, value_name = "N", default_value_t = 2026)]
    draw: u64,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let models = globals.models()?;
    let name = models.default_name().to_string();
    let backbone = models.load(&name)?;
    let facts = backbone.facts();
    let probe = match &args.probe {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(Error::file(path))?;
            Arc::new(Probe::from_bytes(&bytes)?)
        }
        None => models
            .probes(&facts.fingerprint)?
            .into_iter()
            .next()
            .ok_or_else(|| {
                Error::invalid(
                    "probe",
                    format!("none was trained for {name}"),
                    "Name a file with --probe, or train one with `foreseed probe train`",
                )
            })?,
    };
    let card = probe.card();
    let settings = Settings {
        model: name,
        negative_prompt: None,
        steps: card.steps,
        guidance: card.guidance,
        width: card.width,
        height: card.height,
    };
    for step in &card.at_steps {
        probe
            .fits(facts, &settings, *step)
            .map_err(|why| Error::invalid("probe", why, "Evaluate it on the model it is for"))?;
    }
    let scorer = crate::scorers::named(&card.metric)?;
    let prompts = match (args.prompts, args.full) {
        (Some(n), _) => n.max(1),
        (None, false) => PROMPTS,
        (None, true) => PROMPTS * FULL,
    };
    let source = match (&args.prompt_file, args.family) {
        (Some(path), _) => Source::file(path)?,
        (None, true) => Source::world(Split::Family, prompts, args.draw),
        (None, false) => Source::world(Split::HeldOut, prompts, args.draw),
    };
    let order = EvalOrder {
        backbone: backbone.as_ref(),
        scorer: scorer.as_ref(),
        probe: &probe,
        settings: &settings,
        source: &source,
        seeds: args.seeds.max(1),
        seed: args.draw,
    };
    let bar = bar(source.prompts.len() * card.steps, "steps");
    let candidates = sample(&order, &|| bar.inc(1))?;
    bar.finish_and_clear();
    let evaluation = evaluate(&candidates);
    match globals.json {
        true => output::print_json(&evaluation),
        false => output::print(text(&evaluation).trim_end()),
    }
}
