//! What another wording gains over the first, and which wording to take.

use super::odds::Belief;
use super::{around, error_variance, mean, spread};
use crate::probe::Prediction;
use crate::probe::shares::Shares;

/// What is expected of another wording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    pub point: f64,
    /// Holds 90 %, where the predictions are calibrated.
    pub interval: Option<[f64; 2]>,
    /// The standard deviation of what more seeds would tell of it.
    pub unsure: f64,
}

impl Gain {
    fn belief(self) -> Belief {
        Belief {
            mean: self.point,
            error: self.unsure,
        }
    }
}

/// What each wording of a scene gains over the first, on average over fresh seeds, from predictions
/// of the same seeds in the same order; one that was tried on fewer seeds is paired with as many of the
/// first's. `None` for one that does not pair with the first.
///
/// What an early look foresees of the gain is taken for what is usual, in part ([`EARLY_KEPT`]).
///
/// The best of several noisy figures promises too much. The differences between the wordings' means
/// are partly the luck of these seeds, which the spread of the paired differences shows; the rest is
/// what such wordings usually are apart. Each gain is shrunk, towards what its wording usually gains, to
/// the share of the latter (Bayes' estimate of a normal mean): what is left is expected of it, whichever
/// is picked.
pub fn wording_gains(wordings: &[Wording<'_>], shares: Shares) -> Vec<Option<Gain>> {
    let Some(first) = wordings.first() else {
        return Vec::new();
    };
    let differences: Vec<Vec<f64>> = wordings[1..]
        .iter()
        .filter_map(|wording| differences(&first.predictions, &wording.predictions))
        .collect();
    let between = between_seeds(wordings);
    let usual_luck = pooled_variance(&differences);
    let estimate = |to| Some(Paired::new(first, to, between, usual_luck)?.estimate(shares));
    wordings.iter().map(estimate).collect()
}

/// The least gain that is worth another wording, in standard deviations between a prompt's seeds: a
/// seed chosen well brings ten times as much.
const WORTH_A_CHANGE: f64 = 0.1;

/// So much of the gain that an early look foresees is taken for what is usual: it knows the wording, next
/// to nothing of a seed, and takes wordings to be further apart than they are. By itself 0.4 of it comes
/// to be; half picks best together with a trial (`models/pocket-recipe/README.md`).
const EARLY_KEPT: f64 = 0.5;
/// So much of a gain's variance from prompt to prompt an early look tells.
const EARLY_TELLS: f64 = 0.2;

/// Below this chance to be better than the one to take, a wording is not worth more seeds.
const LEAST_CHANCE: f64 = 0.2;
/// So many wordings, the likeliest, get more seeds at a time.
const MOST_OPEN: usize = 3;

/// The wording to take: of those that were tried the one with the largest gain, as `gains` has them from
/// [`wording_gains`]; the first where nothing is worth a change.
pub fn best_wording(wordings: &[Wording<'_>], gains: &[Option<Gain>]) -> usize {
    likeliest(wordings, gains, |i| !wordings[i].predictions.is_empty())
}

/// Of the wordings that `may` be, that with the largest gain that is worth a change; the first if none is.
fn likeliest(
    wordings: &[Wording<'_>],
    gains: &[Option<Gain>],
    may: impl Fn(usize) -> bool,
) -> usize {
    let least = least_gain(wordings);
    let gain = |i: usize| gains[i].map_or(f64::NEG_INFINITY, |g| g.point);
    let worth = (1..gains.len()).filter(|&i| may(i) && gain(i) > least);
    worth.fold(0, |best, i| match best {
        0 => i,
        _ if gain(i) > gain(best) => i,
        _ => best,
    })
}

/// The wordings that more seeds may show to be the one to take, or not to be; nobody where it is clear.
/// The first, known as it is, stands for the least gain that is worth a change. One that was looked at
/// early alone is not taken before it was tried.
pub fn undecided(wordings: &[Wording<'_>], gains: &[Option<Gain>]) -> Vec<usize> {
    let first = Belief {
        mean: least_gain(wordings),
        error: 0.0,
    };
    let beliefs: Vec<Option<Belief>> = gains
        .iter()
        .enumerate()
        .map(|(i, gain)| match i {
            0 => Some(first),
            _ => gain.map(Gain::belief),
        })
        .collect();
    let best = likeliest(wordings, gains, |_| true);
    let Some(bar) = beliefs.get(best).copied().flatten() else {
        return Vec::new();
    };
    let chance = |i: usize| beliefs[i].map_or(0.0, |b| b.beats(bar));
    let mut open: Vec<usize> = (0..beliefs.len())
        .filter(|&i| i == best || chance(i) >= LEAST_CHANCE)
        .collect();
    let tried = best == 0 || !wordings[best].predictions.is_empty();
    if open.len() < 2 && tried {
        return Vec::new();
    }
    open.retain(|&i| i != 0);
    open.sort_by(|&a, &b| chance(b).total_cmp(&chance(a)));
    open.truncate(MOST_OPEN);
    open.sort_unstable();
    open
}

fn least_gain(wordings: &[Wording<'_>]) -> f64 {
    WORTH_A_CHANGE * between_seeds(wordings).sqrt()
}

/// The variance of predictions between the seeds of one wording. Where each has one seed alone, which
/// shows none, that of a prediction's error.
fn between_seeds(wordings: &[Wording<'_>]) -> f64 {
    let seeds: Vec<Vec<f64>> = wordings.iter().map(Wording::qualities).collect();
    let early: Vec<Vec<f64>> = wordings.iter().map(Wording::early_qualities).collect();
    match seeds.iter().chain(&early).all(|seeds| seeds.len() < 2) {
        true => wordings
            .first()
            .and_then(|first| error_variance(&first.predictions))
            .unwrap_or(0.0),
        false => f64::max(pooled_variance(&seeds), pooled_variance(&early)),
    }
}

/// The variance within groups, taken to be the same in all of them.
fn pooled_variance(groups: &[Vec<f64>]) -> f64 {
    let (mut squares, mut freedom) = (0.0, 0.0);
    for group in groups.iter().filter(|group| group.len() > 1) {
        let centre = group.iter().sum::<f64>() / group.len() as f64;
        squares += group.iter().map(|v| (v - centre).powi(2)).sum::<f64>();
        freedom += (group.len() - 1) as f64;
    }
    squares / f64::max(freedom, 1.0)
}

/// What a wording of a kind is known to gain over others, before it is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// On average over prompts, in standard deviations between the predictions of one prompt's seeds.
    pub gain: f64,
    /// The variance of that gain from prompt to prompt, in the seeds' variance.
    pub variance: f64,
}

impl Usual {
    /// Of a wording that nothing is known of.
    pub const UNKNOWN: Self = Self {
        gain: 0.0,
        variance: 0.1,
    };
}

/// A wording, as [`wording_gains`] takes it.
#[derive(Clone, Debug)]
pub struct Wording<'a> {
    /// One a seed; none of a wording that was looked at early alone.
    pub predictions: Vec<&'a Prediction>,
    /// What was predicted of the first of these seeds after an earlier step; none where there was no such
    /// look.
    pub early: Vec<&'a Prediction>,
    pub usual: Usual,
}

impl Wording<'_> {
    fn qualities(&self) -> Vec<f64> {
        qualities(&self.predictions)
    }

    fn early_qualities(&self) -> Vec<f64> {
        qualities(&self.early)
    }
}

fn qualities(predictions: &[&Prediction]) -> Vec<f64> {
    predictions.iter().map(|p| p.quality).collect()
}

/// Seed by seed; `None` where `to` has more seeds, or there are none.
fn differences(from: &[&Prediction], to: &[&Prediction]) -> Option<Vec<f64>> {
    let from = from.get(..to.len()).filter(|from| !from.is_empty())?;
    let pairs = from.iter().zip(to);
    Some(pairs.map(|(a, b)| b.quality - a.quality).collect())
}

/// What is seen of a wording beside the first.
struct Paired {
    /// What is expected of such a wording before it is tried, and the variance of that from prompt to
    /// prompt.
    usual: f64,
    apart: f64,
    /// `None` of a wording that was not tried.
    seen: Option<Differences>,
    /// The mean variance of a prediction's error; `None` where nothing is calibrated.
    error: Option<f64>,
    /// Whether it is the first itself.
    same: bool,
}

/// Between the predictions of a wording and those of the first.
struct Differences {
    mean: f64,
    /// The variance of that mean over other sets of seeds.
    luck: f64,
    /// By how much the luck may be larger than so few seeds show.
    doubt: f64,
}

impl Paired {
    fn new(
        first: &Wording<'_>,
        wording: &Wording<'_>,
        between: f64,
        usual_luck: f64,
    ) -> Option<Self> {
        let gains = differences(&first.predictions, &wording.predictions);
        let early = differences(&first.early, &wording.early);
        let by = |from: &[&'_ Prediction], to: &[&'_ Prediction]| {
            let both: Vec<&Prediction> = from[..to.len()].iter().chain(to).copied().collect();
            error_variance(&both)
        };
        let error = match (&gains, &early) {
            (Some(_), _) => by(&first.predictions, &wording.predictions),
            // One that has more seeds than the first does not pair with it.
            (None, Some(_)) if wording.predictions.is_empty() => by(&first.early, &wording.early),
            _ => return None,
        };
        let (mut usual, mut apart) = (
            wording.usual.gain * between.sqrt(),
            wording.usual.variance * between,
        );
        if let Some(foreseen) = early.as_deref().and_then(mean) {
            usual += EARLY_KEPT * (foreseen - usual);
            apart *= 1.0 - EARLY_TELLS;
        }
        let seen = gains.and_then(|gains| {
            let seeds = gains.len() as f64;
            // One seed alone shows no luck, which does not mean that there is none.
            let usual_luck = match gains.len() {
                1 => error.unwrap_or(0.0),
                _ => usual_luck,
            };
            let mean = mean(&gains)?;
            Some(Differences {
                mean,
                luck: spread(&gains, mean, usual_luck) / seeds,
                doubt: (seeds + 1.0) / (seeds - 1.0).max(1.0),
            })
        });
        Some(Self {
            usual,
            apart,
            seen,
            error,
            // A wording beside itself differs by nothing, whatever the seeds.
            same: std::ptr::eq(first, wording),
        })
    }

    /// The gain to be expected of other seeds.
    fn estimate(&self, shares: Shares) -> Gain {
        if self.same {
            return Gain {
                point: 0.0,
                interval: self.error.map(|_| [0.0, 0.0]),
                unsure: 0.0,
            };
        }
        let (point, luck) = match &self.seen {
            Some(seen) => {
                let kept = match self.apart + seen.luck {
                    0.0 => 1.0,
                    both => self.apart / both,
                };
                let point = self.usual + kept * (seen.mean - self.usual);
                (point, kept * seen.luck * seen.doubt)
            }
            None => (self.usual, self.apart),
        };
        let interval = self.error.map(|error| {
            // The two wordings' own parts of the shared error, independent of one another. What is known
            // of gains from prompt to prompt, before a trial, is of measured ones, and has no such part.
            let misjudged = match self.seen {
                Some(_) => 2.0 * shares.prompt * (1.0 - shares.wording) * error,
                None => 0.0,
            };
            around(point, luck + misjudged, None)
        });
        Gain {
            point,
            interval,
            unsure: luck.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests;
