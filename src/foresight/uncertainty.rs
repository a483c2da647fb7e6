//! From predictions of single candidates to what holds for a prompt, and for a change of wording.
//!
//! A candidate's measured quality is its prediction plus an error. The error has two parts: one that
//! all seeds of a prompt have in common (the probe misjudges the prompt) and one of the seed's own.
//! Averaging over seeds takes away the second, never the first, so the interval of a prompt's mean
//! does not shrink to nothing however many seeds are asked for.

use crate::probe::Prediction;
use crate::probe::shares::Shares;
use crate::probe::stats;

/// Half the width of a 90 % interval, in standard deviations of a normal error.
const Z90: f64 = 1.6449;

/// The variance of a scene's expected quality from one common wording of it to another, as pocket's
/// rewordings of weak prompts show it (indistinguishable from none: at most this), and how many
/// wordings' worth of evidence that is.
const USUAL_WORDING_VARIANCE: f64 = 0.0005;
const EVIDENCE: f64 = 20.0;

/// A point and, where the predictions are calibrated, the interval around it that holds 90 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub point: f64,
    pub interval: Option<[f64; 2]>,
}

/// The prompt's mean quality over random seeds, from the predictions of some. `range` is what the
/// metric can take, where it is bounded. `None` where nothing was predicted.
pub fn prompt_mean(
    predictions: &[&Prediction],
    range: Option<[f64; 2]>,
    shares: Shares,
) -> Option<Estimate> {
    let points: Vec<f64> = predictions.iter().map(|p| p.quality).collect();
    let point = mean(&points)?;
    let interval = error_variance(predictions).map(|error| {
        let between_seeds = spread(&points, point, error) / points.len() as f64;
        around(point, between_seeds + shares.prompt * error, range)
    });
    Some(Estimate { point, interval })
}

/// What each wording of a scene gains over the first, on average over fresh seeds, from predictions
/// of the same seeds in the same order. `None` for one that does not pair with the first.
///
/// The best of several noisy figures promises too much. The differences between the wordings' means
/// are partly the luck of these seeds, which the spread of the paired differences shows; the rest is
/// what the wordings are expected to differ by. Each gain is shrunk to the share of the latter
/// (empirical Bayes, Efron & Morris 1973): what is left is expected of it, whichever is picked.
///
/// `unit` is what 1 is in the metric's units; where it is not known, what the predictions say.
pub fn wording_gains(
    wordings: &[Vec<&Prediction>],
    shares: Shares,
    unit: Option<f64>,
) -> Vec<Option<Estimate>> {
    let Some(first) = wordings.first() else {
        return Vec::new();
    };
    let paired: Vec<Option<Paired>> = wordings.iter().map(|to| Paired::new(first, to)).collect();
    // How far the wordings are apart, and what of that is luck: half of a difference's.
    let known: Vec<&Paired> = paired.iter().flatten().collect();
    let rivals = &known[1.min(known.len())..];
    let gains: Vec<f64> = known.iter().map(|p| p.gain).collect();
    let (Some(centre), Some(luck)) = (
        mean(&gains),
        mean(&rivals.iter().map(|p| 0.5 * p.luck).collect::<Vec<_>>()),
    ) else {
        let same = |p: Option<Paired>| p.map(|p| p.estimate(1.0, shares));
        return paired.into_iter().map(same).collect();
    };
    let unit = unit.unwrap_or_else(|| {
        let all: Vec<f64> = wordings.iter().flatten().map(|p| p.quality).collect();
        stats::deviation(&all) / stats::USUAL_DEVIATION
    });
    let usual = USUAL_WORDING_VARIANCE * unit * unit;
    let squares: f64 = gains.iter().map(|g| (g - centre).powi(2)).sum();
    let evidence = EVIDENCE + rivals.len() as f64;
    let apart = (squares + EVIDENCE * (usual + luck)) / evidence;
    let kept = match apart > 0.0 {
        true => ((apart - luck) / apart).clamp(0.0, 1.0),
        false => 0.0,
    };
    let shrunk = |p: Option<Paired>| p.map(|p| p.estimate(kept, shares));
    paired.into_iter().map(shrunk).collect()
}

/// What is seen of a wording beside the first.
struct Paired {
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
    fn new(from: &[&Prediction], to: &[&Prediction]) -> Option<Self> {
        if from.len() != to.len() {
            return None;
        }
        let gains: Vec<f64> = from
            .iter()
            .zip(to)
            .map(|(a, b)| b.quality - a.quality)
            .collect();
        let gain = mean(&gains)?;
        let both: Vec<&Prediction> = from.iter().chain(to).copied().collect();
        let error = error_variance(&both);
        // A wording beside itself differs by nothing, whatever the seeds.
        let same = std::ptr::eq(from, to);
        Some(Self {
            gain,
            luck: match same {
                true => 0.0,
                false => spread(&gains, gain, error.unwrap_or(0.0)) / gains.len() as f64,
            },
            error,
            doubt: (gains.len() as f64 + 1.0) / (gains.len() as f64 - 1.0).max(1.0),
            same,
        })
    }

    /// The gain, `kept` of which is to be expected of other seeds.
    fn estimate(&self, kept: f64, shares: Shares) -> Estimate {
        let point = kept * self.gain;
        let interval = self.error.map(|error| {
            // The two wordings' own parts of the shared error, independent of one another.
            let misjudged = 2.0 * shares.prompt * (1.0 - shares.wording) * error;
            match self.same {
                true => [0.0, 0.0],
                false => around(point, kept * self.luck * self.doubt + misjudged, None),
            }
        });
        Estimate { point, interval }
    }
}

/// The chance that a random seed does not come out good. `None` where nothing is calibrated.
pub fn prompt_risk(predictions: &[&Prediction]) -> Option<f64> {
    let chances: Option<Vec<f64>> = predictions.iter().map(|p| p.p_good).collect();
    Some((1.0 - mean(&chances?)?).clamp(0.0, 1.0))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean variance of a prediction's error, read back from the intervals' widths.
fn error_variance(predictions: &[&Prediction]) -> Option<f64> {
    let variances: Option<Vec<f64>> = predictions
        .iter()
        .map(|p| {
            p.interval
                .map(|[low, high]| ((high - low) / (2.0 * Z90)).powi(2))
        })
        .collect();
    mean(&variances?)
}

/// The variance between seeds, steadied by one pseudo-observation of `prior`: one seed alone shows
/// no spread, which does not mean that there is none.
fn spread(values: &[f64], mean: f64, prior: f64) -> f64 {
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares + prior) / values.len() as f64
}

fn around(point: f64, variance: f64, range: Option<[f64; 2]>) -> [f64; 2] {
    let half = Z90 * variance.sqrt();
    let [least, most] = range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
    [
        (point - half).max(least).min(point),
        (point + half).min(most).max(point),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicted(quality: f64, half: f64) -> Prediction {
        Prediction {
            quality,
            interval: Some([quality - half, quality + half]),
            p_good: Some(quality),
            word_risks: Vec::new(),
        }
    }

    fn uncalibrated(quality: f64) -> Prediction {
        Prediction {
            interval: None,
            p_good: None,
            ..predicted(quality, 0.0)
        }
    }

    const UNIT: Option<[f64; 2]> = Some([0.0, 1.0]);

    #[test]
    fn the_interval_holds_its_point_and_stays_in_the_metrics_range() {
        for quality in [0.0, 0.03, 0.5, 0.99, 1.0] {
            let one = predicted(quality, 0.3);
            let estimate = prompt_mean(&[&one, &one], UNIT, Shares::USUAL).unwrap();
            let [low, high] = estimate.interval.unwrap();
            assert!((0.0..=estimate.point).contains(&low), "{estimate:?}");
            assert!((estimate.point..=1.0).contains(&high), "{estimate:?}");
        }
    }

    #[test]
    fn more_seeds_narrow_the_interval_but_not_to_nothing() {
        let one = predicted(0.5, 0.2);
        let width = |n: usize| {
            let [low, high] = prompt_mean(&vec![&one; n], UNIT, Shares::USUAL)
                .unwrap()
                .interval
                .unwrap();
            high - low
        };
        assert!(width(1) > width(4) && width(4) > width(64));
        assert!(width(10_000) > 0.2, "the probe may misjudge the prompt");
    }

    #[test]
    fn one_seed_alone_is_not_taken_for_certainty() {
        let one = predicted(0.5, 0.2);
        let [low, high] = prompt_mean(&[&one], UNIT, Shares::USUAL)
            .unwrap()
            .interval
            .unwrap();
        assert!(high - low > 0.4);
    }

    #[test]
    fn nothing_calibrated_gives_no_interval_and_no_risk() {
        let (a, b) = (uncalibrated(0.4), uncalibrated(0.6));
        let estimate = prompt_mean(&[&a, &b], UNIT, Shares::USUAL).unwrap();
        assert_eq!((estimate.point, estimate.interval), (0.5, None));
        assert_eq!(prompt_risk(&[&a, &b]), None);
        assert_eq!(prompt_mean(&[], UNIT, Shares::USUAL), None);
    }

    #[test]
    fn risk_is_what_the_chances_leave() {
        let (a, b) = (predicted(0.9, 0.1), predicted(0.5, 0.1));
        assert!((prompt_risk(&[&a, &b]).unwrap() - 0.3).abs() < 1e-12);
    }

    fn gains(qualities: &[[f64; 3]], half: f64) -> Vec<Estimate> {
        let wordings: Vec<Vec<Prediction>> = qualities
            .iter()
            .map(|seeds| seeds.map(|q| predicted(q, half)).into())
            .collect();
        let wordings: Vec<Vec<&Prediction>> = wordings.iter().map(|w| w.iter().collect()).collect();
        let gains = wording_gains(&wordings, Shares::USUAL, Some(1.0));
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
        let odd = wording_gains(&[vec![&one], vec![&one, &two]], Shares::USUAL, Some(1.0));
        assert_eq!(odd[1], None);
        assert_eq!(wording_gains(&[], Shares::USUAL, None), []);
    }

    #[test]
    fn the_original_gains_nothing_over_itself() {
        let gain = gains(&[[0.2, 0.5, 0.8], [0.3, 0.6, 0.9]], 0.1)[0];
        assert_eq!((gain.point, gain.interval), (0.0, Some([0.0, 0.0])));
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
        let (signal, luck, half) = (USUAL_WORDING_VARIANCE.sqrt(), 0.15, 0.1);
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
            let all: Vec<Vec<&Prediction>> = all.iter().map(|w| w.iter().collect()).collect();
            let gains: Vec<Estimate> = wording_gains(&all, Shares::USUAL, Some(1.0))
                .into_iter()
                .map(Option::unwrap)
                .collect();
            let best = (0..wordings).max_by(|&a, &b| gains[a].point.total_cmp(&gains[b].point));
            let best = best.unwrap();
            let points = |i: usize| all[i].iter().map(|p| p.quality).sum::<f64>() / seeds as f64;
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
