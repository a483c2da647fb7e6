//! A probe learns where it is used: under a shifted distribution its own numbers no longer mean what
//! they say, and after some local renders they do again.
//!
//! `cargo run --release --example shifted_distribution [-- --candidates 1200 --draw 1]`
//!
//! Two shifts: the family of scenes that nothing was trained on, and another guidance. For each, fresh
//! candidates (one seed a prompt) are predicted by the real `predict` before and after N local
//! renders of other prompts, and held against their pictures, which the records never see. "ECE" is
//! the calibration error of `p_good` over 10 bins of equal mass; "by chance" is what numbers that
//! were exactly right would show on so few candidates; "coverage" is how many scores the 90 %
//! intervals hold. The row "own" is the probe as it was shipped.
//!
//! That is one history of N renders. What N renders do on average is told by 200 histories drawn out of
//! the fresh candidates, each judged on the candidates that are not in it, with the 5th and the 95th
//! percentile over the histories. N is named where from there on the means are an ECE of at most 0.05
//! and a coverage of 86–94 %, at both steps.

mod judged;
mod resampled;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use foreseed::candidate::{Candidate, Seed, Settings};
use foreseed::engine::{Engine, Event, Limits, Work};
use foreseed::foresight::requests::{
    PredictRequest, PredictingSettings, RenderRequest, RenderWhat, SeedChoice, SharedSettings,
};
use foreseed::foresight::{Caller, Foresight, Learned};
use foreseed::models::{ModelOptions, Models, POCKET};
use foreseed::probe::recalibration::Prior;
use foreseed::probe::{Prediction, ProbeCard};
use foreseed::scorers::{Composition, Scorer};
use foreseed::store::Store;
use foreseed::world::random::Random;
use foreseed::world::{Split, prompts};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use judged::{Judged, by_chance, is_calibrated};
use resampled::Resampled;

/// The steps at which calibration is asked for.
const STEPS: [usize; 2] = [5, 10];
/// Local renders after which it is looked again.
const RENDERS: [usize; 5] = [0, 25, 50, 100, 200];
/// Calls under way at a time.
const AT_ONCE: usize = 4;

#[derive(Parser)]
struct Args {
    /// Fresh candidates that each calibration is measured on.
    #[arg(long, default_value_t = 1200)]
    candidates: usize,
    /// What prompts and seeds are drawn from.
    #[arg(long, default_value_t = 1)]
    draw: u64,
    /// The other guidance.
    #[arg(long, default_value_t = 12.0)]
    guidance: f64,
}

/// Where candidates come from.
struct Shift {
    name: String,
    split: Split,
    /// `None`: the model's own.
    guidance: Option<f64>,
}

/// A candidate whose picture is known to us and not to the records.
struct Fresh {
    prompt: String,
    seed: Seed,
    measured: f64,
}

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet.
    unsafe { foreseed::device::count_cores_once() };
    let outcome = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(&Args::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shifted_distribution: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let shifts = [
        Shift {
            name: "scenes with a heart and a cross, which nothing was trained on".into(),
            split: Split::Family,
            guidance: None,
        },
        Shift {
            name: format!("guidance {}, on held-out scenes", args.guidance),
            split: Split::HeldOut,
            guidance: Some(args.guidance),
        },
    ];
    for shift in &shifts {
        let folder = tempfile::tempdir()?;
        Demonstration::begin(shift, args, folder.path())?
            .run()
            .await?;
    }
    println!(
        "{} fresh candidates each; {:.0} s",
        args.candidates,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

struct Demonstration<'a> {
    foresight: Arc<Foresight>,
    card: ProbeCard,
    shift: &'a Shift,
    args: &'a Args,
}

impl<'a> Demonstration<'a> {
    /// Records of its own, so that nothing was rendered before.
    fn begin(shift: &'a Shift, args: &'a Args, folder: &Path) -> Result<Self> {
        let models = Arc::new(Models::discover(ModelOptions {
            model: Some(POCKET.into()),
            ..Default::default()
        })?);
        let probes = models.probes_of(POCKET)?;
        let probe = probes.iter().find(|p| p.card().metric == "composition");
        Ok(Self {
            card: probe.context("pocket has no probe")?.card().clone(),
            foresight: Arc::new(Foresight {
                engine: Engine::start(models.clone(), Limits::default())?,
                models,
                store: Arc::new(Store::open(folder)?),
                out: folder.join("pictures"),
                writes: true,
                learned: Some(Learned::default()),
            }),
            shift,
            args,
        })
    }

    async fn run(&self) -> Result<()> {
        eprintln!("{}: fresh candidates", self.shift.name);
        let fresh = self.fresh().await?;
        let mut table = table([
            "renders",
            "step",
            "ECE",
            "by chance",
            "coverage",
            "mean error",
        ]);
        for step in STEPS {
            table.add_row(self.row(&fresh, &self.own(&fresh, step)?, ("own", step)));
        }
        let others = self.drawn(RENDERS[RENDERS.len() - 1], 1);
        let mut rendered = 0;
        for renders in RENDERS {
            eprintln!("{}: {renders} renders", self.shift.name);
            self.render(&others[rendered..renders]).await?;
            rendered = renders;
            for step in STEPS {
                let named = named(&fresh);
                let said = self.predictions(&named, step).await?;
                table.add_row(self.row(&fresh, &said, (&renders.to_string(), step)));
            }
        }
        println!("{}\n{table}", self.shift.name);
        self.on_average(&fresh)
    }

    fn row(
        &self,
        fresh: &[Fresh],
        said: &[Prediction],
        (renders, step): (&str, usize),
    ) -> [String; 6] {
        let judged = Judged::of(said, &measured(fresh), self.card.good);
        let shown = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.3}"));
        [
            renders.into(),
            step.to_string(),
            shown(judged.ece),
            shown(by_chance(said)),
            judged.coverage.map_or("–".into(), percent),
            format!("{:+.3}", judged.error),
        ]
    }

    /// What so many renders do on average, and from how many on that is calibrated.
    fn on_average(&self, fresh: &[Fresh]) -> Result<()> {
        let mut table = table([
            "renders",
            "step",
            "ECE",
            "[5 %, 95 %]",
            "coverage",
            "[5 %, 95 %]",
        ]);
        let prior = match self.shift.guidance {
            None => Prior::Calibrated,
            Some(_) => Prior::Foreign,
        };
        let measured = measured(fresh);
        let mut own = Vec::new();
        for step in STEPS {
            own.push((step, self.own(fresh, step)?));
        }
        let mut calibrated = Vec::new();
        for renders in RENDERS {
            let mut all = true;
            for (step, own) in &own {
                let Some(found) = Resampled::of(own, &measured, renders, self.card.good, prior)
                else {
                    all = false;
                    continue;
                };
                let Resampled { ece, coverage } = found;
                all &= is_calibrated(ece.mean, coverage.mean);
                table.add_row([
                    renders.to_string(),
                    step.to_string(),
                    format!("{:.3}", ece.mean),
                    format!("[{:.3}, {:.3}]", ece.ends[0], ece.ends[1]),
                    percent(coverage.mean),
                    format!(
                        "[{}, {}]",
                        percent(coverage.ends[0]),
                        percent(coverage.ends[1])
                    ),
                ]);
            }
            calibrated.push((renders, all));
        }
        println!(
            "{} histories of each length:\n{table}",
            resampled::HISTORIES
        );
        let from = calibrated.iter().rposition(|(_, all)| !all);
        let from = from.map_or(0, |last| last + 1);
        match calibrated.get(from) {
            Some((n, _)) => println!("calibrated from N = {n} local renders on\n"),
            None => println!(
                "not calibrated after {} local renders\n",
                RENDERS[RENDERS.len() - 1]
            ),
        }
        Ok(())
    }

    /// Prompts with a seed each; another `stream` is others.
    fn drawn(&self, n: usize, stream: u64) -> Vec<(String, Seed)> {
        let seed = self.args.draw.wrapping_mul(100) + stream;
        let mut random = Random::new(seed);
        prompts(self.shift.split, n, seed)
            .into_iter()
            .map(|prompt| (prompt.text, Seed(random.next_u64() as u32)))
            .collect()
    }

    fn settings(&self) -> Settings {
        Settings {
            model: POCKET.into(),
            negative_prompt: None,
            steps: self.card.steps,
            guidance: self.shift.guidance.unwrap_or(self.card.guidance),
            width: self.card.width,
            height: self.card.height,
        }
    }

    fn shared(&self) -> SharedSettings {
        SharedSettings {
            guidance: self.shift.guidance,
            ..Default::default()
        }
    }

    /// Predicts fresh candidates, then finishes them behind the records' back.
    async fn fresh(&self) -> Result<Vec<Fresh>> {
        let mut all = Vec::new();
        for batch in self.drawn(self.args.candidates, 2).chunks(2 * AT_ONCE) {
            for step in STEPS {
                self.predictions(batch, step).await?;
            }
            let work = Work {
                candidates: batch
                    .iter()
                    .map(|(prompt, seed)| Candidate {
                        prompt: prompt.clone(),
                        seed: *seed,
                        settings: self.settings(),
                    })
                    .collect(),
                to_step: self.card.steps,
                observe_at: Vec::new(),
                tap: Default::default(),
                glimpse: false,
                picture: true,
                purse: None,
            };
            let mut running = self.foresight.engine.submit(work)?;
            while let Some(event) = running.events.recv().await {
                if let Event::Picture { index, picture, .. } = event? {
                    let (prompt, seed) = batch[index].clone();
                    let measured = Composition.score(&prompt, &picture)?.value;
                    all.push(Fresh {
                        prompt,
                        seed,
                        measured,
                    });
                }
            }
        }
        Ok(all)
    }

    /// What is answered of each candidate now, in their order.
    async fn predictions(
        &self,
        candidates: &[(String, Seed)],
        step: usize,
    ) -> Result<Vec<Prediction>> {
        let mut answers: Vec<Option<Prediction>> = vec![None; candidates.len()];
        let mut under_way = JoinSet::new();
        for (index, (prompt, seed)) in candidates.iter().enumerate() {
            let request = PredictRequest {
                prompt: prompt.clone(),
                seeds: SeedChoice {
                    seeds: Some(vec![*seed]),
                    count: None,
                },
                attention: false,
                settings: PredictingSettings {
                    shared: self.shared(),
                    at_step: Some(step as u32),
                    metric: None,
                },
            };
            let foresight = self.foresight.clone();
            under_way.spawn(async move { (index, foresight.predict(request, &caller()).await) });
            if under_way.len() == AT_ONCE
                && let Some(done) = under_way.join_next().await
            {
                keep(&mut answers, done?)?;
            }
        }
        while let Some(done) = under_way.join_next().await {
            keep(&mut answers, done?)?;
        }
        let answers: Option<Vec<Prediction>> = answers.into_iter().collect();
        answers.context("a candidate without a prediction")
    }

    async fn render(&self, candidates: &[(String, Seed)]) -> Result<()> {
        for (prompt, seed) in candidates {
            let request = RenderRequest {
                what: RenderWhat::Candidate {
                    prompt: prompt.clone(),
                    seed: *seed,
                },
                settings: self.shared(),
                rating: None,
            };
            self.foresight.render(request, &caller()).await?;
        }
        Ok(())
    }

    /// The probe's own predictions, as the records keep them.
    fn own(&self, fresh: &[Fresh], step: usize) -> Result<Vec<Prediction>> {
        named(fresh)
            .into_iter()
            .map(|(prompt, seed)| {
                let candidate = Candidate {
                    prompt,
                    seed,
                    settings: self.settings(),
                };
                let handle = candidate.handle(&self.card.model_fingerprint);
                let store = &self.foresight.store;
                let kept = store.prediction(&handle, &self.card.metric, step, &self.card.id)?;
                Ok(kept.context("a prediction that was not kept")?.prediction)
            })
            .collect()
    }
}

fn named(fresh: &[Fresh]) -> Vec<(String, Seed)> {
    fresh.iter().map(|f| (f.prompt.clone(), f.seed)).collect()
}

fn measured(fresh: &[Fresh]) -> Vec<f64> {
    fresh.iter().map(|f| f.measured).collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn table(header: [&str; 6]) -> Table {
    let mut table = Table::new();
    let line = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(line).bottom_border(line));
    table.set_header(header);
    for column in 0..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn keep(
    answers: &mut [Option<Prediction>],
    (index, reply): (
        usize,
        foreseed::Result<foreseed::foresight::replies::PredictReply>,
    ),
) -> Result<()> {
    let reply = reply?;
    let said = reply.candidates.first().context("nothing was predicted")?;
    answers[index] = Some(Prediction {
        quality: said.quality,
        interval: said.interval,
        p_good: said.p_good,
        word_risks: Vec::new(),
    });
    Ok(())
}

fn caller() -> Caller {
    Caller {
        cancel: CancellationToken::new(),
        progress: Arc::new(|_| ()),
        patience: None,
    }
}
