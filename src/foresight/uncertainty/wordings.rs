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
/// The best of several noisy figures promises too much. The differences between the wordings' means
/// are partly the luck of these seeds, which the spread of the paired differences shows; the rest is
/// what such wordings usually are apart. Each gain is shrunk, towards what its wording usually gains, to
/// the share of the latter (Bayes' estimate of a normal mean): what is left is expected of it, whichever
/// is picked.
pub fn wording_gains(wordings: &[Wording<'_>], shares: Shares) -> Vec<Option<Gain>> {
    let Some(first) = wordings.first() else {
        return Vec::new();
    };
    let seeds: Vec<Vec<f64>> = wordings.iter().map(Wording::qualities).collect();
    let pairs = seeds[1..].iter().filter(|to| to.len() <= seeds[0].len());
    let differences: Vec<Vec<f64>> = pairs
        .map(|to| to.iter().zip(&seeds[0]).map(|(b, a)| b - a).collect())
        .collect();
    let (between, usual_luck) = (pooled_variance(&seeds), pooled_variance(&differences));
    let estimate = |to| Some(Paired::new(first, to, between, usual_luck)?.estimate(shares));
    wordings.iter().map(estimate).collect()
}

/// The least gain that is worth another wording, in standard deviations between a prompt's seeds: a
/// seed chosen well brings ten times as much.
const WORTH_A_CHANGE: f64 = 0.1;

/// Below this chance to be better than the one to take, a wording is not worth more seeds.
const LEAST_CHANCE: f64 = 0.2;
/// So many wordings, the likeliest, get more seeds at most.
const MOST_OPEN: usize = 3;

/// The wording to take: the one with the largest gain, as `gains` has them from [`wording_gains`]; the
/// first where nothing is worth a change.
pub fn best_wording(wordings: &[Wording<'_>], gains: &[Option<Gain>]) -> usize {
    let least = least_gain(wordings);
    let gain = |i: usize| gains[i].map_or(f64::NEG_INFINITY, |g| g.point);
    let worth = (1..gains.len()).filter(|&i| gain(i) > least);
    worth.fold(0, |best, i| match best {
        0 => i,
        _ if gain(i) > gain(best) => i,
        _ => best,
    })
}

/// The wordings that more seeds may show to be the one to take, or not to be; nobody where it is clear.
/// The first, known as it is, stands for the least gain that is worth a change.
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
    let best = best_wording(wordings, gains);
    let Some(bar) = beliefs.get(best).copied().flatten() else {
        return Vec::new();
    };
    let chance = |i: usize| beliefs[i].map_or(0.0, |b| b.beats(bar));
    let mut open: Vec<usize> = (0..beliefs.len())
        .filter(|&i| i == best || chance(i) >= LEAST_CHANCE)
        .collect();
    if open.len() < 2 {
        return Vec::new();
    }
    open.retain(|&i| i != 0);
    open.sort_by(|&a, &b| chance(b).total_cmp(&chance(a)));
    open.truncate(MOST_OPEN);
    open.sort_unstable();
    open
}

fn least_gain(wordings: &[Wording<'_>]) -> f64 {
    let seeds: Vec<Vec<f64>> = wordings.iter().map(Wording::qualities).collect();
    WORTH_A_CHANGE * pooled_variance(&seeds).sqrt()
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
    /// One a seed.
    pub predictions: Vec<&'a Prediction>,
    pub usual: Usual,
}

impl Wording<'_> {
    fn qualities(&self) -> Vec<f64> {
        self.predictions.iter().map(|p| p.quality).collect()
    }
}

/// What is seen of a wording beside the first.
struct Paired {
    /// What such a wording gains on average, and the variance of that from prompt to prompt.
    usual: f64,
    apart: f64,
    /// The mean of the differences.
    gain: f64,
    /// The variance of that mean over other sets of seeds.
    luck: f64,
    /// The mean variance of a prediction's error; `None` where nothing is calibrated.
    error: Option<f64>,
    /// By how much the luck may be larger than so few seeds show.
    doubt: f64,
    /// Whether it is the first itself.
    same: bool,
}

impl Paired {
    fn new(
        first: &Wording<'_>,
        wording: &Wording<'_>,
        between: f64,
        usual_luck: f64,
    ) -> Option<Self> {
        let to = &wording.predictions;
        let from = first.predictions.get(..to.len())?;
        let gains: Vec<f64> = from
            .iter()
            .zip(to)
            .map(|(a, b)| b.quality - a.quality)
            .collect();
        let gain = mean(&gains)?;
        let both: Vec<&Prediction> = from.iter().chain(to).copied().collect();
        let error = error_variance(&both);
        // One seed alone shows no luck, which does not mean that there is none.
        let usual_luck = match gains.len() {
            1 => error.unwrap_or(0.0),
            _ => usual_luck,
        };
        // A wording beside itself differs by nothing, whatever the seeds.
        let same = std::ptr::eq(first, wording);
        Some(Self {
            usual: if same {
                0.0
            } else {
                wording.usual.gain * between.sqrt()
            },
            apart: wording.usual.variance * between,
            gain,
            luck: match same {
                true => 0.0,
                false => spread(&gains, gain, usual_luck) / gains.len() as f64,
            },
            error,
            doubt: (gains.len() as f64 + 1.0) / (gains.len() as f64 - 1.0).max(1.0),
            same,
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
        let kept = match self.apart + self.luck {
            0.0 => 1.0,
            seen => self.apart / seen,
        };
        let point = self.usual + kept * (self.gain - self.usual);
        let luck = kept * self.luck * self.doubt;
        let interval = self.error.map(|error| {
            // The two wordings' own parts of the shared error, independent of one another.
            let misjudged = 2.0 * shares.prompt * (1.0 - shares.wording) * error;
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
