//! Runs fresh candidates to the end, scores them, and keeps what every predictor said on the way.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;

use super::candidates::{Candidates, JudgedWords, Said};
use super::progress::Progress;
use crate::Result;
use crate::backbones::{Backbone, TapRequest, Word};
use crate::candidate::{Seed, Settings};
use crate::foresight::race;
use crate::probe::net::Design;
use crate::probe::preview::Decoding;
use crate::probe::prompts::Source;
use crate::probe::random::Random;
use crate::probe::run::{run, words_wrong};
use crate::probe::unlearned::{Shape, shapes};
use crate::probe::{Look, Prediction, Probe};
use crate::sampling::Observation;
use crate::scorers::Scorer;

/// What to run.
pub struct Order<'a> {
    pub backbone: &'a dyn Backbone,
    pub scorer: &'a dyn Scorer,
    pub probe: &'a Probe,
    pub settings: &'a Settings,
    pub source: &'a Source,
    /// Seeds of each prompt.
    pub seeds: usize,
    /// What the seeds are drawn from.
    pub draw: u64,
    /// Whether the baselines have their say, and each network by itself.
    pub baselines: bool,
}

impl Order<'_> {
    /// Steps of single trajectories that it takes.
    pub fn steps(&self) -> usize {
        self.source.prompts.len() * self.seeds * self.settings.steps
    }
}

/// What was said of one candidate at one step.
struct Saying {
    by_predictor: BTreeMap<String, f64>,
    by_network: BTreeMap<(String, usize), f64>,
    prediction: Prediction,
    glimpse: Option<Prediction>,
    /// Of each word's attention.
    spreads: Vec<f64>,
}

/// Runs, scores and predicts all candidates.
pub fn sample(order: &Order<'_>, progress: &dyn Fn(Progress)) -> Result<Candidates> {
    let card = order.probe.card();
    let steps = card.at_steps.len();
    let negative = order.settings.negative_prompt.as_deref();
    let evaluations_a_step = order.backbone.evaluations_per_step(negative, card.guidance);
    let mut all = Candidates {
        model: card.model_name.clone(),
        metric: order.scorer.metric().into(),
        good: card.good,
        steps: card.steps,
        evaluations_a_step: evaluations_a_step as usize,
        at_steps: card.at_steps.clone(),
        stops: race::stops(
            &card.at_steps,
            order.probe.judges_glimpses(),
            evaluations_a_step,
            |step, glimpse| order.probe.trust(step, glimpse),
        ),
        foreseen: vec![Vec::new(); steps],
        words: JudgedWords {
            wrong: Vec::new(),
            risks: vec![Vec::new(); steps],
            spreads: vec![Vec::new(); steps],
        },
        ..Candidates::default()
    };
    for index in 0..order.source.prompts.len() {
        one_prompt(order, index, &mut all, progress)?;
    }
    all.shuffle_seeds();
    Ok(all)
}

fn one_prompt(
    order: &Order<'_>,
    index: usize,
    all: &mut Candidates,
    progress: &dyn Fn(Progress),
) -> Result<()> {
    let card = order.probe.card();
    let prompt = &order.source.prompts[index].prompt;
    let tap = TapRequest {
        blocks: card.tap.clone(),
        middle: card.middle,
    };
    let words = order.backbone.words(prompt)?;
    let mut random = Random::nth(order.draw, index as u64);
    let seeds: Vec<Seed> = (0..order.seeds).map(|_| Seed(random.bits())).collect();
    let runs = run(
        order.backbone,
        prompt,
        &seeds,
        order.settings,
        (&card.at_steps, &tap),
        &|| progress(Progress::Stepped(order.seeds)),
    )?;
    let scores = runs
        .par_iter()
        .map(|run| order.scorer.score(prompt, &run.picture))
        .collect::<Result<Vec<_>>>()?;
    let verdicts: Vec<Vec<Option<bool>>> = scores
        .iter()
        .map(|score| words_wrong(&words, score))
        .collect();
    let judged = |of: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
        verdicts
            .iter()
            .enumerate()
            .flat_map(|(seed, verdicts)| {
                let known = verdicts.iter().zip(of(seed)).filter(|(v, _)| v.is_some());
                known.map(|(_, value)| value).collect::<Vec<_>>()
            })
            .collect()
    };
    for step in 0..card.at_steps.len() {
        let said = runs
            .par_iter()
            .map(|run| say(order, prompt, &words, &run.observations[step]))
            .collect::<Result<Vec<_>>>()?;
        all.words.risks[step].push(judged(&|seed| said[seed].prediction.word_risks.clone()));
        all.words.spreads[step].push(judged(&|seed| said[seed].spreads.clone()));
        keep(all, step, said, &mut random);
    }
    let wrong = verdicts.iter().flatten().flatten().copied().collect();
    all.words.wrong.push(wrong);
    all.scores.push(scores.iter().map(|s| s.value).collect());
    all.prompts.push(prompt.clone());
    all.seeds.push(seeds);
    Ok(())
}

/// Adds what was said of one prompt's seeds at one step.
fn keep(all: &mut Candidates, step: usize, said: Vec<Saying>, random: &mut Random) {
    let steps = all.at_steps.len();
    let mut by_predictor: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut by_network: BTreeMap<(String, usize), Vec<f64>> = BTreeMap::new();
    let (mut foreseen, mut glimpsed) = (Vec::new(), Vec::new());
    for said in said {
        for (name, value) in said.by_predictor {
            by_predictor.entry(name).or_default().push(value);
        }
        by_predictor
            .entry("random".into())
            .or_default()
            .push(random.unit());
        for (key, value) in said.by_network {
            by_network.entry(key).or_default().push(value);
        }
        foreseen.push(said.prediction);
        glimpsed.extend(said.glimpse);
    }
    let nothing = || -> Said { vec![Vec::new(); steps] };
    for (name, values) in by_predictor {
        all.predicted.entry(name).or_insert_with(nothing)[step].push(values);
    }
    for (key, values) in by_network {
        all.by_network.entry(key).or_insert_with(nothing)[step].push(values);
    }
    if glimpsed.len() == foreseen.len() {
        all.glimpsed.resize(steps, Vec::new());
        all.glimpsed[step].push(glimpsed);
    }
    all.foreseen[step].push(foreseen);
}

fn say(
    order: &Order<'_>,
    prompt: &str,
    words: &[Word],
    observation: &Observation,
) -> Result<Saying> {
    let probe = order.probe;
    let scored = |decoding: Decoding, x0: &Tensor, done| {
        decoding.score(order.backbone, order.scorer, prompt, (x0, done))
    };
    let (decoding, done) = (probe.card().previews, observation.steps_done);
    let read = scored(decoding, &decoding.shown(observation)?, done)?;
    let look = Look {
        observation,
        words,
        preview: Some(&read),
    };
    let before = match &observation.previous_x0 {
        Some(x0) => Some(scored(decoding, x0, done.saturating_sub(1))?),
        None => None,
    };
    let glimpse = probe.predict_as_glimpse(&look, before.as_ref())?;
    let features = probe.features(&look)?;
    let prediction = probe.predict_by(Design::Probe, &features)?;
    let mut by_predictor = BTreeMap::from([("probe".to_string(), prediction.quality)]);
    if let Some(glimpse) = &glimpse {
        by_predictor.insert(Design::Glimpse.name().into(), glimpse.quality);
    }
    let mut by_network = BTreeMap::new();
    if order.baselines {
        // Decoded by the VAE, as good as it gets, and by the small decoder that the probe reads with
        // early on, in a fraction of the time; both as it was predicted, whatever the probe reads.
        let scored_by = |vae_from| {
            let decoding = Decoding {
                vae_from,
                ..Decoding::default()
            };
            scored(decoding, &observation.x0, done)
        };
        // One of the two is often what was read already.
        let read_by_vae = decoding.is_by_vae(done);
        let all_by_vae = read_by_vae && decoding.doubt.is_none();
        let by_vae = match all_by_vae && decoding.ahead == 0.0 {
            true => read.value,
            false => scored_by(Some(0))?.value,
        };
        let small = match read_by_vae {
            true => scored_by(None)?.value,
            false => read.value,
        };
        by_predictor.insert("x0-preview".into(), by_vae);
        by_predictor.insert("small-preview".into(), small);
        for design in probe.designs() {
            // What a glimpse says is told by its own features.
            if design == Design::Glimpse {
                continue;
            }
            if design != Design::Probe {
                let quality = probe.predict_by(design, &features)?.quality;
                by_predictor.insert(design.name().into(), quality);
            }
            for network in 0..probe.networks(design) {
                let quality = probe.quality_by(design, network, &features)?;
                by_network.insert((design.name().to_string(), network), quality);
            }
        }
    }
    let shapes = shapes(&features, probe.card().tap.len());
    let known: Vec<_> = shapes.iter().flatten().collect();
    let count = known.len().max(1) as f64;
    // Concentrated attention is taken to be a good sign.
    let of = |part: fn(&Shape) -> f64| known.iter().map(|shape| part(shape)).sum::<f64>() / count;
    by_predictor.insert("attention-entropy".into(), -of(|s| s.entropy));
    by_predictor.insert("attention-peak".into(), of(|s| s.peak));
    by_predictor.insert("attention-spread".into(), -of(|s| s.spread));
    Ok(Saying {
        by_predictor,
        by_network,
        prediction,
        glimpse,
        spreads: shapes
            .iter()
            .map(|shape| shape.map_or(1.0, |s| s.spread))
            .collect(),
    })
}
