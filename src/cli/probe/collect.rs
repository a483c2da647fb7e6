use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::super::{Globals, output};
use super::{at_least_one, bar};
use crate::candidate::Settings;
use crate::models::Models;
use crate::probe::claims::Share;
use crate::probe::collect::{CollectProgress, Order};
use crate::probe::preview::Decoding;
use crate::probe::prompts::Source;
use crate::scorers::Scorer;
use crate::world::Split;
use crate::{Error, Result};

/// Steps done at which to look, where nothing else is asked for: the paper's table.
const LOOKS: [usize; 4] = [1, 5, 10, 15];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file of prompts: one a line, or one {"prompt": …, "scene": …} a line.
    #[arg(long, value_name = "FILE", conflicts_with = "scenes")]
    prompts: Option<PathBuf>,

    /// Prompts to draw from the embedded model's world.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = at_least_one)]
    scenes: usize,

    /// Seeds of each prompt.
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = at_least_one)]
    seeds: usize,

    /// What prompts and seeds are drawn from; another number is other data.
    #[arg(long, value_name = "N", default_value_t = 1)]
    draw: u64,

    /// Steps of a full render. Default: the model's own.
    #[arg(long)]
    steps: Option<usize>,

    /// Steps done at which to look. Default: 1, 5, 10 and 15, as far as the steps go.
    #[arg(long, value_delimiter = ',')]
    at: Vec<usize>,

    /// Steps done from which the VAE itself decodes the previews that the probe will read, in place of
    /// the model's decoder for previews, if it has one. Default: never.
    #[arg(long, value_name = "K")]
    vae_previews_from: Option<usize>,

    /// Of these, decode by the VAE only what the preview decoder's picture leaves in more doubt than this
    /// chance that the scorer would say something else; for scorers that know, as composition does.
    #[arg(long, value_name = "P", requires = "vae_previews_from", value_parser = chance)]
    vae_previews_in_doubt: Option<f64>,

    /// By how many times their last change the latents are carried on that the VAE decodes for these
    /// previews: late predictions move where they moved before.
    #[arg(long, value_name = "A", default_value_t = 0.0, requires = "vae_previews_from", value_parser = ahead)]
    previews_ahead: f64,

    /// Default: the model's own.
    #[arg(long)]
    guidance: Option<f64>,

    /// Default: the model's own.
    #[arg(long)]
    width: Option<usize>,

    /// Default: the model's own.
    #[arg(long)]
    height: Option<usize>,

    /// Attention blocks to read, by the beginnings of their module paths. Default: the middle ones.
    #[arg(long, value_delimiter = ',', value_name = "PREFIX")]
    tap: Vec<String>,

    /// Which part of the prompts, for machines that share no folder: 2/4 is the second of four. The
    /// parts' files can be copied into one folder.
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    part: Share,

    /// What the pictures are scored by, several at once if you like; a training picks one, the first
    /// where it is told nothing. Default: the first that `foreseed models list` says is installed for
    /// such pictures.
    #[arg(long, value_delimiter = ',')]
    metric: Vec<String>,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let folder = globals.out.clone().ok_or_else(|| {
        Error::invalid(
            "out",
            "no folder to collect into",
            "Name one: --out DIR; to go on with one, name it again",
        )
    })?;
    let models = globals.models()?;
    let name = models.default_name().to_string();
    let scorers = scorers(&args.metric, &models)?;
    let backbone = models.load(&name)?;
    let facts = backbone.facts();
    let settings = Settings {
        model: name,
        negative_prompt: None,
        steps: args.steps.unwrap_or(facts.default_steps),
        guidance: args.guidance.unwrap_or(facts.default_guidance),
        width: args.width.unwrap_or(facts.default_width),
        height: args.height.unwrap_or(facts.default_height),
    };
    let tap: Vec<String> = match args.tap.is_empty() {
        true => facts.default_tap.clone(),
        false => {
            let wanted = |block: &&String| args.tap.iter().any(|t| block.starts_with(t));
            facts.tappable.iter().filter(wanted).cloned().collect()
        }
    };
    if tap.is_empty() {
        return Err(Error::invalid(
            "tap",
            format!("no block begins with any of {:?}", args.tap),
            format!("This model has {}", facts.tappable.join(", ")),
        ));
    }
    let source = match &args.prompts {
        Some(path) => Source::file(path)?,
        None => Source::world(Split::Train, args.scenes, args.draw),
    };
    let at: Vec<usize> = match args.at.is_empty() {
        true => LOOKS
            .into_iter()
            .filter(|at| *at <= settings.steps)
            .collect(),
        false => args.at.clone(),
    };
    let order = Order {
        backbone: backbone.as_ref(),
        scorers: &scorers,
        settings: &settings,
        at_steps: &at,
        seeds: args.seeds,
        seed: args.draw,
        tap: &tap,
        source: &source,
        decoding: Decoding {
            vae_from: args.vae_previews_from,
            ahead: args.previews_ahead,
            doubt: args.vae_previews_in_doubt,
        },
        share: args.part,
    };
    let a_prompt = args.seeds * settings.steps;
    let prompts = (0..source.prompts.len()).filter(|index| args.part.holds(*index));
    let bar = bar(prompts.count() * a_prompt, "steps");
    let kept = order.collect(&folder, &|progress| match progress {
        // What was there before is not this run's pace.
        CollectProgress::Skipped { prompts } => {
            let others = (prompts * a_prompt) as u64;
            bar.set_length(bar.length().unwrap_or(0).saturating_sub(others));
        }
        CollectProgress::Stepped { trajectories } => bar.inc(trajectories as u64),
    })?;
    bar.finish_and_clear();
    if globals.json {
        return output::print_json(&json!({
            "folder": folder,
            "prompts": kept.prompts,
            "trajectories": kept.trajectories,
            "before": kept.before,
            "by_others": kept.by_others,
        }));
    }
    output::print(&format!(
        "{} trajectories of {} prompts in {} ({} prompts were there before, {} came from other \
         processes)",
        kept.trajectories,
        kept.prompts,
        folder.display(),
        kept.before,
        kept.by_others
    ))
}

fn ahead(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ahead) if (0.0..=4.0).contains(&ahead) => Ok(ahead),
        _ => Err("give a number from 0 to 4, such as 1".into()),
    }
}

fn chance(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(chance) if (0.0..=1.0).contains(&chance) => Ok(chance),
        _ => Err("give a chance from 0 to 1, such as 0.15".into()),
    }
}

/// The scorers of the metrics asked for, each once, or the default model's own.
fn scorers(asked: &[String], models: &Models) -> Result<Vec<Arc<dyn Scorer>>> {
    let mut metrics: Vec<String> = Vec::new();
    for metric in asked {
        if !metrics.contains(metric) {
            metrics.push(metric.clone());
        }
    }
    if metrics.is_empty() {
        metrics.extend(models.measurable(models.default_name())?.into_iter().next());
    }
    if metrics.is_empty() {
        return Err(Error::invalid(
            "metric",
            "none is named and no scorer of such pictures is installed",
            "Fetch one, as `foreseed models pull pickscore` does; `foreseed models list` has more",
        ));
    }
    metrics.iter().map(|metric| models.scorer(metric)).collect()
}
