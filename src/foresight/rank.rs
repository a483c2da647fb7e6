//! `rank_seeds`: which seeds of a prompt are worth rendering, with the weak ones dropped early. How
//! it decides is said in [`super::race`].

use std::collections::HashMap;

use super::call::{Call, Opened};
use super::predictor::Predictor;
use super::race::{Moment, Race, Round, Terms};
use super::replies::{RankReply, Ranked};
use super::requests::RankRequest;
use super::{Caller, Foresight, advice, sheet, validate};
use crate::Result;
use crate::candidate::Candidate;
use crate::probe::Prediction;

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
                shown: None,
                next: advice::go_on("rank_seeds"),
                common: call.end(&name, metric, false, 0),
            });
        };
        let predictor = call.predictor(&opened, asked)?;
        // Asked for a step: that is as far as any seed goes.
        let last = asked.at_step.map(|_| predictor.at_step);
        let per_step = opened.evaluations_per_step;
        let mut stops = predictor.stops(last, per_step);
        if keep == seeds.len() {
            // Nobody can be dropped, so that nothing is decided on the way: all go as far as predictions
            // go, or as the budget takes them.
            let at_step = Moment::after(predictor.at_step).steps();
            let takes = |moment: Moment| {
                let all = seeds.len() as u64 * moment.evaluations(per_step);
                request.budget.is_none_or(|budget| all <= budget)
            };
            let furthest = stops
                .iter()
                .rfind(|stop| stop.moment.steps() <= at_step && takes(stop.moment));
            if let Some(furthest) = furthest.copied() {
                stops = vec![furthest];
            }
        }
        let first = stops.first().map(|stop| stop.moment);
        let first = first.unwrap_or(Moment::after(predictor.at_step));
        let least = seeds.len() as u64 * first.evaluations(per_step);
        validate::budget(request.budget, least, first.step, seeds.len())?;
        let terms = Terms {
            stops,
            keep,
            budget: request.budget,
            evaluations_a_step: per_step,
            steps: opened.settings.steps,
        };
        let mut ranking = Ranking {
            candidates: seeds
                .iter()
                .map(|seed| opened.candidate(&request.prompt, *seed))
                .collect(),
            race: Race::new(seeds.len(), terms),
            keep,
            budget: request.budget,
            predictor,
            opened,
        };
        if request.contact_sheet {
            call.x0 = Some(HashMap::new());
        }
        ranking.run(&mut call).await?;
        ranking.reply(&mut call, request.contact_sheet).await
    }
}

/// A race and those who run in it.
pub(super) struct Ranking {
    pub opened: Opened,
    pub predictor: Predictor,
    /// In the race's order.
    pub candidates: Vec<Candidate>,
    pub race: Race,
    pub keep: usize,
    /// In denoiser evaluations.
    budget: Option<u64>,
}

impl Ranking {
    /// Runs the race's rounds until it is over, or patience ends. The race counts as if nothing had
    /// been done before, so that the same call takes the same decisions whatever the cache holds;
    /// what was done before is not paid again.
    async fn run(&mut self, call: &mut Call<'_>) -> Result<()> {
        while !call.out_of_time
            && let Some(Round { who, moment }) = self.race.next()
        {
            let mut said = who
                .iter()
                .map(|&i| self.known_further_on(call, i, moment))
                .collect::<Result<Vec<_>>>()?;
            let unknown: Vec<usize> = (0..who.len()).filter(|&i| said[i].is_none()).collect();
            // Steps that were done before are told again.
            call.foresee(unknown.len() * moment.steps_done());
            let runner = |&i: &usize| self.candidates[who[i]].clone();
            let runners: Vec<Candidate> = unknown.iter().map(runner).collect();
            let purse = self.purse(call);
            let predictions = call
                .predictions(&self.opened, &self.predictor, &runners, moment, purse)
                .await?;
            for (i, prediction) in unknown.into_iter().zip(predictions) {
                said[i] = prediction.map(|prediction| (prediction, moment));
            }
            self.race.report_at(said);
        }
        Ok(())
    }

    /// What is known of a seed from before at the furthest stop beyond `moment`, where nothing is known of
    /// it at `moment` itself, so that nothing need be done there.
    fn known_further_on(
        &self,
        call: &Call<'_>,
        seed: usize,
        moment: Moment,
    ) -> Result<Option<(Prediction, Moment)>> {
        let handle = self.opened.handle(&self.candidates[seed]);
        let known = |moment| call.known(&self.predictor, &handle, moment);
        if known(moment)?.is_some() {
            return Ok(None);
        }
        let beyond = self.race.stops().rev();
        for stop in beyond.take_while(|stop| stop.steps() > moment.steps()) {
            if let Some(prediction) = known(stop)? {
                return Ok(Some((prediction, stop)));
            }
        }
        Ok(None)
    }

    /// What may still be paid, where a budget was stated.
    pub fn purse(&self, call: &Call<'_>) -> Option<u64> {
        let budget = self.budget?;
        Some(budget.saturating_sub(call.evaluations))
    }

    async fn reply(self, call: &mut Call<'_>, contact_sheet: bool) -> Result<RankReply> {
        let order = self.race.ranking();
        let (contact_sheet, shown) = if contact_sheet && !call.out_of_time {
            let (path, shown) = sheet::write(call, &self, &order).await?;
            (path, Some(shown))
        } else {
            (None, None)
        };
        let ranking: Vec<Ranked> = order
            .iter()
            .filter_map(|&i| self.race.judged(i).map(|(p, moment)| (i, p, moment)))
            .zip(1..)
            .map(|((i, prediction, moment), rank)| Ranked {
                rank,
                seed: self.candidates[i].seed,
                quality: prediction.quality,
                interval: prediction.interval,
                p_good: prediction.p_good,
                handle: self.opened.handle(&self.candidates[i]),
                stopped_at_step: moment.steps_done() as u32,
            })
            .collect();
        let model = &self.opened.settings.model;
        let next = if call.out_of_time {
            advice::go_on("rank_seeds")
        } else if let Some(caveat) = self.predictor.caveat(model) {
            caveat
        } else {
            let has_rest = self.keep < self.candidates.len();
            advice::about_ranking(&ranking, has_rest.then(|| self.race.is_clear()))
        };
        Ok(RankReply {
            ranking,
            contact_sheet,
            shown,
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
