//! Our side: the engine itself, with the tap that a prediction needs.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use foreseed::backbones::{Backbone, Facts, TapRequest, Word};
use foreseed::candidate::{Candidate, Seed, Settings};
use foreseed::engine::{Engine, Event, Limits, Work};
use foreseed::models::{ModelOptions, Models};
use foreseed::probe::{Look, Probe};
use foreseed::sampling::Observation;
use foreseed::scorers;
use foreseed::world::{self, Split};
use rayon::prelude::*;

use crate::{CANDIDATES, GUIDANCE, JUDGED, LATE_STEP, PROMPT, Result, STEPS, TO_STEP};

/// Does what each line on stdin asks for until there is none.
pub fn serve() -> Result<()> {
    let model = std::env::args().nth(2).ok_or("which model?")?;
    let options = ModelOptions {
        model: Some(model),
        ..Default::default()
    };
    let models = Arc::new(Models::discover(options)?);
    let name = models.default_name().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let engine = Engine::start(models.clone(), Limits::default())?;
    // The engine's own: weights that were read anew each time would be judged with before they are in
    // any cache, which a server's are.
    let backbone = runtime.block_on(engine.open(&name))?;
    let facts = backbone.facts().clone();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (job, seed) = line.split_once(' ').ok_or("a job and a seed")?;
        if job == "side" {
            println!("{}", facts.default_width);
            continue;
        }
        let probe = models.probes(&facts.fingerprint)?.into_iter().next();
        // What a prediction would read.
        let tap = match &probe {
            Some(probe) => TapRequest {
                blocks: probe.card().tap.clone(),
                middle: probe.card().middle,
            },
            None => TapRequest {
                blocks: facts.default_tap.clone(),
                middle: true,
            },
        };
        let work = work(job, &name, seed.parse()?, &facts, tap)?;
        let prompts: Vec<String> = work.candidates.iter().map(|c| c.prompt.clone()).collect();
        let began = Instant::now();
        let seen = runtime.block_on(finish(&engine, work))?;
        let mut seconds = began.elapsed().as_secs_f64();
        if job.starts_with("judged") {
            let probe = probe.ok_or("no probe was trained for this model")?;
            let words = prompts.iter().map(|prompt| backbone.words(prompt));
            let words = words.collect::<foreseed::Result<Vec<_>>>()?;
            let began = Instant::now();
            judge(backbone.as_ref(), &probe, (&prompts, &words), &seen)?;
            seconds = began.elapsed().as_secs_f64();
        }
        println!(
            "{}",
            serde_json::json!({"seconds": seconds, "peak_bytes": peak_bytes()?})
        );
    }
    Ok(())
}

fn work(job: &str, model: &str, seed: u32, facts: &Facts, tap: TapRequest) -> Result<Work> {
    let settings = Settings {
        model: model.to_owned(),
        negative_prompt: None,
        steps: STEPS,
        guidance: GUIDANCE,
        width: facts.default_width,
        height: facts.default_height,
    };
    let candidates = |count: u32| -> Vec<Candidate> {
        (0..count)
            .map(|i| Candidate {
                prompt: PROMPT.to_owned(),
                seed: Seed(seed + i),
                settings: settings.clone(),
            })
            .collect()
    };
    let judged = |at: usize| {
        let prompts = world::prompts(Split::HeldOut, JUDGED, u64::from(seed));
        let mut candidates = candidates(JUDGED as u32);
        for (candidate, prompt) in candidates.iter_mut().zip(prompts) {
            candidate.prompt = prompt.text;
        }
        Work {
            candidates,
            to_step: at,
            observe_at: vec![at],
            tap: tap.clone(),
            glimpse: false,
            picture: false,
            purse: None,
        }
    };
    let many = |to_step, observe_at, tap| Work {
        candidates: candidates(CANDIDATES as u32),
        to_step,
        observe_at,
        tap,
        glimpse: false,
        picture: false,
        purse: None,
    };
    Ok(match job {
        "candidates" => many(TO_STEP, vec![TO_STEP], tap),
        "judged" => judged(TO_STEP),
        "judged-late" => judged(LATE_STEP),
        "plain" => many(TO_STEP, vec![], TapRequest::default()),
        "tapped" => many(TO_STEP, (1..=TO_STEP).collect(), tap),
        "render" => Work {
            candidates: candidates(1),
            to_step: STEPS,
            observe_at: vec![],
            tap: TapRequest::default(),
            glimpse: false,
            picture: true,
            purse: None,
        },
        other => return Err(format!("no such job: {other}").into()),
    })
}

/// Does it all; what was observed on the way.
async fn finish(engine: &Engine, work: Work) -> Result<Vec<(usize, Arc<Observation>)>> {
    let wanted = work.candidates.len() * work.to_step;
    let mut running = engine.submit(work)?;
    let (mut steps, mut seen) = (0, Vec::new());
    while let Some(event) = running.events.recv().await {
        match event? {
            Event::Stepped { evaluations: 0, .. } => {
                return Err("a step came out of the cache: the time would mean nothing".into());
            }
            Event::Stepped { .. } => steps += 1,
            Event::Observed { index, observation } => seen.push((index, observation)),
            _ => {}
        }
    }
    if steps != wanted {
        return Err(format!("{steps} steps were made instead of {wanted}").into());
    }
    Ok(seen)
}

/// What a prediction does with each observation: the preview decoded and scored, the probe asked.
fn judge(
    backbone: &dyn Backbone,
    probe: &Probe,
    (prompts, words): (&[String], &[Vec<Word>]),
    seen: &[(usize, Arc<Observation>)],
) -> Result<()> {
    let metric = probe
        .card()
        .preview
        .clone()
        .ok_or("a probe without previews")?;
    // The shipped probe's, which has no files.
    let scorer = scorers::load(&metric, Vec::new(), &Device::Cpu)?;
    seen.par_iter()
        .map(|(index, observation)| {
            let prompt = &prompts[*index];
            let decoding = probe.card().previews;
            let shown = decoding.shown(observation)?;
            let shown = (&shown, observation.steps_done);
            let scored = decoding.score(backbone, scorer.as_ref(), prompt, shown)?;
            probe.predict(&[Look {
                observation,
                words: &words[*index],
                preview: Some(&scored),
            }])
        })
        .collect::<foreseed::Result<Vec<_>>>()?;
    Ok(())
}

/// The most memory that this process ever held.
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|l| l.starts_with("VmHWM:"))
        .ok_or("no VmHWM")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kilobytes * 1024)
}
