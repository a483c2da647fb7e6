//! An evaluation as a person reads it.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::Evaluation;

fn figure(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{value:.3} [{low:.2}, {high:.2}]")
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
    let mut out = String::new();
    let x = &e.extras;
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{} of {}: {} held-out prompts × {} seeds; mean {:.3} ± {:.3}, within a prompt ± {:.3}, \
         {:.0} % good (≥ {}), ICC {:.2}\n",
        e.metric,
        e.model,
        e.prompts,
        e.seeds,
        x.mean,
        x.deviation,
        x.within_deviation,
        100.0 * x.good_share,
        e.good,
        e.icc,
    );
    let rows = e
        .table
        .iter()
        .map(|r| {
            vec![
                r.predictor.clone(),
                r.step.to_string(),
                figure(r.srcc, r.srcc_ci),
                figure(r.ktc, r.ktc_ci),
                figure(r.pcc, r.pcc_ci),
                figure(r.auc, r.auc_ci),
                figure(r.within, r.within_ci),
            ]
        })
        .collect();
    let head = ["predictor", "step", "SRCC", "KTC", "PCC", "AUC", "within"];
    let _ = writeln!(out, "{}\n", table(&head, rows));

    let rows = x
        .differences
        .iter()
        .map(|d| {
            vec![
                format!("probe − {}", d.against),
                d.step.to_string(),
                figure(d.srcc, d.srcc_ci),
                figure(d.within, d.within_ci),
            ]
        })
        .collect();
    let head = ["paired difference", "step", "SRCC", "within"];
    let _ = writeln!(out, "{}\n", table(&head, rows));

    let rows = x
        .by_seed
        .iter()
        .map(|seeds| {
            let list = |part: fn(&(f64, f64)) -> f64| {
                let all: Vec<String> = seeds
                    .figures
                    .iter()
                    .map(|f| format!("{:.3}", part(f)))
                    .collect();
                all.join(" ")
            };
            vec![
                seeds.predictor.clone(),
                seeds.step.to_string(),
                list(|f| f.0),
                list(|f| f.1),
            ]
        })
        .collect();
    let head = ["each training seed", "step", "SRCC", "within"];
    let _ = writeln!(out, "{}\n", table(&head, rows));

    let rows = e
        .calibration
        .iter()
        .zip(&e.words)
        .zip(&x.words_by_spread)
        .map(|((c, w), s)| {
            vec![
                c.step.to_string(),
                format!("{:.3}", c.ece),
                format!("{:.1} %", 100.0 * c.coverage),
                format!("{:.3}", w.auc),
                format!("{:.3}", s.auc),
            ]
        })
        .collect();
    let head = [
        "step",
        "ECE of p_good",
        "in 90 % intervals",
        "weak words AUC",
        "by attention spread",
    ];
    let _ = writeln!(out, "{}\n", table(&head, rows));

    let rows = e
        .frontier
        .iter()
        .map(|p| {
            let against = e.against_best_of_k.iter().find(|a| a.policy == p.policy);
            vec![
                p.policy.clone(),
                format!("{:.0}", p.cost),
                figure(p.quality, p.quality_ci),
                against.map_or(String::new(), |a| figure(a.difference, a.difference_ci)),
            ]
        })
        .collect();
    let head = [
        "policy",
        "evaluations",
        "delivered quality",
        "less best-of-K at equal cost",
    ];
    let _ = writeln!(out, "{}", table(&head, rows));
    out
}
