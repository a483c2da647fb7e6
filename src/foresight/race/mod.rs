//! How `rank_seeds` decides: a race as a state machine over predictions. It runs nothing; whoever
//! drives it brings the candidates of a [`Round`] to its [`Moment`] and reports what was predicted.
//!
//! All seeds are judged at the first moment. What two seeds of one prompt have in common (the probe
//! misjudges the prompt) does not tell them apart, so a seed is believed to come out at its
//! prediction, give or take its own share of the error. Then, moment by moment:
//! - A seed whose chance to be better than the `keep`-th best is below [`LEAST_CHANCE`] is out for
//!   now; no more than `keep` left, and the race is over: the best are clear.
//! - The rest are contenders. Going on with the first n of them as far as some later moment tells more
//!   of them and may reorder them. What that is expected to add to the last of the kept, less what it
//!   costs at [`PRICE`], is the plan's worth. The best plan that the budget allows is begun; where
//!   none is worth anything, the race is over.
//!
//! Costs are counted as if nothing had been done before, so that a race that is run again decides as it
//! did, and a stated budget is kept in any case. A seed that was judged further on before, and not where
//! it is sent, stands where it was judged, and costs only what it goes on from there.

#[cfg(test)]
mod tests;

use super::uncertainty::odds::{Belief, expected_best};
use crate::probe::Prediction;
use crate::probe::shares::Trust;

/// Half the width of a 90 % interval, in standard deviations of a normal error.
const Z90: f64 = 1.6449;

/// Below this chance to be among the best a seed is dropped.
const LEAST_CHANCE: f64 = 0.05;

/// What a full render's evaluations are worth spending on, in standard deviations of the quality
/// between seeds. The second random render adds 0.56 of them to the best of those rendered, the
/// third 0.28: a race is worth less than that at no point.
const PRICE: f64 = 0.3;

/// The moment at which candidates are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// From 1.
    pub step: usize,
    /// Half-way into that step rather than at its end.
    pub glimpse: bool,
}

impl Moment {
    /// After so many steps.
    pub fn after(step: usize) -> Self {
        Self {
            step,
            glimpse: false,
        }
    }

    /// In steps: half a step less, where it is half-way into one.
    pub fn steps(self) -> f64 {
        self.step as f64 - if self.glimpse { 0.5 } else { 0.0 }
    }

    /// Steps done by then.
    pub fn steps_done(self) -> usize {
        self.step - usize::from(self.glimpse)
    }

    /// Denoiser evaluations from the noise to here.
    pub fn evaluations(self, a_step: u64) -> u64 {
        self.steps_done() as u64 * a_step + u64::from(self.glimpse)
    }
}

/// A moment that is open to the race, and how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stop {
    pub moment: Moment,
    /// The share of the error's variance there that all seeds of a prompt have in common.
    pub prompt_share: f64,
    /// The usual standard deviation of the whole error there, where it is known.
    pub error: Option<f64>,
}

/// The stops after `steps` and, where they can be judged and cost less than whole steps, half-way
/// into each of them. `trust` says how far a prediction goes after a step or half-way into it.
pub fn stops(
    steps: &[usize],
    glimpses: bool,
    evaluations_a_step: u64,
    trust: impl Fn(usize, bool) -> Trust,
) -> Vec<Stop> {
    let halves: &[bool] = match glimpses && evaluations_a_step > 1 {
        true => &[true, false],
        false => &[false],
    };
    let moments = steps
        .iter()
        .flat_map(|&step| halves.iter().map(move |&glimpse| Moment { step, glimpse }));
    moments
        .map(|moment| {
            let Trust { shares, error } = trust(moment.step, moment.glimpse);
            Stop {
                moment,
                prompt_share: shares.prompt,
                error,
            }
        })
        .collect()
}

/// What a race is run on.
#[derive(Clone, Debug)]
pub struct Terms {
    /// In the order in which a candidate passes them.
    pub stops: Vec<Stop>,
    /// How many of the best are wanted.
    pub keep: usize,
    /// In denoiser evaluations; never exceeded as long as it takes everybody to the first stop.
    pub budget: Option<u64>,
    pub evaluations_a_step: u64,
    /// Steps of a full render.
    pub steps: usize,
}

/// Who is to be judged next, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Seeds by their number in the race, the most promising first.
    pub who: Vec<usize>,
    pub moment: Moment,
}

/// What is known of a seed: its latest prediction, and the stop of it.
#[derive(Clone, Debug, Default)]
struct Standing {
    prediction: Option<Prediction>,
    stop: Option<usize>,
    /// Evaluations that were paid before the race, of a seed that was judged further on by then.
    before: u64,
}

/// A race under way.
#[derive(Clone, Debug)]
pub struct Race {
    terms: Terms,
    field: Vec<Standing>,
    /// The first stop that nobody was sent to.
    ahead: usize,
    sent: Option<Round>,
    over: bool,
}

impl Race {
    pub fn new(seeds: usize, terms: Terms) -> Self {
        Self {
            terms,
            field: vec![Standing::default(); seeds],
            ahead: 0,
            sent: None,
            over: false,
        }
    }

    /// Where seeds are judged, in order.
    pub fn stops(&self) -> impl DoubleEndedIterator<Item = Moment> {
        self.terms.stops.iter().map(|stop| stop.moment)
    }

    /// The next round; `None` when the race is over. What it says stays until it is reported.
    pub fn next(&mut self) -> Option<Round> {
        if self.sent.is_none() && !self.over {
            self.sent = self.send();
            self.over = self.sent.is_none();
        }
        self.sent.clone()
    }

    fn send(&mut self) -> Option<Round> {
        while let Some(stop) = self.terms.stops.get(self.ahead) {
            let mut who = match self.ahead {
                0 => (0..self.field.len()).collect(),
                _ => self.who_goes_on(),
            };
            if who.is_empty() {
                return None;
            }
            // Who was judged further on already has nothing to learn here.
            who.retain(|&seed| self.field[seed].stop < Some(self.ahead));
            if !who.is_empty() {
                let moment = stop.moment;
                return Some(Round { who, moment });
            }
            self.ahead += 1;
        }
        None
    }

    /// What was predicted of those who were sent, in the round's order. Where one is missing, the
    /// race ends: whoever drives it could not go on.
    pub fn report(&mut self, predictions: Vec<Option<Prediction>>) {
        let Some(moment) = self.sent.as_ref().map(|round| round.moment) else {
            return;
        };
        let here = predictions.into_iter().map(|p| p.map(|p| (p, moment)));
        self.report_at(here.collect());
    }

    /// The same, each with the moment at which it was made: the round's, or a later stop's that is known
    /// from before.
    pub fn report_at(&mut self, predictions: Vec<Option<(Prediction, Moment)>>) {
        let Some(round) = self.sent.take() else {
            return;
        };
        self.over |= predictions.len() < round.who.len();
        for (seed, said) in round.who.into_iter().zip(predictions) {
            let Some((prediction, moment)) = said else {
                self.over = true;
                continue;
            };
            let stops = &self.terms.stops;
            let stop = stops.iter().position(|stop| stop.moment == moment);
            let before = match moment == round.moment {
                true => self.field[seed].before,
                false => moment.evaluations(self.terms.evaluations_a_step),
            };
            self.field[seed] = Standing {
                prediction: Some(prediction),
                stop: Some(stop.unwrap_or(self.ahead)),
                before,
            };
        }
        self.ahead += 1;
    }

    /// Every seed once, the best first; those never judged last.
    pub fn ranking(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.field.len()).collect();
        order.sort_by(|&a, &b| {
            let further = self.field[b].stop.cmp(&self.field[a].stop);
            let better = self.quality(b).total_cmp(&self.quality(a));
            better.then(further).then(a.cmp(&b))
        });
        order
    }

    /// The latest prediction of a seed, and where it was made.
    pub fn judged(&self, seed: usize) -> Option<(&Prediction, Moment)> {
        let standing = self.field.get(seed)?;
        let stop = self.terms.stops.get(standing.stop?)?;
        Some((standing.prediction.as_ref()?, stop.moment))
    }

    /// Whether no more than the wanted ones are left.
    pub fn is_clear(&self) -> bool {
        self.contenders().len() <= self.terms.keep
    }

    /// Denoiser evaluations that it took to bring every seed where it is, from the noise or from where
    /// it had been judged further on before.
    pub fn spent(&self) -> u64 {
        let own = |seed: usize| self.paid(seed).saturating_sub(self.field[seed].before);
        (0..self.field.len()).map(own).sum()
    }

    fn paid(&self, seed: usize) -> u64 {
        self.judged(seed).map_or(0, |(_, moment)| {
            moment.evaluations(self.terms.evaluations_a_step)
        })
    }

    fn quality(&self, seed: usize) -> f64 {
        let prediction = self.field[seed].prediction.as_ref();
        prediction.map_or(f64::NEG_INFINITY, |p| p.quality)
    }

    /// What tells this seed from the others; no error where nothing is calibrated.
    fn belief(&self, seed: usize) -> Belief {
        let standing = &self.field[seed];
        let interval = standing.prediction.as_ref().and_then(|p| p.interval);
        let own = |stop: usize| (1.0 - self.terms.stops[stop].prompt_share).max(0.0).sqrt();
        let error = match (interval, standing.stop) {
            (Some([low, high]), Some(stop)) => (high - low) / (2.0 * Z90) * own(stop),
            _ => 0.0,
        };
        Belief {
            mean: self.quality(seed),
            error,
        }
    }

    /// The kept and those that may be better than the last of them, best first.
    fn contenders(&self) -> Vec<usize> {
        let mut order = self.ranking();
        let Some(&last) = order.get(self.terms.keep.saturating_sub(1)) else {
            return order;
        };
        let bar = self.belief(last);
        let mut place = 0;
        order.retain(|&seed| {
            place += 1;
            place <= self.terms.keep || self.belief(seed).beats(bar) >= LEAST_CHANCE
        });
        order
    }

    /// The contenders of the plan that is worth most; nobody where none is worth its cost.
    fn who_goes_on(&self) -> Vec<usize> {
        let (ranking, contenders) = (self.ranking(), self.contenders());
        let keep = self.terms.keep.max(1);
        if contenders.len() <= keep {
            return Vec::new();
        }
        let purse = match self.terms.budget {
            Some(budget) => budget.saturating_sub(self.spent()),
            None => u64::MAX,
        };
        let price = self.price();
        let bar = self.quality(contenders[keep - 1]);
        let (mut worth, mut who) = (0.0, 0);
        for stop in self.ahead..self.terms.stops.len() {
            let moment = self.terms.stops[stop].moment;
            let there = moment.evaluations(self.terms.evaluations_a_step);
            let mut cost = 0;
            let mut moving: Vec<Belief> = Vec::new();
            for (place, &seed) in contenders.iter().enumerate() {
                cost += there.saturating_sub(self.paid(seed));
                if cost > purse {
                    break;
                }
                if place + 1 < keep {
                    continue;
                }
                moving.push(Belief {
                    mean: self.quality(seed),
                    error: self.told_by(seed, stop),
                });
                let left = ranking.get(place + 1);
                let floor = left.map_or(f64::NEG_INFINITY, |&seed| self.quality(seed));
                let gain = expected_best(floor, &moving) - bar;
                if gain - price * cost as f64 > worth {
                    (worth, who) = (gain - price * cost as f64, place + 1);
                }
            }
        }
        contenders[..who].to_vec()
    }

    /// How much an evaluation must bring.
    fn price(&self) -> f64 {
        let known: Vec<Belief> = (0..self.field.len())
            .filter(|&seed| self.field[seed].prediction.is_some())
            .map(|seed| self.belief(seed))
            .collect();
        let n = known.len().max(1) as f64;
        let mean = known.iter().map(|b| b.mean).sum::<f64>() / n;
        let spread = known
            .iter()
            .map(|b| (b.mean - mean).powi(2) + b.error.powi(2));
        let spread = (spread.sum::<f64>() / n).sqrt();
        let full = self.terms.steps as u64 * self.terms.evaluations_a_step;
        PRICE * spread / full.max(1) as f64
    }

    /// The standard deviation by which this seed's prediction is going to move on the way to `stop`:
    /// what its error loses. Where the usual errors are not known, the error's variance is taken to
    /// go evenly with the steps that are left.
    fn told_by(&self, seed: usize, stop: usize) -> f64 {
        let Some(from) = self.field[seed].stop else {
            return 0.0;
        };
        let (from, to) = (&self.terms.stops[from], &self.terms.stops[stop]);
        let own = |stop: &Stop| stop.error.map(|e| e * e * (1.0 - stop.prompt_share));
        if from.moment.steps() >= to.moment.steps() {
            return 0.0;
        }
        let left = match (own(from), own(to)) {
            (Some(before), Some(after)) if before > 0.0 => after / before,
            _ => {
                let left = |stop: &Stop| {
                    let all = self.terms.steps as u64 * self.terms.evaluations_a_step;
                    all.saturating_sub(stop.moment.evaluations(self.terms.evaluations_a_step))
                        as f64
                };
                left(to) / left(from).max(1.0)
            }
        };
        self.belief(seed).error * (1.0 - left.clamp(0.0, 1.0)).sqrt()
    }
}
