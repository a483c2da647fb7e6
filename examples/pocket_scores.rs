//! Scores pictures of pocket's world with `composition`:
//! `cargo run --release --example pocket_scores -- PROMPTS IMAGES [--seeds 8] [--side 64]`
//! PROMPTS holds a prompt a line (or, in a .jsonl file, a list of wordings, of which the first is
//! taken), IMAGES side × side × 3 bytes a picture, all seeds of the first prompt first. Prints the
//! figures as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use foreseed::scorers::{Composition, Scorer};
use image::RgbImage;
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    /// The prompts.
    prompts: PathBuf,
    /// The pictures.
    images: PathBuf,
    /// Pictures a prompt.
    #[arg(long, default_value_t = 8)]
    seeds: usize,
    /// Width and height of a picture.
    #[arg(long, default_value_t = 64)]
    side: usize,
    /// Also print each prompt's mean, worst first.
    #[arg(long)]
    each: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let text = std::fs::read_to_string(&arguments.prompts)
        .with_context(|| format!("cannot read {:?}", arguments.prompts))?;
    let listed = arguments
        .prompts
        .extension()
        .is_some_and(|end| end == "jsonl");
    let bytes = std::fs::read(&arguments.images)
        .with_context(|| format!("cannot read {:?}", arguments.images))?;
    let size = 3 * arguments.side * arguments.side;
    let pictures: Vec<&[u8]> = bytes.chunks_exact(size).collect();
    let scorer = Composition;
    let mut failures: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut groups: Vec<(String, Vec<f64>)> = Vec::new();
    for (line, drawn) in text.lines().zip(pictures.chunks_exact(arguments.seeds)) {
        let prompt = match listed {
            true => serde_json::from_str::<Vec<String>>(line)?.swap_remove(0),
            false => line.to_string(),
        };
        let mut values = Vec::with_capacity(drawn.len());
        for picture in drawn {
            let side = arguments.side as u32;
            let image =
                RgbImage::from_raw(side, side, picture.to_vec()).context("a whole picture")?;
            let score = scorer.score(&prompt, &image)?;
            for verdict in &score.verdicts {
                let kind = kind(&verdict.what);
                let entry = failures.entry(kind).or_default();
                entry.0 += usize::from(!verdict.ok);
                entry.1 += 1;
            }
            values.push(score.value);
        }
        groups.push((prompt, values));
    }
    ensure!(!groups.is_empty(), "there is no picture to score");
    let all: Vec<f64> = groups.iter().flat_map(|group| group.1.clone()).collect();
    let means: Vec<f64> = groups.iter().map(|group| mean(&group.1)).collect();
    let within: Vec<f64> = groups.iter().map(|group| deviation(&group.1)).collect();
    let good = all.iter().filter(|value| **value >= scorer.good()).count();
    let wrong: BTreeMap<&str, f64> = failures
        .iter()
        .map(|(kind, (wrong, all))| (*kind, round(*wrong as f64 / *all as f64)))
        .collect();
    println!(
        "{}",
        json!({
            "metric": scorer.metric(),
            "prompts": groups.len(),
            "pictures": all.len(),
            "mean": round(mean(&all)),
            "deviation": round(deviation(&all)),
            "between_prompts": round(deviation(&means)),
            "within_prompt": round(mean(&within)),
            "good": round(good as f64 / all.len() as f64),
            "wrong": wrong,
        })
    );
    if arguments.each {
        groups.sort_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1)));
        for (prompt, values) in &groups {
            println!("{:.2}  {prompt}", mean(values));
        }
    }
    Ok(())
}

/// What a verdict is about.
fn kind(what: &str) -> &'static str {
    if what.ends_with("background") {
        "background"
    } else if what.ends_with("objects") || what.ends_with("1 object") {
        "count"
    } else if [" of ", " above ", " below "]
        .iter()
        .any(|side| what.contains(side))
    {
        "relation"
    } else {
        "object"
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample standard deviation; 0 for a single value.
fn deviation(values: &[f64]) -> f64 {
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (squares / (values.len().max(2) - 1) as f64).sqrt()
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
