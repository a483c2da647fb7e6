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
    let between = pooled_variance(&[seeds[0].clone(), seeds[1].clone(), seeds[1].clone()]).sqrt();
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
