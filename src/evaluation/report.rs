//! An evaluation as a person reads it: what decides first, everything after it.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::{Calibration, Difference, Evaluation, Kind, Row, Words};

/// The steps that the first tables show.
const MAIN_STEPS: [usize; 2] = [5, 10];

fn figure(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{value:.3} [{low:.2}, {high:.2}]")
}

fn signed(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{value:+.3} [{low:+.3}, {high:+.3}]")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(head.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Tables in Markdown, to be read in a terminal or pasted into a page.
pub fn text(e: &Evaluation) -> String {
    let mut parts = vec![about(e)];
    for step in MAIN_STEPS {
        parts.extend(predictors_at(e, step));
    }
    parts.push(calibration(e));
    parts.push(words(&e.words));
    parts.push(frontier(e, |kind| kind != Kind::Probing));
    parts.extend(rewrites(e));
    parts.push("## All steps and ways of choosing".into());
    parts.push(all_steps(e));
    parts.push(differences(&e.differences));
    parts.push(by_seed(e));
    parts.push(frontier(e, |kind| kind == Kind::Probing));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn about(e: &Evaluation) -> String {
    format!(
        "{} of {}: {} held-out prompts × {} seeds, rendered and scored anew. Mean {:.3} ± {:.3}, \
         within a prompt ± {:.3}, {:.0} % good (≥ {}), {:.0} % of the variance between prompts \
         (ICC {:.2}).\nBrackets hold 95 %, by a bootstrap over prompts.",
        e.metric,
        e.model,
        e.prompts,
        e.seeds,
        e.mean,
        e.deviation,
        e.within_deviation,
        100.0 * e.good_share,
        e.good,
        100.0 * e.icc,
        e.icc,
    )
}

fn predictors_at(e: &Evaluation, step: usize) -> Option<String> {
    let rows: Vec<Vec<String>> = e
        .table
        .iter()
        .filter(|r| r.step == step)
        .map(|r| {
            let mut less = e.differences.iter();
            let less = less.find(|d| d.step == step && d.against == r.predictor);
            vec![
                r.predictor.clone(),
                figure(r.srcc, r.srcc_ci),
                figure(r.auc, r.auc_ci),
                figure(r.within, r.within_ci),
                less.map_or(String::new(), |d| signed(d.srcc, d.srcc_ci)),
                less.map_or(String::new(), |d| signed(d.within, d.within_ci)),
            ]
        })
        .collect();
    if rows.is_empty() {
        return None;
    }
    let after = format!("after step {step} of {}", e.steps);
    let head = [
        after.as_str(),
        "SRCC, pooled",
        "AUC of good",
        "Spearman within a prompt",
        "the probe's SRCC less",
        "the probe's within less",
    ];
    Some(table(&head, rows))
}

fn calibration(e: &Evaluation) -> String {
    let rows = e
        .calibration
        .iter()
        .map(|own| {
            let mut family = e.family_calibration.iter();
            let family: Option<&Calibration> = family.find(|c| c.step == own.step);
            vec![
                own.step.to_string(),
                format!("{:.3}", own.ece),
                held(own),
                family.map_or(String::new(), |c| format!("{:.3}", c.ece)),
                family.map_or(String::new(), held),
            ]
        })
        .collect();
    let head = [
        "step",
        "ECE of p_good",
        "in the 90 % intervals",
        "family held out whole: ECE",
        "in the intervals",
    ];
    table(&head, rows)
}

fn held(calibration: &Calibration) -> String {
    let [low, high] = calibration.coverage_ci.map(|end| 100.0 * end);
    format!("{} [{low:.0}, {high:.0}]", percent(calibration.coverage))
}

fn words(words: &[Words]) -> String {
    let rows = words
        .iter()
        .map(|w| {
            vec![
                w.step.to_string(),
                figure(w.auc, w.auc_ci),
                format!("{:.3}", w.spread_auc),
                signed(w.difference, w.difference_ci),
            ]
        })
        .collect();
    let head = [
        "step",
        "AUC of weak words",
        "attention spread",
        "the first less the second",
    ];
    table(&head, rows)
}

fn frontier(e: &Evaluation, shown: impl Fn(Kind) -> bool) -> String {
    let rows = e
        .frontier
        .iter()
        .filter(|p| shown(p.kind))
        .map(|p| {
            let against = e.against_best_of_k.iter().find(|a| a.policy == p.policy);
            vec![
                p.policy.clone(),
                format!("{:.0}", p.cost),
                format!("{:.2}", p.renders),
                figure(p.quality, p.quality_ci),
                against.map_or(String::new(), |a| signed(a.difference, a.difference_ci)),
                against.map_or(String::new(), |a| match a.worth_renders {
                    Some(renders) => format!("{renders:.2}"),
                    None => format!("> {}", e.seeds),
                }),
            ]
        })
        .collect();
    let head = [
        "way of choosing",
        "evaluations",
        "in renders",
        "delivered quality",
        "less best-of-K at equal cost",
        "worth so many renders",
    ];
    table(&head, rows)
}

fn rewrites(e: &Evaluation) -> Option<String> {
    let r = e.rewrites.as_ref()?;
    let rows = vec![
        vec![
            "what refine_prompt picks".into(),
            signed(r.gain, r.gain_ci),
            signed(r.over_random, r.over_random_ci),
        ],
        vec![
            "its rewordings by chance".into(),
            signed(r.random_gain, r.random_gain_ci),
            String::new(),
        ],
    ];
    let head = [
        "rewriting weak prompts",
        "measured gain on fresh seeds",
        "over a random rewording",
    ];
    let mut text = table(&head, rows);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n\n{} weak prompts, {:.3} as they were worded, {} fresh seeds a wording; {} kept their \
         wording. A call took {:.0} denoiser evaluations on average. Promised: {:+.3} on average; the 90 % \
         intervals of the gain hold {} of the measured \
         gains, and {} where they are widened by the measurement's own error (± {:.3}). Beyond that error the \
         wordings of one prompt are ± {} apart.",
        r.prompts,
        r.original,
        r.seeds,
        r.kept,
        r.evaluations,
        r.promised,
        percent(r.coverage),
        percent(r.coverage_with_noise),
        r.noise,
        figure(r.apart, r.apart_ci),
    );
    Some(text)
}

fn all_steps(e: &Evaluation) -> String {
    let row = |name: String, r: &Row| {
        vec![
            name,
            r.step.to_string(),
            figure(r.srcc, r.srcc_ci),
            figure(r.ktc, r.ktc_ci),
            figure(r.pcc, r.pcc_ci),
            figure(r.auc, r.auc_ci),
            figure(r.within, r.within_ci),
        ]
    };
    let held_out = e.table.iter().map(|r| row(r.predictor.clone(), r));
    let name = format!(
        "probe, family held out whole ({} prompts)",
        e.family_prompts
    );
    let family = e.family_table.iter().map(|r| row(name.clone(), r));
    let head = ["predictor", "step", "SRCC", "KTC", "PCC", "AUC", "within"];
    table(&head, held_out.chain(family).collect())
}

fn differences(all: &[Difference]) -> String {
    let rows = all
        .iter()
        .map(|d| {
            vec![
                format!("probe − {}", d.against),
                d.step.to_string(),
                signed(d.srcc, d.srcc_ci),
                signed(d.auc, d.auc_ci),
                signed(d.within, d.within_ci),
            ]
        })
        .collect();
    let head = ["paired difference", "step", "SRCC", "AUC", "within"];
    table(&head, rows)
}

fn by_seed(e: &Evaluation) -> String {
    let list = |values: &[f64]| {
        let all: Vec<String> = values.iter().map(|v| format!("{v:.3}")).collect();
        all.join(" ")
    };
    let rows = e
        .by_seed
        .iter()
        .map(|own| {
            vec![
                own.predictor.clone(),
                own.step.to_string(),
                list(&own.srcc),
                list(&own.within),
            ]
        })
        .collect();
    let head = ["each training seed", "step", "SRCC", "within"];
    table(&head, rows)
}
