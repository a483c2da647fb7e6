use super::super::random::Random;
use super::*;

const GOOD: f64 = 0.5;

fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}

/// A probe that is right about scores with an error of deviation 0.1, and scores that are `shift`
/// lower and `wider` times as uncertain as it believes.
fn pairs(n: usize, seed: u64, shift: f64, wider: f64) -> Vec<(Prediction, f64)> {
    let mut random = Random::new(seed);
    (0..n)
        .map(|_| {
            let quality = 0.2 + 0.6 * random.unit();
            let measured = quality - shift + 0.1 * wider * normal(&mut random);
            let prediction = Prediction {
                quality,
                interval: Some([quality - 0.1645, quality + 0.1645]),
                // Logistic with the deviation of that normal.
                p_good: Some(sigmoid((quality - GOOD) / 0.0588)),
                word_risks: vec![0.3],
            };
            (prediction, measured)
        })
        .collect()
}

fn fitted(pairs: &[(Prediction, f64)], prior: Prior) -> Option<Correction> {
    let pairs: Vec<(&Prediction, f64)> = pairs.iter().map(|(p, m)| (p, *m)).collect();
    Correction::fit(&pairs, GOOD, None, prior)
}

/// Mean error, coverage, and mean of the chances over the share of hits.
fn judged(of: &[(Prediction, f64)]) -> (f64, f64, f64) {
    let n = of.len() as f64;
    let error = of.iter().map(|(p, m)| m - p.quality).sum::<f64>() / n;
    let held = |(p, m): &&(Prediction, f64)| p.interval.is_some_and(|[a, b]| (a..=b).contains(m));
    let coverage = of.iter().filter(held).count() as f64 / n;
    let hits = of.iter().filter(|(_, m)| *m >= GOOD).count() as f64 / n;
    let chance = of.iter().filter_map(|(p, _)| p.p_good).sum::<f64>() / n;
    (error, coverage, chance - hits)
}

fn corrected(by: &Correction, of: &[(Prediction, f64)]) -> Vec<(Prediction, f64)> {
    of.iter().map(|(p, m)| (by.apply(p), *m)).collect()
}

#[test]
fn few_pairs_correct_nothing() {
    let few = pairs(ENOUGH - 1, 1, 0.3, 1.0);
    assert_eq!(fitted(&few, Prior::Foreign), None);
    assert!(fitted(&pairs(ENOUGH, 1, 0.3, 1.0), Prior::Foreign).is_some());
}

#[test]
fn a_shifted_distribution_is_calibrated_again() {
    let fresh = pairs(4000, 99, 0.25, 1.8);
    let (error, coverage, chance) = judged(&fresh);
    assert!(error < -0.2 && coverage < 0.6 && chance > 0.2, "no shift");
    for prior in [Prior::Calibrated, Prior::Foreign] {
        let by = fitted(&pairs(300, 7, 0.25, 1.8), prior).unwrap();
        let (error, coverage, chance) = judged(&corrected(&by, &fresh));
        assert!(error.abs() < 0.03, "{prior:?}: {error}");
        assert!((coverage - 0.9).abs() < 0.04, "{prior:?}: {coverage}");
        assert!(chance.abs() < 0.03, "{prior:?}: {chance}");
    }
}

#[test]
fn a_probe_that_is_right_is_left_as_it_is() {
    let fresh = pairs(4000, 98, 0.0, 1.0);
    for (seed, n) in [(1, 20), (2, 20), (3, 50), (4, 200)] {
        let by = fitted(&pairs(n, seed, 0.0, 1.0), Prior::Calibrated).unwrap();
        let (error, coverage, chance) = judged(&corrected(&by, &fresh));
        assert!(error.abs() < 0.03, "{n} pairs: {error}");
        assert!((coverage - 0.9).abs() < 0.05, "{n} pairs: {coverage}");
        assert!(chance.abs() < 0.04, "{n} pairs: {chance}");
    }
}

#[test]
fn every_corrected_interval_holds_its_point_within_the_range() {
    let narrow = |quality: f64, low: f64, high: f64| Prediction {
        quality,
        interval: Some([low, high]),
        p_good: Some(0.0),
        word_risks: Vec::new(),
    };
    for (shift, wider) in [(0.4, 0.1), (-0.4, 3.0), (0.0, 0.0)] {
        let learned = pairs(60, 3, shift, wider);
        let learned: Vec<(&Prediction, f64)> = learned.iter().map(|(p, m)| (p, *m)).collect();
        let unit = Some([0.0, 1.0]);
        let by = Correction::fit(&learned, GOOD, unit, Prior::Foreign).unwrap();
        for own in [
            narrow(0.0, 0.0, 0.0),
            narrow(1.0, 0.4, 1.0),
            narrow(0.5, 0.5, 0.9),
            narrow(0.05, 0.0, 0.3),
        ] {
            let there = by.apply(&own);
            let [low, high] = there.interval.unwrap();
            assert!(low <= there.quality && there.quality <= high, "{there:?}");
            assert!(low >= 0.0 && high <= 1.0, "{there:?}");
            assert!((0.0..=1.0).contains(&there.p_good.unwrap()), "{there:?}");
        }
    }
}

#[test]
fn an_order_is_never_turned_round() {
    // Scores that fall where predictions rise.
    let contrary: Vec<(Prediction, f64)> = pairs(200, 5, 0.0, 1.0)
        .into_iter()
        .map(|(p, m)| (p, 1.0 - m))
        .collect();
    let by = fitted(&contrary, Prior::Foreign).unwrap();
    let at = |quality: f64| {
        by.apply(&Prediction {
            quality,
            interval: None,
            p_good: Some(quality),
            word_risks: Vec::new(),
        })
    };
    assert!(at(0.8).quality >= at(0.3).quality);
    assert!(at(0.8).p_good >= at(0.3).p_good);
}
