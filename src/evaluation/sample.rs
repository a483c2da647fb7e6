//! Fresh candidates and what every predictor says of them.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::Result;
use crate::backbones::{Backbone, TapRequest, Word};
use crate::candidate::{Seed, Settings};
use crate::probe::net::Design;
use crate::probe::prompts::{Asked, Source};
use crate::probe::random::Random;
use crate::probe::run::{picture, run, words_wrong};
use crate::probe::unlearned::shapes;
use crate::probe::{Prediction, Probe};
use crate::sampling::Observation;
use crate::scorers::Scorer;

/// The rows of the table, the shipped probe last.
pub const PREDICTORS: [&str; 9] = [
    "random",
    "prompt-only",
    "attention-entropy",
    "attention-peak",
    "attention-spread",
    "x0-preview",
    "attention-probe",
    "probe-shuffled",
    "probe",
];

/// What to evaluate on.
pub struct EvalOrder<'a> {
    pub backbone: &'a dyn Backbone,
    pub scorer: &'a dyn Scorer,
    pub probe: &'a Probe,
    pub settings: &'a Settings,
    pub source: &'a Source,
    /// Seeds of each prompt.
    pub seeds: usize,
    /// What the seeds are drawn from.
    pub seed: u64,
}

/// Finished candidates, by prompt and seed, and what was said of them beforehand.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    pub model: String,
    pub metric: String,
    pub good: f64,
    /// Steps of a full render, and denoiser evaluations a step.
    pub steps: usize,
    pub evaluations_a_step: usize,
    pub at_steps: Vec<usize>,
    /// (prompts) × (seeds)
    pub scores: Vec<Vec<f64>>,
    /// Predictor → (steps) × (prompts) × (seeds)
    pub predicted: BTreeMap<String, Vec<Vec<Vec<f64>>>>,
    /// Design and training seed → the same
    pub by_network: BTreeMap<(String, usize), Vec<Vec<Vec<f64>>>>,
    /// Of the shipped probe: (steps) × (all candidates) of the chance of good, and of the interval.
    pub p_good: Vec<Vec<f64>>,
    pub intervals: Vec<Vec<[f64; 2]>>,
    /// (steps) × (all words with a verdict)
    pub word_risks: Vec<Vec<f64>>,
    pub word_spreads: Vec<Vec<f64>>,
    /// (all words with a verdict)
    pub word_wrong: Vec<bool>,
}

/// What was said of one candidate at one step.
struct Said {
    by_predictor: BTreeMap<&'static str, f64>,
    by_network: BTreeMap<(String, usize), f64>,
    prediction: Prediction,
    spreads: Vec<f64>,
}

/// Runs, scores and predicts all candidates; `stepped` is called after every step of a prompt's seeds.
pub fn sample(order: &EvalOrder<'_>, stepped: &dyn Fn()) -> Result<Candidates> {
    let card = order.probe.card();
    let mut all = Candidates {
        model: card.model_name.clone(),
        metric: order.scorer.metric().into(),
        good: card.good,
        steps: card.steps,
        evaluations_a_step: if card.guidance > 1.0 { 2 } else { 1 },
        at_steps: card.at_steps.clone(),
        p_good: vec![Vec::new(); card.at_steps.len()],
        intervals: vec![Vec::new(); card.at_steps.len()],
        word_risks: vec![Vec::new(); card.at_steps.len()],
        word_spreads: vec![Vec::new(); card.at_steps.len()],
        ..Candidates::default()
    };
    for (index, asked) in order.source.prompts.iter().enumerate() {
        one_prompt(order, index, asked, &mut all, stepped)?;
    }
    shuffle_seeds(&mut all);
    Ok(all)
}

fn one_prompt(
    order: &EvalOrder<'_>,
    index: usize,
    asked: &Asked,
    all: &mut Candidates,
    stepped: &dyn Fn(),
) -> Result<()> {
    let card = order.probe.card();
    let tap = TapRequest {
        blocks: card.tap.clone(),
        middle: card.middle,
    };
    let words = order.backbone.words(&asked.prompt)?;
    let mut random = Random::nth(order.seed, index as u64);
    let seeds: Vec<Seed> = (0..order.seeds).map(|_| Seed(random.bits())).collect();
    let runs = run(
        order.backbone,
        &asked.prompt,
        &seeds,
        order.settings,
        (&card.at_steps, &tap),
        stepped,
    )?;
    let mut scores = Vec::with_capacity(runs.len());
    let mut verdicts = Vec::with_capacity(runs.len());
    for run in &runs {
        let score = order.scorer.score(&asked.prompt, &run.picture)?;
        verdicts.push(words_wrong(&words, &score));
        scores.push(score.value);
    }
    for step in 0..card.at_steps.len() {
        let said = runs
            .par_iter()
            .map(|run| say(order, &asked.prompt, &words, &run.observations[step]))
            .collect::<Result<Vec<_>>>()?;
        let mut by_predictor: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut by_network: BTreeMap<(String, usize), Vec<f64>> = BTreeMap::new();
        for (said, verdicts) in said.into_iter().zip(&verdicts) {
            for (name, value) in said.by_predictor {
                by_predictor.entry(name).or_default().push(value);
            }
            let chance = random.unit();
            by_predictor.entry("random").or_default().push(chance);
            for (key, value) in said.by_network {
                by_network.entry(key).or_default().push(value);
            }
            all.p_good[step].extend(said.prediction.p_good);
            all.intervals[step].extend(said.prediction.interval);
            for (word, verdict) in verdicts.iter().enumerate() {
                if let Some(wrong) = verdict {
                    all.word_risks[step].push(said.prediction.word_risks[word]);
                    all.word_spreads[step].push(said.spreads[word]);
                    if step == 0 {
                        all.word_wrong.push(*wrong);
                    }
                }
            }
        }
        let steps = card.at_steps.len();
        for (name, values) in by_predictor {
            let own = all.predicted.entry(name.into());
            own.or_insert_with(|| vec![Vec::new(); steps])[step].push(values);
        }
        for (key, values) in by_network {
            let own = all.by_network.entry(key);
            own.or_insert_with(|| vec![Vec::new(); steps])[step].push(values);
        }
    }
    all.scores.push(scores);
    Ok(())
}

fn say(
    order: &EvalOrder<'_>,
    prompt: &str,
    words: &[Word],
    observation: &Observation,
) -> Result<Said> {
    let probe = order.probe;
    let features = probe.features(observation, words)?;
    let mut by_predictor = BTreeMap::new();
    let mut by_network = BTreeMap::new();
    for design in probe.designs() {
        let prediction = probe.predict_by(design, &features)?;
        by_predictor.insert(design.name(), prediction.quality);
        for network in 0..probe.networks(design) {
            let quality = probe.quality_by(design, network, &features)?;
            by_network.insert((design.name().to_string(), network), quality);
        }
    }
    let shapes = shapes(&features, probe.card().tap.len());
    let known: Vec<_> = shapes.iter().flatten().collect();
    let count = known.len().max(1) as f64;
    // Concentrated attention is taken to be a good sign.
    let of = |part: fn(&crate::probe::unlearned::Shape) -> f64| {
        known.iter().map(|shape| part(shape)).sum::<f64>() / count
    };
    by_predictor.insert("attention-entropy", -of(|s| s.entropy));
    by_predictor.insert("attention-peak", of(|s| s.peak));
    by_predictor.insert("attention-spread", -of(|s| s.spread));
    let preview = picture(order.backbone, &observation.x0.unsqueeze(0)?)?;
    let preview = order.scorer.score(prompt, &preview)?;
    by_predictor.insert("x0-preview", preview.value);
    Ok(Said {
        by_predictor,
        by_network,
        prediction: probe.predict_by(Design::Probe, &features)?,
        spreads: shapes
            .iter()
            .map(|shape| shape.map_or(1.0, |s| s.spread))
            .collect(),
    })
}

/// The probe's word on the next seed of the same prompt: what is left of its skill is the prompt's.
fn shuffle_seeds(all: &mut Candidates) {
    let Some(mut steps) = all.predicted.get("probe").cloned() else {
        return;
    };
    for group in steps.iter_mut().flatten() {
        let by = 1.min(group.len());
        group.rotate_left(by);
    }
    all.predicted.insert("probe-shuffled".into(), steps);
}
