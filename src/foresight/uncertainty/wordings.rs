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
/// So many wordings, the likeliest, get more seeds at most.
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
mod tests {
    use super::super::Z90;
    use super::super::tests::predicted;
    use super::*;

    fn of(predictions: Vec<&Prediction>) -> Wording<'_> {
        Wording {
            predictions,
            early: Vec::new(),
            usual: Usual::UNKNOWN,
        }
    }

    fn gains(qualities: &[[f64; 3]], half: f64) -> Vec<Gain> {
        let wordings: Vec<Vec<Prediction>> = qualities
            .iter()
            .map(|seeds| seeds.map(|q| predicted(q, half)).into())
            .collect();
        let wordings: Vec<Wording<'_>> = wordings.iter().map(|w| of(w.iter().collect())).collect();
        let gains = wording_gains(&wordings, Shares::USUAL);
        gains.into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn a_gain_is_paired_by_seed() {
        // Pairing takes the large spread between seeds away.
        let gain = gains(&[[0.2, 0.5, 0.8], [0.3, 0.6, 0.9]], 0.05)[1];
        let [low, high] = gain.interval.unwrap();
        assert!((0.08..0.1).contains(&gain.point), "{gain:?}");
        assert!(
            low < gain.point && gain.point < high && high - low < 0.2,
            "{gain:?}"
        );
        let (one, two) = (predicted(0.5, 0.1), predicted(0.6, 0.1));
        let odd = wording_gains(&[of(vec![&one]), of(vec![&one, &two])], Shares::USUAL);
        assert_eq!(odd[1], None);
        assert_eq!(wording_gains(&[], Shares::USUAL), []);
    }

    #[test]
    fn the_original_gains_nothing_over_itself() {
        let gain = gains(&[[0.2, 0.5, 0.8], [0.3, 0.6, 0.9]], 0.1)[0];
        assert_eq!((gain.point, gain.interval), (0.0, Some([0.0, 0.0])));
    }

    #[test]
    fn without_evidence_the_usual_gain_is_expected() {
        let noisy: Vec<Prediction> = [0.1, 0.9, 0.3, 0.6].map(|q| predicted(q, 0.1)).into();
        let other: Vec<Prediction> = [0.8, 0.2, 0.6, 0.3].map(|q| predicted(q, 0.1)).into();
        let known = |gain| Wording {
            predictions: other.iter().collect(),
            early: Vec::new(),
            usual: Usual {
                gain,
                variance: 0.001,
            },
        };
        let wordings = [of(noisy.iter().collect()), known(0.2), known(-0.2)];
        let seeds = [vec![0.1, 0.9, 0.3, 0.6], vec![0.8, 0.2, 0.6, 0.3]];
        let between =
            pooled_variance(&[seeds[0].clone(), seeds[1].clone(), seeds[1].clone()]).sqrt();
        let gains = wording_gains(&wordings, Shares::USUAL);
        let point = |i: usize| gains[i].unwrap().point;
        assert!((point(1) - 0.2 * between).abs() < 0.005, "{gains:?}");
        assert!((point(2) + 0.2 * between).abs() < 0.005, "{gains:?}");
    }

    #[test]
    fn a_wording_that_gains_next_to_nothing_is_not_worth_a_change() {
        let pick = |qualities: &[[f64; 3]]| {
            let all: Vec<Vec<Prediction>> = qualities
                .iter()
                .map(|seeds| seeds.map(|q| predicted(q, 0.05)).into())
                .collect();
            let all: Vec<Wording<'_>> = all.iter().map(|w| of(w.iter().collect())).collect();
            best_wording(&all, &wording_gains(&all, Shares::USUAL))
        };
        assert_eq!(pick(&[[0.2, 0.5, 0.8]]), 0);
        assert_eq!(pick(&[[0.2, 0.5, 0.8], [0.21, 0.51, 0.81]]), 0);
        assert_eq!(pick(&[[0.2, 0.5, 0.8], [0.1, 0.4, 0.7]]), 0);
        let apart = [[0.2, 0.5, 0.8], [0.3, 0.6, 0.9], [0.4, 0.7, 1.0]];
        assert_eq!(pick(&apart), 2);
    }

    fn open(qualities: &[&[f64]]) -> Vec<usize> {
        let all: Vec<Vec<Prediction>> = qualities
            .iter()
            .map(|seeds| seeds.iter().map(|&q| predicted(q, 0.05)).collect())
            .collect();
        let all: Vec<Wording<'_>> = all.iter().map(|w| of(w.iter().collect())).collect();
        undecided(&all, &wording_gains(&all, Shares::USUAL))
    }

    #[test]
    fn where_seeds_agree_nothing_is_undecided() {
        let original: &[f64] = &[0.2, 0.5, 0.8];
        assert!(open(&[original]).is_empty());
        assert!(open(&[original, &[0.3, 0.6, 0.9]]).is_empty());
        assert!(open(&[original, &[0.1, 0.4, 0.7]]).is_empty());
        let clearly_two = [original, &[0.3, 0.6, 0.9], &[0.4, 0.7, 1.0]];
        assert!(open(&clearly_two).is_empty());
    }

    #[test]
    fn wordings_between_which_luck_may_have_decided_are_undecided() {
        let original = [0.4, 0.5, 0.8, 0.4, 0.6, 0.9, 0.4, 0.7];
        let differences = [0.4, -0.1, 0.0, 0.3, -0.2, 0.1, 0.3, 0.0];
        let better: Vec<f64> = original
            .iter()
            .zip(differences)
            .map(|(q, d)| q + d)
            .collect();
        let worse = original.map(|q| q - 0.4);
        assert_eq!(open(&[&original, &better]), [1]);
        assert_eq!(open(&[&original, &better, &better]), [1, 2]);
        assert_eq!(open(&[&original, &worse, &better]), [2]);
    }

    #[test]
    fn a_wording_tried_on_fewer_seeds_is_paired_with_the_same_ones() {
        let all = [0.2, 0.5, 0.8, 0.1, 0.9].map(|q| predicted(q, 0.05));
        let more = all.each_ref().map(|p| predicted(p.quality + 0.1, 0.05));
        for seeds in [3, 5] {
            let wordings = [of(all.iter().collect()), of(more[..seeds].iter().collect())];
            let gain = wording_gains(&wordings, Shares::USUAL)[1].unwrap();
            assert!((gain.point - 0.1).abs() < 1e-9, "{seeds}: {gain:?}");
        }
    }

    fn looked_at<'a>(tried: &'a [Prediction], early: &'a [Prediction]) -> Wording<'a> {
        Wording {
            early: early.iter().collect(),
            ..of(tried.iter().collect())
        }
    }

    /// The first tried on its seeds, the others looked at early alone.
    fn early(first: &[f64], looks: &[&[f64]]) -> (Vec<Option<Gain>>, Vec<usize>) {
        let foreseen = |qualities: &[f64]| -> Vec<Prediction> {
            qualities.iter().map(|&q| predicted(q, 0.05)).collect()
        };
        let (tried, looks): (_, Vec<_>) =
            (foreseen(first), looks.iter().map(|q| foreseen(q)).collect());
        let wordings: Vec<Wording<'_>> = looks
            .iter()
            .enumerate()
            .map(|(i, look)| looked_at(if i == 0 { &tried } else { &[] }, look))
            .collect();
        let gains = wording_gains(&wordings, Shares::USUAL);
        let open = undecided(&wordings, &gains);
        (gains, open)
    }

    #[test]
    fn what_an_early_look_foresees_is_expected_in_part_and_sends_the_wording_on() {
        let (gains, open) = early(
            &[0.2, 0.5, 0.8],
            &[&[0.5, 0.5, 0.5], &[0.6, 0.6, 0.6], &[0.1, 0.1, 0.1]],
        );
        let points: Vec<f64> = gains.iter().map(|g| g.unwrap().point).collect();
        assert!((points[1] - 0.1 * EARLY_KEPT).abs() < 1e-9, "{points:?}");
        assert!((points[2] + 0.4 * EARLY_KEPT).abs() < 1e-9, "{points:?}");
        assert_eq!(open, [1]);
    }

    #[test]
    fn of_one_seed_alone_little_is_promised_and_nothing_for_sure() {
        let one = |q: f64| vec![predicted(q, 0.2)];
        let (first, better, same, look) = (one(0.4), one(0.9), one(0.5), one(0.7));
        let pair = [looked_at(&first, &same), looked_at(&better, &look)];
        let gain = wording_gains(&pair, Shares::USUAL)[1].unwrap();
        let [low, high] = gain.interval.unwrap();
        assert!((0.05..0.3).contains(&gain.point), "{gain:?}");
        assert!(
            low < 0.05 && high > gain.point && gain.unsure > 0.02,
            "{gain:?}"
        );
    }

    #[test]
    fn a_wording_is_tried_before_it_is_taken() {
        // Nothing else comes near, and it is clearly better.
        let (gains, open) = early(&[0.2, 0.2, 0.2], &[&[0.2, 0.2, 0.2], &[0.9, 0.9, 0.9]]);
        assert!(gains[1].unwrap().point > 0.3);
        assert_eq!(open, [1]);
    }

    #[test]
    fn a_trial_counts_beside_what_was_foreseen_early() {
        let all = |q: f64| [q, q + 0.3, q - 0.1].map(|q| predicted(q, 0.05));
        let (first, better) = (all(0.4), all(0.5));
        let look = |q: f64| [q; 3].map(|q| predicted(q, 0.05));
        let (same, worse) = (look(0.5), look(0.3));
        let gain = |early: &[Prediction; 3]| {
            let wording = |tried: &[Prediction]| {
                let pair = [looked_at(&first, &same), looked_at(tried, early)];
                wording_gains(&pair, Shares::USUAL)[1].unwrap().point
            };
            let noisy = [0.7, 0.4, 0.7].map(|q| predicted(q, 0.05));
            (wording(&better), wording(&noisy))
        };
        // Seeds that agree leave nothing to what was foreseen, seeds that do not leave some.
        assert!((gain(&worse).0 - 0.1).abs() < 1e-9);
        assert!(gain(&worse).1 < gain(&same).1 - 0.05);
    }

    #[test]
    fn what_may_be_the_seeds_luck_is_promised_in_part() {
        // The same mean gain, from seeds that agree and from seeds that do not.
        let agree = gains(&[[0.5, 0.5, 0.5], [0.6, 0.6, 0.6]], 0.02)[1].point;
        let differ = gains(&[[0.5, 0.5, 0.5], [0.2, 0.9, 0.7]], 0.02)[1].point;
        assert!(differ < 0.6 * agree && differ >= 0.0, "{agree}, {differ}");
    }

    #[test]
    fn the_pick_of_many_gains_what_was_promised_and_holds_its_interval() {
        use crate::probe::random::Random;
        let mut random = Random::new(11);
        let mut normal = || {
            let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
            radius * (std::f64::consts::TAU * random.unit()).cos()
        };
        let (scenes, wordings, seeds) = (3000, 7, 6);
        let (luck, half) = (0.15, 0.1);
        // Two wordings are apart by twice the variance of one.
        let signal = luck * (0.5 * Usual::UNKNOWN.variance).sqrt();
        let error = (half / Z90).powi(2);
        let misjudged = (Shares::USUAL.prompt * (1.0 - Shares::USUAL.wording) * error).sqrt();
        let (mut promised, mut gained, mut naive, mut held) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..scenes {
            // What is expected of each wording, and what the probe cannot know of it.
            let known: Vec<f64> = (0..wordings).map(|_| 0.5 + signal * normal()).collect();
            let truth: Vec<f64> = known.iter().map(|q| q + misjudged * normal()).collect();
            let all: Vec<Vec<Prediction>> = known
                .iter()
                .map(|q| {
                    (0..seeds)
                        .map(|_| predicted(q + luck * normal(), half))
                        .collect()
                })
                .collect();
            let all: Vec<Wording<'_>> = all.iter().map(|w| of(w.iter().collect())).collect();
            let gains: Vec<Gain> = wording_gains(&all, Shares::USUAL)
                .into_iter()
                .map(Option::unwrap)
                .collect();
            let best = (0..wordings).max_by(|&a, &b| gains[a].point.total_cmp(&gains[b].point));
            let best = best.unwrap();
            let points =
                |i: usize| all[i].predictions.iter().map(|p| p.quality).sum::<f64>() / seeds as f64;
            let [low, high] = gains[best].interval.unwrap();
            let gain = truth[best] - truth[0];
            promised += gains[best].point / scenes as f64;
            naive += (points(best) - points(0)) / scenes as f64;
            gained += gain / scenes as f64;
            held += f64::from(u8::from((low..=high).contains(&gain))) / scenes as f64;
        }
        assert!(
            (promised - gained).abs() < 0.012,
            "{promised} promised, {gained} gained"
        );
        assert!(naive > 1.5 * gained, "{naive} without shrinking");
        assert!((0.87..0.96).contains(&held), "held {held}");
    }
}
