//! What `rank_seeds` would have done with recorded candidates: the same decisions, with accounting
//! of their own.

use crate::foresight::race::{self, Standing};

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
    let at_step = all.nearest_step(all.steps / 5);
    let at_step = at_step.map_or(1, |i| all.at_steps[i]);
    let least = (seeds.len() * all.at_steps[0]) as u64 * per_step;
    let budget = race::default_budget(seeds.len(), at_step, per_step).max(least);
    let mut field = vec![Standing::default(); seeds.len()];
    for (index, &stop) in all.at_steps.iter().enumerate() {
        let going = if index == 0 {
            (0..field.len()).collect()
        } else {
            let reached: usize = field.iter().map(|s| s.at_step).sum();
            let purse = budget.saturating_sub(reached as u64 * per_step);
            race::who_goes_on(&field, 1, stop, per_step, purse)
        };
        if going.is_empty() {
            break;
        }
        for i in going {
            field[i].prediction = Some(all.foreseen[index][prompt][seeds[i]].clone());
            field[i].at_step = stop;
        }
        race::drop_the_hopeless(&mut field, 1);
    }
    let first = race::ranking(&field)[0];
    let steps: usize = field.iter().map(|s| s.at_step).sum();
    let left = all.steps - field[first].at_step;
    Outcome {
        first: seeds[first],
        evaluations: (steps + left) as f64 * per_step as f64,
    }
}
