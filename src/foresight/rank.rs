//! `rank_seeds`: which seeds of a prompt are worth rendering, with the weak ones dropped early. How
//! it decides is said in [`super::race`].

use std::collections::HashMap;

use super::call::{Call, Opened};
use super::predictor::Predictor;
use super::race::{self, Standing};
use super::replies::{RankReply, Ranked};
use super::requests::RankRequest;
use super::{Caller, Foresight, advice, sheet, validate};
use crate::Result;
use crate::candidate::Candidate;

const DEFAULT_COUNT: u32 = 16;

impl Foresight {
    /// Races the seeds and ranks them, every seed once, best first.
    ///
    /// # Errors
    /// An argument out of bounds, named with its value; a model that cannot be loaded or is busy;
    /// [`crate::Error::Cancelled`].
    pub async fn rank(&self, request: RankRequest, caller: &Caller) -> Result<RankReply> {
        let asked = &request.settings;
        validate::prompt("prompt", &request.prompt)?;
        validate::shared(&asked.shared)?;
        let seeds = validate::seeds(&request.seeds, DEFAULT_COUNT)?;
        let keep = validate::keep(request.keep, seeds.len())?;
        let name = self.model_for(&request.prompt, asked.shared.model.as_deref())?;

        let mut call = Call::begin(self, caller);
        let Some(opened) = call.open(&asked.shared).await? else {
            let metric = asked.metric.as_deref().unwrap_or("unknown");
            return Ok(RankReply {
                ranking: Vec::new(),
                contact_sheet: None,
                next: advice::go_on("rank_seeds"),
                common: call.end(&name, metric, false, 0),
            });
        };
        let predictor = call.predictor(&opened, asked)?;
        let stops: Vec<usize> = match asked.at_step {
            // Asked for a step: that is as far as any seed goes.
            Some(_) => predictor
                .at_steps
                .iter()
                .copied()
                .filter(|s| *s <= predictor.at_step)
                .collect(),
            None => predictor.at_steps.clone(),
        };
        let per_step = opened.evaluations_per_step;
        let first = stops.first().copied().unwrap_or(predictor.at_step);
        let least = (seeds.len() * first) as u64 * per_step;
        validate::budget(request.budget, least, first, seeds.len())?;
        let mut race = Race {
            candidates: seeds
                .iter()
                .map(|seed| opened.candidate(&request.prompt, *seed))
                .collect(),
            field: vec![Standing::default(); seeds.len()],
            stops,
            keep,
            budget: request.budget.unwrap_or_else(|| {
                race::default_budget(seeds.len(), predictor.at_step, per_step).max(least)
            }),
            predictor,
            opened,
        };
        if request.contact_sheet {
            call.x0 = Some(HashMap::new());
        }
        race.run(&mut call).await?;
        race.reply(&mut call, request.contact_sheet).await
    }
}

/// A race under way.
pub(super) struct Race {
    pub opened: Opened,
    pub predictor: Predictor,
    pub candidates: Vec<Candidate>,
    /// Where each candidate stands, in the same order.
    pub field: Vec<Standing>,
    /// The steps at which it is decided who goes on, ascending.
    pub stops: Vec<usize>,
    pub keep: usize,
    /// In denoiser evaluations.
    pub budget: u64,
}

impl Race {
    /// Brings the field from stop to stop until the best are clear, or the budget or patience ends.
    ///
    /// What a step costs is counted as if nothing had been done before, so that the same call takes
    /// the same decisions whatever the cache holds; what was done before is not paid again.
    async fn run(&mut self, call: &mut Call<'_>) -> Result<()> {
        let per_step = self.opened.evaluations_per_step;
        for round in 0..self.stops.len() {
            let stop = self.stops[round];
            let going = if round == 0 {
                (0..self.field.len()).collect()
            } else {
                let reached: usize = self.field.iter().map(|s| s.at_step).sum();
                let purse = self.budget.saturating_sub(reached as u64 * per_step);
                race::who_goes_on(&self.field, self.keep, stop, per_step, purse)
            };
            if going.is_empty() || call.out_of_time {
                break;
            }
            call.foresee(going.iter().map(|&i| stop - self.field[i].at_step).sum());
            let runners: Vec<Candidate> =
                going.iter().map(|&i| self.candidates[i].clone()).collect();
            let purse = self.purse(call);
            let predictions = call
                .predictions(&self.opened, &self.predictor, &runners, stop, Some(purse))
                .await?;
            for (i, prediction) in going.into_iter().zip(predictions) {
                if prediction.is_some() {
                    let standing = &mut self.field[i];
                    (standing.prediction, standing.at_step) = (prediction, stop);
                }
            }
            race::drop_the_hopeless(&mut self.field, self.keep);
        }
        Ok(())
    }

    /// What may still be paid.
    pub fn purse(&self, call: &Call<'_>) -> u64 {
        self.budget.saturating_sub(call.evaluations)
    }

    async fn reply(self, call: &mut Call<'_>, contact_sheet: bool) -> Result<RankReply> {
        let order = race::ranking(&self.field);
        let contact_sheet = if contact_sheet && !call.out_of_time {
            Some(sheet::write(call, &self, &order).await?)
        } else {
            None
        };
        let ranking: Vec<Ranked> = order
            .iter()
            .filter_map(|&i| self.field[i].prediction.as_ref().map(|p| (i, p)))
            .zip(1..)
            .map(|((i, prediction), rank)| Ranked {
                rank,
                seed: self.candidates[i].seed,
                quality: prediction.quality,
                interval: prediction.interval,
                p_good: prediction.p_good,
                handle: self.opened.handle(&self.candidates[i]),
                stopped_at_step: self.field[i].at_step as u32,
            })
            .collect();
        let model = &self.opened.settings.model;
        let next = if call.out_of_time {
            advice::go_on("rank_seeds")
        } else if let Some(caveat) = self.predictor.caveat(model) {
            caveat
        } else {
            advice::about_ranking(&ranking, race::is_clear(&self.field, self.keep))
        };
        Ok(RankReply {
            ranking,
            contact_sheet,
            next,
            common: call.end(
                model,
                &self.predictor.metric,
                self.predictor.is_calibrated(),
                self.opened.full_evaluations(self.candidates.len()),
            ),
        })
    }
}
