use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{Globals, output};
use super::{at_least_one, bar};
use crate::backbones::Backbone;
use crate::candidate::Settings;
use crate::engine::{Engine, Limits};
use crate::evaluation::plots;
use crate::evaluation::{Measured, Order, Progress, RewriteOrder, evaluate, sample, text, weakest};
use crate::foresight::Foresight;

use crate::probe::Probe;
use crate::probe::prompts::Source;
use crate::scorers::Scorer;
use crate::store::Store;
use crate::world::Split;
use crate::{Error, Result};

/// Prompts and seeds of the default subset.
const PROMPTS: usize = 200;
const SEEDS: usize = 8;
/// One prompt of the family for so many held-out ones, and one that is rewritten, which takes three times as
/// long as one that is not.
const FOR_FAMILY: usize = 8;
const FOR_REWRITES: usize = 8;
/// How many times as many prompts `--full` takes.
const FULL: usize = 3;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A probe file. Default: the one that was trained for the model, the shipped one for pocket.
    #[arg(long, value_name = "FILE")]
    probe: Option<PathBuf>,

    /// Held-out prompts. Default: 200, or 600 with --full.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    prompts: Option<usize>,

    /// Seeds of each prompt.
    #[arg(long, value_name = "K", default_value_t = SEEDS, value_parser = at_least_one)]
    seeds: usize,

    /// Three times as many prompts of everything.
    #[arg(long)]
    full: bool,

    /// Prompts of the family of scenes that was held out whole. Default: one for every eight held-out
    /// prompts.
    #[arg(long, value_name = "N")]
    family: Option<usize>,

    /// Weak prompts that are rewritten, those of which the probe expects least. Default: one for every
    /// eight held-out prompts.
    #[arg(long, value_name = "N")]
    rewrites: Option<usize>,

    /// Prompts of your own, which the probe must not have been trained on, instead of held-out ones
    /// and of the family.
    #[arg(long, value_name = "FILE", conflicts_with = "family")]
    prompt_file: Option<PathBuf>,

    /// A folder for the plots, as SVG. Default: --out, where that is given.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,

    /// What prompts and seeds are drawn from.
    #[arg(long, value_name = "N", default_value_t = 2026)]
    draw: u64,
}

/// What everything is measured with.
struct Bench {
    backbone: Arc<dyn Backbone>,
    probe: Arc<Probe>,
    scorer: Arc<dyn Scorer>,
    settings: Settings,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let bench = Bench::open(args.probe.as_deref(), globals)?;
    let folder = tempfile::tempdir().map_err(Error::file(&std::env::temp_dir()))?;
    let foresight = bench.foresight(args.probe.as_deref(), folder.path(), globals)?;
    let times = if args.full { FULL } else { 1 };
    let prompts = args.prompts.unwrap_or(PROMPTS * times);
    let (held_out, family) = match &args.prompt_file {
        Some(path) => {
            let own = Source::file(path)?;
            let none = Source {
                name: own.name.clone(),
                prompts: Vec::new(),
            };
            (own, none)
        }
        None => {
            let family = args.family.unwrap_or(prompts / FOR_FAMILY);
            (
                Source::world(Split::HeldOut, prompts, args.draw),
                Source::world(Split::Family, family, args.draw),
            )
        }
    };
    let order = |source, baselines| Order {
        backbone: bench.backbone.as_ref(),
        scorer: bench.scorer.as_ref(),
        probe: &bench.probe,
        settings: &bench.settings,
        source,
        seeds: args.seeds,
        draw: args.draw,
        baselines,
    };
    let (held_out, family) = (order(&held_out, true), order(&family, false));
    let weak = args
        .rewrites
        .unwrap_or(held_out.source.prompts.len() / FOR_REWRITES);
    let weak = weak.min(held_out.source.prompts.len());
    let rewriting = RewriteOrder {
        foresight: &foresight,
        backbone: bench.backbone.as_ref(),
        scorer: bench.scorer.as_ref(),
        settings: &bench.settings,
        draw: args.draw,
    };

    let bar = bar(
        held_out.steps() + family.steps() + rewriting.steps(weak, held_out.seeds),
        "steps",
    );
    let progress = |happened: Progress| match happened {
        Progress::Phase(name) => bar.set_message(name),
        Progress::Stepped(steps) => bar.inc(steps as u64),
    };
    progress(Progress::Phase("held-out scenes"));
    let held_out = sample(&held_out, &progress)?;
    progress(Progress::Phase("the family held out whole"));
    let family = sample(&family, &progress)?;
    progress(Progress::Phase("rewrites"));
    let rewrites = rewriting.run(&weakest(&held_out, weak), &progress)?;
    progress(Progress::Phase("intervals"));
    let measured = Measured {
        held_out,
        family,
        rewrites,
    };
    let evaluation = evaluate(&measured);
    bar.finish_and_clear();
    let plots = match args.plots.as_ref().or(globals.out.as_ref()) {
        Some(folder) => plots::write(folder, &measured, &evaluation)?,
        None => Vec::new(),
    };
    if globals.json {
        return output::print_json(&evaluation);
    }
    output::print(&text(&evaluation))?;
    for plot in plots {
        output::print(&format!("\nPlot: {}", plot.display()))?;
    }
    Ok(())
}

impl Bench {
    fn open(file: Option<&Path>, globals: &Globals) -> Result<Self> {
        let models = globals.models()?;
        let name = models.default_name().to_string();
        let backbone = models.load(&name)?;
        let facts = backbone.facts();
        let probe = match file {
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
            probe.fits(facts, &settings, *step).map_err(|why| {
                Error::invalid("probe", why, "Evaluate it on the model it is for")
            })?;
        }
        Ok(Self {
            scorer: models.scorer(&card.metric)?,
            settings,
            backbone,
            probe,
        })
    }

    /// The product's own jobs with the same probe, on records of their own under `folder`.
    fn foresight(
        &self,
        file: Option<&Path>,
        folder: &Path,
        globals: &Globals,
    ) -> Result<Foresight> {
        let probes = match file {
            None => globals.data_folder()?.join("probes"),
            Some(path) => {
                let probes = folder.join("probes");
                std::fs::create_dir_all(&probes).map_err(Error::file(&probes))?;
                let copy = probes.join("evaluated.safetensors");
                std::fs::copy(path, &copy).map_err(Error::file(&copy))?;
                probes
            }
        };
        let models = Arc::new(globals.models_with(probes)?);
        Ok(Foresight {
            engine: Engine::start(models.clone(), Limits::default())?,
            models,
            store: Arc::new(Store::open(folder)?),
            out: folder.join("pictures"),
            writes: true,
            learned: None,
        })
    }
}
