//! What `rank_seeds` would have done with recorded candidates: its own race, with the accounting of
//! the evaluation.

use crate::foresight::race::{Race, Terms};
use crate::probe::Prediction;

use super::candidates::Candidates;

/// What a race came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The seed that is ranked first.
    pub first: usize,
    /// What the race and rendering its first cost, its own steps paid once.
    pub evaluations: f64,
}

/// Races `seeds` of a prompt by the default policy, keeping one, and renders its first.
pub fn race(all: &Candidates, prompt: usize, seeds: &[usize]) -> Outcome {
    let per_step = all.evaluations_a_step as u64;
    let terms = Terms {
        stops: all.stops.clone(),
        keep: 1,
        budget: None,
        evaluations_a_step: per_step,
        steps: all.steps,
    };
    let mut race = Race::new(seeds.len(), terms);
    while let Some(round) = race.next() {
        let said = |seed: &usize| -> Option<Prediction> {
            let index = all.at_steps.iter().position(|s| *s == round.moment.step)?;
            let said = match round.moment.glimpse {
                true => &all.glimpsed,
                false => &all.foreseen,
            };
            Some(said.get(index)?.get(prompt)?.get(seeds[*seed])?.clone())
        };
        race.report(round.who.iter().map(said).collect());
    }
    let first = race.ranking().first().copied().unwrap_or(0);
    let reached = race
        .judged(first)
        .map_or(0, |(_, m)| m.evaluations(per_step));
    Outcome {
        first: seeds[first],
        evaluations: race.spent() as f64 + all.full() - reached as f64,
    }
}
