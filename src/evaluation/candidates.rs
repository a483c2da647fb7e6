//! Finished candidates, and what was said of them beforehand.

use std::collections::BTreeMap;

use crate::candidate::Seed;
use crate::foresight::race::Stop;
use crate::probe::Prediction;

/// The rows of the table, the shipped probe last.
pub const PREDICTORS: [&str; 11] = [
    "random",
    "prompt-only",
    "attention-entropy",
    "attention-peak",
    "attention-spread",
    "x0-preview",
    "small-preview",
    "attention-probe",
    "glimpse",
    "probe-shuffled",
    "probe",
];

/// One value a candidate and step: (steps) × (prompts) × (seeds).
pub type Said<T = f64> = Vec<Vec<Vec<T>>>;

/// The candidates of some prompts, by prompt and seed.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    pub model: String,
    pub metric: String,
    pub good: f64,
    /// Steps of a full render, and denoiser evaluations a step.
    pub steps: usize,
    pub evaluations_a_step: usize,
    /// The steps at which the probe predicts.
    pub at_steps: Vec<usize>,
    pub prompts: Vec<String>,
    /// (prompts) × (seeds)
    pub seeds: Vec<Vec<Seed>>,
    /// (prompts) × (seeds)
    pub scores: Vec<Vec<f64>>,
    pub predicted: BTreeMap<String, Said>,
    /// Design and training seed → what that network says by itself.
    pub by_network: BTreeMap<(String, usize), Said>,
    /// All that the shipped probe says.
    pub foreseen: Said<Prediction>,
    /// What it says halfway into the step; empty where it has no such network.
    pub glimpsed: Said<Prediction>,
    /// Where `rank_seeds` would judge them.
    pub stops: Vec<Stop>,
    pub words: JudgedWords,
}

/// The words whose objects the scorer found right or wrong, of all seeds of a prompt.
#[derive(Clone, Debug, Default)]
pub struct JudgedWords {
    /// (prompts) × (words)
    pub wrong: Vec<Vec<bool>>,
    /// The probe's risk: (steps) × (prompts) × (words)
    pub risks: Said,
    /// How far the word's attention is spread.
    pub spreads: Said,
}

impl Candidates {
    /// Denoiser evaluations of a full render.
    pub fn full(&self) -> f64 {
        (self.steps * self.evaluations_a_step) as f64
    }

    /// How many seeds a prompt has.
    pub fn seed_count(&self) -> usize {
        self.scores.first().map_or(0, Vec::len)
    }

    /// Whether each came out good.
    pub fn is_good(&self) -> Vec<bool> {
        let good = |score: &f64| *score >= self.good;
        self.scores.iter().flatten().map(good).collect()
    }

    /// The place among the steps of the one nearest to `step`; `None` where there are none.
    pub fn nearest_step(&self, step: usize) -> Option<usize> {
        (0..self.at_steps.len()).min_by_key(|&i| self.at_steps[i].abs_diff(step))
    }

    /// Adds the probe's word on the next seed of the same prompt: what is left of its skill then is
    /// what it knows of the prompt.
    pub fn shuffle_seeds(&mut self) {
        let Some(mut said) = self.predicted.get("probe").cloned() else {
            return;
        };
        for group in said.iter_mut().flatten() {
            let by = 1.min(group.len());
            group.rotate_left(by);
        }
        self.predicted.insert("probe-shuffled".into(), said);
    }
}

/// The values of each prompt, at one step, through `part`.
pub fn part<T>(of: &[Vec<T>], part: impl Fn(&T) -> f64) -> Vec<Vec<f64>> {
    of.iter()
        .map(|group| group.iter().map(&part).collect())
        .collect()
}
