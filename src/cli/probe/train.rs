use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::super::{Globals, output};
use super::{bar, history};
use crate::foresight::measure;
use crate::probe::Probe;
use crate::probe::fit::FitOptions;
use crate::probe::net::Design;
use crate::probe::shard::{Collected, Manifest};
use crate::probe::train::{TrainOptions, calibrate_anew, train};
use crate::{Error, Result};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders that `probe collect` filled, all of one model and one set of settings.
    #[arg(long, value_name = "DIR", required_unless_present = "from_history", num_args = 1..)]
    from: Vec<PathBuf>,

    /// Learn from what was rendered here, alone or besides --from: it is looked at once more, as far
    /// as a probe looks.
    #[arg(long)]
    from_history: bool,

    /// Which of the kept scores is learned: one that was collected or, with --from-history, measured
    /// on renders or `rating`. Default: the first that was collected, else composition.
    #[arg(long)]
    metric: Option<String>,

    /// At or above this score a picture is good. Default: the metric's own threshold.
    #[arg(long, value_name = "SCORE")]
    good: Option<f64>,

    /// Keep the networks of this probe file, and fit only how many of them are asked after which step and what
    /// their answers mean: for more scenes to calibrate on, or previews that are made in another way.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["networks", "seed", "epochs", "patience", "rate", "batch", "checkpoints"])]
    networks_of: Option<PathBuf>,

    /// Networks of each design, each from a seed of its own; their answers are averaged.
    #[arg(long, value_name = "N", default_value_t = 3)]
    networks: usize,

    /// The first network's seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Passes over the data at most.
    #[arg(long, value_name = "N", default_value_t = FitOptions::default().epochs)]
    epochs: usize,

    /// Passes without a better validation before a fit stops.
    #[arg(long, value_name = "N", default_value_t = FitOptions::default().patience)]
    patience: usize,

    /// Learning rate.
    #[arg(long, default_value_t = FitOptions::default().rate)]
    rate: f64,

    /// Prompts in a batch.
    #[arg(long, value_name = "N", default_value_t = FitOptions::default().batch)]
    batch: usize,

    /// Keep checkpoints here, and go on from those that are there.
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let mut from = args.from.clone();
    let metric = match (&args.metric, from.first()) {
        (Some(metric), _) => metric.clone(),
        (None, Some(folder)) => Manifest::read(folder)?.metric,
        (None, None) => "composition".to_owned(),
    };
    if args.from_history {
        from.push(history::revisited(&metric, &args.from, globals)?);
    }
    let mut collected = Collected::read_by(&from, Some(&metric))?;
    if let Some(good) = args.good {
        collected.manifest.good = good;
    }
    // The same weights may be collected from a folder and used under a name.
    if let Some(name) = &globals.model {
        collected.manifest.model_name = name.clone();
    }
    let manifest = &collected.manifest;
    let out = match &globals.out {
        Some(path) => path.clone(),
        None => globals.data_folder()?.join("probes").join(format!(
            "{}-{}.safetensors",
            slug(&manifest.model_name),
            manifest.metric
        )),
    };
    if out.is_dir() {
        return Err(Error::invalid(
            "out",
            format!("{} is a folder", out.display()),
            "Name the probe file to write",
        ));
    }
    if let Some(path) = &args.networks_of {
        let bytes = std::fs::read(path).map_err(Error::file(path))?;
        return say(&calibrate_anew(&collected, &bytes, &out)?, &out, globals);
    }
    let options = TrainOptions {
        networks: args.networks,
        fit: FitOptions {
            seed: args.seed,
            epochs: args.epochs,
            patience: args.patience,
            rate: args.rate,
            batch: args.batch,
            ..FitOptions::default()
        },
        range: measure::range(&metric),
        checkpoints: args.checkpoints,
    };
    let fits = Design::ALL.len() * args.networks.max(1);
    let bar = bar(fits * args.epochs, "epochs");
    let latest = Mutex::new(BTreeMap::new());
    let probe = train(&collected, &options, &out, &|design, seed, progress| {
        let line = format!(
            "{} {seed}: epoch {}, loss {:.3}, validation SRCC {:.3}, within {:.3}, words {:.3}",
            design.name(),
            progress.epoch,
            progress.loss,
            progress.validation.pooled,
            progress.validation.within,
            progress.validation.words
        );
        tracing::info!("{line}");
        // A fit that stopped early counts its missing epochs once another one reports.
        if let Ok(mut latest) = latest.lock() {
            latest.insert((design, seed), progress.epoch as u64);
            bar.set_position(latest.values().sum());
        }
        bar.set_message(line);
    })?;
    bar.finish_and_clear();
    say(&probe, &out, globals)
}

/// What a probe was measured to be, and where it lies.
fn say(probe: &Probe, out: &Path, globals: &Globals) -> Result<()> {
    if globals.json {
        return output::print_json(probe.card());
    }
    let measured = serde_json::to_string_pretty(&probe.card().measured)
        .map_err(|e| Error::Internal(e.to_string()))?;
    output::print(&format!("{}\n{measured}", out.display()))
}

/// A model's name as part of a file's.
fn slug(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '-',
        })
        .collect()
}
