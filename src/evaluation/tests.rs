//! What an evaluation must show, on made-up candidates whose truth is known.

use super::*;
use crate::probe::random::Random;

fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}

/// Half of the variance lies between prompts; the probe sees both halves through noise, the
/// prompt-only predictor the first.
fn candidates(prompts: usize) -> Candidates {
    let mut random = Random::new(4);
    let mut all = Candidates {
        good: 0.8,
        steps: 25,
        evaluations_a_step: 2,
        at_steps: vec![5],
        p_good: vec![Vec::new()],
        intervals: vec![Vec::new()],
        word_risks: vec![Vec::new()],
        word_spreads: vec![Vec::new()],
        ..Candidates::default()
    };
    for name in ["random", "prompt-only", "probe", "probe-shuffled"] {
        all.predicted.insert(name.into(), vec![Vec::new()]);
    }
    for _ in 0..prompts {
        let base = 0.7 + 0.1 * normal(&mut random);
        let scores: Vec<f64> = (0..8).map(|_| base + 0.1 * normal(&mut random)).collect();
        let probe: Vec<f64> = scores
            .iter()
            .map(|s| s + 0.1 * normal(&mut random))
            .collect();
        let mut shuffled = probe.clone();
        shuffled.rotate_left(1);
        for score in &scores {
            all.p_good[0].push(f64::from(u8::from(*score >= 0.8)));
            all.intervals[0].push([score - 0.1, score + 0.1]);
            all.word_risks[0].push(-score);
            all.word_spreads[0].push(random.unit());
            all.word_wrong.push(*score < 0.6);
        }
        let mut put = |name: &str, values: Vec<f64>| {
            if let Some(steps) = all.predicted.get_mut(name) {
                steps[0].push(values);
            }
        };
        put("random", (0..8).map(|_| random.unit()).collect());
        put("prompt-only", vec![base; 8]);
        put("probe", probe);
        put("probe-shuffled", shuffled);
        all.scores.push(scores);
    }
    all
}

#[test]
fn skill_within_a_prompt_is_told_from_knowing_the_prompt() {
    let e = evaluate(&candidates(150));
    let row = |name: &str| e.table.iter().find(|r| r.predictor == name).unwrap();
    assert!((e.icc - 0.5).abs() < 0.1, "{}", e.icc);
    assert!(row("probe").within > 0.5);
    assert_eq!(row("prompt-only").within, 0.0);
    assert!(row("prompt-only").srcc > 0.55);
    assert!(row("random").srcc.abs() < 0.1);
    // A shuffled probe knows the prompt and nothing of the seed.
    assert!(row("probe-shuffled").within.abs() < 0.15);
    for r in &e.table {
        assert!(r.srcc_ci[0] <= r.srcc && r.srcc <= r.srcc_ci[1], "{r:?}");
        assert!(r.within_ci[0] <= r.within && r.within <= r.within_ci[1]);
    }
    let against = |name: &str| {
        let mut all = e.extras.differences.iter();
        all.find(|d| d.against == name).unwrap()
    };
    assert!(against("prompt-only").within_ci[0] > 0.0);
    assert!(against("probe-shuffled").srcc_ci[0] > 0.0);
}

#[test]
fn calibration_words_and_the_frontier_are_measured() {
    let e = evaluate(&candidates(150));
    assert!(e.calibration[0].ece < 1e-9);
    assert_eq!(e.calibration[0].coverage, 1.0);
    assert_eq!(e.words[0].auc, 1.0);
    assert!((e.extras.words_by_spread[0].auc - 0.5).abs() < 0.1);
    let quality = |name: &str| {
        let policy = e.frontier.iter().find(|p| p.policy == name).unwrap();
        (policy.cost, policy.quality)
    };
    assert_eq!(quality("one random render").0, 50.0);
    let (cost, probed) = quality("8 probed at step 5, 1 rendered");
    assert_eq!(cost, 120.0);
    let (_, oracle) = quality("oracle best of 8");
    assert!(quality("one random render").1 < probed && probed < oracle);
    // Seeds told apart this well at this price are worth more than rendering 2.4 of them.
    let all = &e.against_best_of_k;
    let against = all
        .iter()
        .find(|a| a.policy.starts_with("8 probed at step 5, 1"));
    assert!(against.unwrap().difference_ci[0] > 0.0);
}

#[test]
fn the_json_has_the_contracts_fields_and_no_others() {
    let json = serde_json::to_value(evaluate(&candidates(5))).unwrap();
    let fields: Vec<&str> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = vec![
        "model",
        "metric",
        "good",
        "icc",
        "prompts",
        "seeds",
        "table",
        "calibration",
        "words",
        "frontier",
        "against_best_of_k",
    ];
    expected.sort_unstable();
    let mut fields = fields;
    fields.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!(
        json["table"][0]["srcc_ci"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn a_person_gets_tables() {
    let text = text(&evaluate(&candidates(5)));
    for heading in ["within", "ECE", "best of 2 full renders", "probe − random"] {
        assert!(text.contains(heading), "{text}");
    }
}
