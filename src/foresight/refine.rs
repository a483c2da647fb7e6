//! `refine_prompt`: a better wording, found by trying several on the same seeds.
//!
//! What tells two wordings of a scene apart is known early, before anything is known of a seed: all are
//! looked at where the probe first predicts, and those that may be the best go on from there.

use super::call::{Call, Opened};
use super::predict::weak_words_of;
use super::predictor::Predictor;
use super::race::Moment;
use super::replies::{BestWording, RefineReply, TriedWording, WeakWord};
use super::requests::RefineRequest;
use super::rewrites::{Rewrite, rewrites};
use super::uncertainty::wordings::{Gain, Usual, Wording, best_wording, undecided, wording_gains};
use super::uncertainty::{Estimate, prompt_mean};
use super::{Caller, Foresight, advice, validate};
use crate::Result;
use crate::candidate::Seed;
use crate::probe::Prediction;
use crate::world::parse;

/// Seeds a wording: the gain is a mean of paired differences, so few are enough to see a large one.
const DEFAULT_COUNT: u32 = 8;
/// As many seeds get, unless their number was asked for, the wordings between which fewer do not decide.
const MOST_SEEDS: u32 = 16;
/// Wordings of its own that are tried in a round.
const OWN_REWRITES: usize = 6;

impl Foresight {
    /// Tries wordings of a prompt, the original among them, on the same seeds, and names the best.
    ///
    /// # Errors
    /// An argument out of bounds, named with its value; a model that cannot be loaded or is busy;
    /// [`crate::Error::Cancelled`].
    pub async fn refine(&self, request: RefineRequest, caller: &Caller) -> Result<RefineReply> {
        let asked = &request.settings;
        validate::refinement(&request)?;
        validate::shared(&asked.shared)?;
        let name = self.model_for(&request.prompt, asked.shared.model.as_deref())?;
        for variant in request.variants.iter().flatten() {
            self.models
                .vocabulary_check(&name, variant)
                .map_err(|error| validate::about("variants", variant, error))?;
        }

        let mut call = Call::begin(self, caller);
        let Some(opened) = call.open(&asked.shared).await? else {
            let metric = asked.metric.as_deref().unwrap_or("unknown");
            return Ok(RefineReply {
                best: BestWording {
                    prompt: request.prompt,
                    expected_quality: None,
                    gain: 0.0,
                    gain_interval: None,
                },
                tried: Vec::new(),
                weak_words: Vec::new(),
                next: advice::go_on("refine_prompt"),
                common: call.end(&name, metric, false, 0),
            });
        };
        let predictor = call.predictor(&opened, asked)?;
        let count = request.count.unwrap_or(DEFAULT_COUNT);
        let mut trial = Trial {
            count: count as usize,
            seeds: (0..request.count.unwrap_or(MOST_SEEDS)).map(Seed).collect(),
            early: predictor.earlier(),
            closed_world: self.models.draws_shapes_only(&name)?,
            tried: Vec::new(),
            opened,
            predictor,
        };
        trial.run(&mut call, &request).await?;
        trial.reply(&mut call, &request.prompt)
    }
}

/// Whether pocket's world reads another picture out of this wording; a background where the prompt left
/// it open is none.
fn asks_for_something_else(original: &str, wording: &str) -> bool {
    let scene = |text| parse(text).map(|reading| reading.scene);
    match (scene(original), scene(wording)) {
        (Ok(asked), Ok(mut said)) => {
            if asked.background.is_none() {
                said.background = None;
            }
            !said.asks_the_same_as(&asked)
        }
        _ => false,
    }
}

/// A wording that nothing is known of beforehand.
fn of_the_caller(prompt: &str) -> Rewrite {
    Rewrite {
        prompt: prompt.into(),
        usual: Usual::UNKNOWN,
    }
}

/// A wording and what each of the first seeds of it is predicted to come to.
struct Tried {
    wording: Rewrite,
    /// After an early step, where there is one to look at.
    early: Vec<Prediction>,
    /// After the step that was asked for; none where the early look was enough.
    predictions: Vec<Prediction>,
}

impl Tried {
    /// The latest of each seed.
    fn predictions(&self) -> Vec<&Prediction> {
        match self.predictions.is_empty() {
            true => self.early.iter().collect(),
            false => self.predictions.iter().collect(),
        }
    }

    fn predicted(&self) -> Wording<'_> {
        Wording {
            predictions: self.predictions.iter().collect(),
            early: self.early.iter().collect(),
            usual: self.wording.usual,
        }
    }
}

/// The wordings tried so far, the original first.
struct Trial {
    opened: Opened,
    predictor: Predictor,
    /// All that a wording may be tried on.
    seeds: Vec<Seed>,
    /// As many of them every wording is looked at on.
    count: usize,
    /// The step after which all are looked at; `None`: at once where it was asked for.
    early: Option<usize>,
    closed_world: bool,
    tried: Vec<Tried>,
}

impl Trial {
    /// The original, then in each round the agent's wordings (first round only) or our own rewrites
    /// of the best so far; ends when a round finds nothing better.
    async fn run(&mut self, call: &mut Call<'_>, request: &RefineRequest) -> Result<()> {
        let original = vec![of_the_caller(&request.prompt)];
        if !self.look_at(call, original).await? || !self.try_on(call, 0, self.count).await? {
            return Ok(());
        }
        for round in 0..request.rounds.unwrap_or(1) {
            let before = self.best();
            let wordings = match (&request.variants, round) {
                (Some(variants), 0) => variants.iter().map(|v| of_the_caller(v)).collect(),
                _ => {
                    let weak = self.weak_words(before)?;
                    rewrites(
                        &self.tried[before].wording.prompt,
                        &weak,
                        self.closed_world,
                        OWN_REWRITES,
                    )
                }
            };
            if !self.look_at(call, wordings).await?
                || !self.decide(call).await?
                || self.best() == before
            {
                break;
            }
        }
        Ok(())
    }

    /// Tries the wordings that may be the best, and the original, on as many seeds as all were looked at
    /// on, and on twice as many, until it is clear which to take or there are no more seeds. False where
    /// patience ended.
    async fn decide(&mut self, call: &mut Call<'_>) -> Result<bool> {
        loop {
            let open = undecided(&self.predicted(), &self.gains());
            let tried_on = |i: &usize| self.tried[*i].predictions.len();
            let fewest = open.iter().map(tried_on).min();
            let Some(fewest) = fewest.filter(|fewest| *fewest < self.seeds.len()) else {
                return Ok(true);
            };
            let count = (2 * fewest).clamp(self.count, self.seeds.len());
            let mut behind: Vec<usize> = std::iter::once(0).chain(open).collect();
            behind.retain(|i| tried_on(i) < count);
            for index in behind {
                if !self.try_on(call, index, count).await? {
                    return Ok(false);
                }
            }
        }
    }

    /// Looks at each wording that is new: early where there is such a look, or else where it was asked
    /// for. False where patience ended: only wordings whose every seed was seen are kept.
    async fn look_at(&mut self, call: &mut Call<'_>, wordings: Vec<Rewrite>) -> Result<bool> {
        let mut fresh: Vec<Rewrite> = Vec::new();
        for wording in wordings {
            let mut known = fresh.iter().chain(self.tried.iter().map(|t| &t.wording));
            if known.all(|other| other.prompt != wording.prompt) {
                fresh.push(wording);
            }
        }
        let step = self.early.unwrap_or(self.predictor.at_step);
        call.foresee(fresh.len() * self.count * step);
        for wording in fresh {
            let seeds = 0..self.count;
            let Some(seen) = self.predict(call, &wording.prompt, seeds, step).await? else {
                return Ok(false);
            };
            let (early, predictions) = match self.early {
                Some(_) => (seen, Vec::new()),
                None => (Vec::new(), seen),
            };
            self.tried.push(Tried {
                wording,
                early,
                predictions,
            });
        }
        Ok(true)
    }

    /// Brings the first `count` seeds of a wording to the step that was asked for. False where patience
    /// ended.
    async fn try_on(&mut self, call: &mut Call<'_>, index: usize, count: usize) -> Result<bool> {
        let tried = &self.tried[index];
        let more = tried.predictions.len()..count;
        if more.is_empty() {
            return Ok(true);
        }
        let (step, prompt) = (self.predictor.at_step, tried.wording.prompt.clone());
        call.foresee(more.len() * step);
        match self.predict(call, &prompt, more, step).await? {
            Some(more) => self.tried[index].predictions.extend(more),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Predictions of a wording on some of the seeds. `None` where patience ended before the last.
    async fn predict(
        &self,
        call: &mut Call<'_>,
        prompt: &str,
        seeds: std::ops::Range<usize>,
        step: usize,
    ) -> Result<Option<Vec<Prediction>>> {
        let moment = Moment::after(step);
        let candidates: Vec<_> = self.seeds[seeds]
            .iter()
            .map(|seed| self.opened.candidate(prompt, *seed))
            .collect();
        let predictions = call
            .predictions(&self.opened, &self.predictor, &candidates, moment, None)
            .await?;
        Ok(predictions.into_iter().collect())
    }

    fn predicted(&self) -> Vec<Wording<'_>> {
        self.tried.iter().map(Tried::predicted).collect()
    }

    /// What each wording gains over the original, which gains nothing, on fresh seeds.
    fn gains(&self) -> Vec<Option<Gain>> {
        wording_gains(&self.predicted(), self.predictor.shares())
    }

    /// The wording to take; the original where none is worth a change.
    fn best(&self) -> usize {
        best_wording(&self.predicted(), &self.gains())
    }

    fn weak_words(&self, index: usize) -> Result<Vec<WeakWord>> {
        let Some(tried) = self.tried.get(index) else {
            return Ok(Vec::new());
        };
        weak_words_of(&self.opened, &tried.wording.prompt, &tried.predictions())
    }

    /// What each wording is expected to come to on random seeds: what the original comes to, and what the
    /// wording gains over that, so that all compare as it was decided.
    fn expected(&self, gains: &[Option<Gain>]) -> Vec<Option<Estimate>> {
        let (range, shares) = (self.predictor.range(), self.predictor.shares());
        let original = self.tried.first();
        let original = original.and_then(|t| prompt_mean(&t.predictions(), range, shares));
        let of = |gain: &Option<Gain>| Some(original?.moved((*gain)?, range));
        gains.iter().map(of).collect()
    }

    fn reply(self, call: &mut Call<'_>, original: &str) -> Result<RefineReply> {
        let best = self.best();
        let gains = self.gains();
        let gain = gains.get(best).copied().flatten();
        let expected = self.expected(&gains);
        let expected_of_best = expected.get(best).copied().flatten();
        let best_wording = BestWording {
            prompt: self
                .tried
                .get(best)
                .map_or(original, |t| &t.wording.prompt)
                .to_string(),
            expected_quality: expected_of_best.map(|e| e.point),
            gain: gain.map_or(0.0, |g| g.point),
            gain_interval: gain.and_then(|g| g.interval),
        };
        let tried: Vec<TriedWording> = self
            .tried
            .iter()
            .zip(expected)
            .filter_map(|(tried, expected)| {
                expected.map(|expected| TriedWording {
                    prompt: tried.wording.prompt.clone(),
                    expected_quality: expected.point,
                    interval: expected.interval,
                })
            })
            .collect();
        let weak_words = self.weak_words(best)?;
        let model = &self.opened.settings.model;
        let next = if call.out_of_time {
            advice::go_on("refine_prompt")
        } else if let Some(caveat) = self.predictor.caveat(model) {
            caveat
        } else {
            let advice = advice::about_wordings(&best_wording, best == 0, &weak_words);
            match self.closed_world && asks_for_something_else(original, &best_wording.prompt) {
                true => format!("{} {advice}", advice::ANOTHER_PICTURE),
                false => advice,
            }
        };
        let candidates = self.tried.iter().map(|t| t.predictions().len()).sum();
        Ok(RefineReply {
            best: best_wording,
            tried,
            weak_words,
            next,
            common: call.end(
                model,
                &self.predictor.metric,
                self.predictor.is_calibrated(),
                self.opened.full_evaluations(candidates),
            ),
        })
    }
}
