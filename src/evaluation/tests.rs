//! What an evaluation must show, on made-up candidates whose truth is known.

use super::*;
use crate::candidate::Seed;
use crate::foresight::race;
use crate::probe::Prediction;
use crate::probe::random::Random;
use crate::probe::shares::Trust;

const SEEDS: usize = 8;

fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}

/// Half of the variance lies between prompts; the probe sees both halves through noise that shrinks
/// from step to step, the prompt-only predictor the first.
fn candidates(prompts: usize) -> Candidates {
    let mut random = Random::new(4);
    let steps = [(5, 0.1), (10, 0.05)];
    let mut all = Candidates {
        good: 0.8,
        steps: 25,
        evaluations_a_step: 2,
        at_steps: steps.map(|(step, _)| step).into(),
        stops: race::stops(&[5, 10], false, 2, |_, _| Trust::USUAL),
        foreseen: vec![Vec::new(); 2],
        words: JudgedWords {
            wrong: Vec::new(),
            risks: vec![Vec::new(); 2],
            spreads: vec![Vec::new(); 2],
        },
        ..Candidates::default()
    };
    for prompt in 0..prompts {
        let base = 0.7 + 0.1 * normal(&mut random);
        let scores: Vec<f64> = (0..SEEDS)
            .map(|_| base + 0.1 * normal(&mut random))
            .collect();
        for (step, (_, noise)) in steps.iter().enumerate() {
            let foreseen: Vec<Prediction> = scores
                .iter()
                .map(|score| {
                    let quality = score + noise * normal(&mut random);
                    let half = 1.6449 * noise;
                    Prediction {
                        quality,
                        interval: Some([quality - half, quality + half]),
                        p_good: Some(f64::from(u8::from(*score >= 0.8))),
                        word_risks: Vec::new(),
                    }
                })
                .collect();
            let mut put = |name: &str, values: Vec<f64>| {
                let said = all.predicted.entry(name.into());
                said.or_insert_with(|| vec![Vec::new(); 2])[step].push(values);
            };
            put("random", (0..SEEDS).map(|_| random.unit()).collect());
            put("prompt-only", vec![base; SEEDS]);
            put("probe", foreseen.iter().map(|p| p.quality).collect());
            all.foreseen[step].push(foreseen);
            all.words.risks[step].push(scores.iter().map(|s| -s).collect());
            all.words.spreads[step].push((0..SEEDS).map(|_| random.unit()).collect());
        }
        all.words
            .wrong
            .push(scores.iter().map(|s| *s < 0.6).collect());
        all.scores.push(scores);
        all.prompts.push(format!("prompt {prompt}"));
        all.seeds.push((0..SEEDS as u32).map(Seed).collect());
    }
    all.shuffle_seeds();
    all
}

fn measured(prompts: usize) -> Measured {
    Measured {
        held_out: candidates(prompts),
        ..Measured::default()
    }
}

#[test]
fn skill_within_a_prompt_is_told_from_knowing_the_prompt() {
    let e = evaluate(&measured(150));
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
    let against = |name: &str| e.differences.iter().find(|d| d.against == name).unwrap();
    assert!(against("prompt-only").within_ci[0] > 0.0);
    assert!(against("probe-shuffled").srcc_ci[0] > 0.0);
    assert!(against("random").auc_ci[0] > 0.0);
}

#[test]
fn calibration_and_words_are_measured() {
    let e = evaluate(&measured(150));
    let [five, ten] = e.calibration.as_slice() else {
        panic!("two steps, {:?}", e.calibration);
    };
    assert!(five.ece < 1e-9 && ten.ece < 1e-9);
    for step in [five, ten] {
        let [low, high] = step.coverage_ci;
        assert!(low < 0.9 && 0.9 < high, "{step:?}");
        assert_eq!(step.reliability.len(), 10);
        assert!(step.reliability.is_sorted_by(|a, b| a.said <= b.said));
    }
    assert_eq!(e.words[0].auc, 1.0);
    assert!((e.words[0].spread_auc - 0.5).abs() < 0.1);
    assert!(e.words[0].difference_ci[0] > 0.0);
}

#[test]
fn seeds_told_apart_this_well_are_worth_more_than_full_renders() {
    let e = evaluate(&measured(150));
    let quality = |name: &str| {
        let policy = e.frontier.iter().find(|p| p.policy == name).unwrap();
        (policy.cost, policy.quality)
    };
    assert_eq!(quality("one random render").0, 50.0);
    let (cost, probed) = quality("8 probed at step 5, 1 rendered");
    assert_eq!(cost, 120.0);
    let (_, oracle) = quality("oracle best of 8");
    assert!(quality("one random render").1 < probed && probed < oracle);
    for policy in [
        "8 probed at step 5, 1 rendered",
        "8 raced, the first rendered",
    ] {
        let mut all = e.against_best_of_k.iter();
        let against = all.find(|a| a.policy == policy).unwrap();
        assert!(against.difference_ci[0] > 0.0, "{against:?}");
        assert!(against.worth_renders.unwrap() > against.cost / 50.0);
    }
}

#[test]
fn the_weakest_prompts_are_those_of_which_least_is_expected() {
    let mut all = candidates(3);
    for (prompt, quality) in [0.5, 0.2, 0.9].into_iter().enumerate() {
        for said in &mut all.foreseen[0][prompt] {
            said.quality = quality;
        }
    }
    let weak = weakest(&all, 2);
    let prompts: Vec<&str> = weak.iter().map(|w| w.prompt.as_str()).collect();
    assert_eq!(prompts, ["prompt 1", "prompt 0"]);
    assert_eq!(weak[0].scores, all.scores[1]);
}

#[test]
fn of_no_prompts_nothing_is_said() {
    let mut measured = measured(5);
    measured.family = candidates(0);
    let e = evaluate(&measured);
    assert!(e.family_table.is_empty() && e.family_calibration.is_empty());
    assert!(!text(&e).contains("0.0 % [0, 0]"));
}

#[test]
fn the_json_has_the_contracts_fields() {
    let json = serde_json::to_value(evaluate(&measured(5))).unwrap();
    for field in [
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
        "family_calibration",
        "rewrites",
    ] {
        assert!(json.get(field).is_some(), "no {field}");
    }
    let fields = |list: &str, fields: &[&str]| {
        for field in fields {
            assert!(!json[list][0][field].is_null(), "no {field} in {list}");
        }
    };
    fields("table", &["predictor", "step", "srcc", "ktc", "pcc", "auc"]);
    fields("table", &["within", "srcc_ci", "ktc_ci", "pcc_ci"]);
    fields("table", &["auc_ci", "within_ci"]);
    fields("calibration", &["step", "ece", "coverage"]);
    fields("words", &["step", "auc"]);
    fields("frontier", &["policy", "cost", "quality", "quality_ci"]);
    fields("against_best_of_k", &["policy", "cost"]);
    fields("against_best_of_k", &["difference", "difference_ci"]);
}

#[test]
fn a_person_gets_tables_with_what_decides_first() {
    let text = text(&evaluate(&measured(5)));
    let at = |what: &str| {
        text.find(what)
            .unwrap_or_else(|| panic!("{what} in {text}"))
    };
    let order = [
        "after step 5 of 25",
        "after step 10 of 25",
        "ECE",
        "AUC of weak words",
        "8 raced, the first rendered",
        "All steps",
        "probe − random",
        "8 probed at step 5, 1 rendered",
    ];
    assert!(order.map(at).is_sorted(), "{text}");
}

#[test]
fn the_plots_say_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let measured = measured(60);
    let paths = plots::write(folder.path(), &measured, &evaluate(&measured)).unwrap();
    let found = [
        ("predicted-against-measured.svg", "correlation of 0."),
        ("reliability.svg", "off by 0.0 points after step 5"),
        ("frontier.svg", "and delivers what the best of"),
    ];
    assert_eq!(paths.len(), found.len());
    for (path, (name, title)) in paths.iter().zip(found) {
        assert!(path.ends_with(name), "{path:?}");
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.contains(title), "{name}: {svg}");
        assert!(svg.trim_end().ends_with("</svg>"), "{name} is whole");
    }
}
