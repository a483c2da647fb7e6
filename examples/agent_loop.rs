//! An agent at work, with nothing but the tool list and the replies: it predicts a prompt, refines
//! its wording, ranks seeds, renders the best, and says what it decided and what that saved.
//!
//! `cargo run --release --example agent_loop ["a prompt of the world of shapes"]`
//!
//! The server is a child process of its own that speaks MCP over stdio: this program starts itself
//! once more as `foreseed serve`. Every figure below is out of a reply of that server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use comfy_table::{LineStyle, Table, TableStyle};
use serde_json::{Value, json};

#[path = "common/client.rs"]
mod client;

use client::{Session, list, number, text};

/// A wording that a small model finds hard: relations, and bare at that.
const PROMPT: &str = "purple ring above green star, small orange heart, white background";
/// Seeds that the ranking looks at.
const SEEDS: u32 = 16;
/// A seed that the ranking never saw: what an agent without foresight would have rendered.
const RANDOM_SEED: u32 = 20_260_728;

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet.
    unsafe { foreseed::device::count_cores_once() };
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|first| first == "serve") {
        return foreseed::cli::run(std::env::args_os());
    }
    let prompt = std::env::args().nth(1).unwrap_or(PROMPT.into());
    let outcome = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(agent(&prompt)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent_loop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn agent(prompt: &str) -> Result<()> {
    let started = Instant::now();
    let pictures = pictures_folder()?;
    // Records of its own, so that nothing is known beforehand.
    let data = tempfile::tempdir()?;
    let session = Session::start(&std::env::current_exe()?, data.path(), &pictures).await?;
    let call = async |tool: &str, arguments: Value| {
        println!("{tool} {arguments}");
        session.call(tool, arguments).await
    };
    let mut told = Decisions::default();

    let tools = session.tools().await?;
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    println!("tools: {}\nprompt: {prompt:?}\n", names.join(", "));

    let predicted = call("predict_quality", json!({"prompt": prompt, "count": 8})).await?;
    let risk = number(&predicted, "/prompt_risk").map_or("unknown".into(), |r| format!("{r:.2}"));
    println!("  {}\n", text(&predicted, "/advice")?);
    told.decide(
        &predicted,
        "predict_quality",
        format!(
            "expect {}, risk {risk}; weak: {}",
            with_interval(&predicted, "/expected_quality", "/interval")?,
            weak_words(&predicted)
        ),
    )?;

    let refined = call("refine_prompt", json!({"prompt": prompt, "count": 8})).await?;
    let wording = text(&refined, "/best/prompt")?;
    println!("  {}\n", text(&refined, "/next")?);
    let gain = with_interval(&refined, "/best/gain", "/best/gain_interval")?;
    told.decide(
        &refined,
        "refine_prompt",
        format!("use {wording:?}, gain {gain}"),
    )?;

    let ranked = call(
        "rank_seeds",
        json!({"prompt": wording, "count": SEEDS, "keep": 1, "contact_sheet": true}),
    )
    .await?;
    let ranking = list(&ranked, "/ranking")?;
    ensure!(
        ranking.len() == SEEDS as usize,
        "{} of {SEEDS} seeds were ranked",
        ranking.len()
    );
    let first = &ranking[0];
    println!("  {}\n", text(&ranked, "/next")?);
    told.decide(
        &ranked,
        "rank_seeds",
        format!(
            "seed {} of {SEEDS}, expect {}",
            number(first, "/seed")?,
            with_interval(first, "/quality", "/interval")?
        ),
    )?;

    let best = call("render", json!({"handle": text(first, "/handle")?})).await?;
    let resumed = number(&best, "/resumed_from_step")?;
    ensure!(
        resumed > 0.0,
        "the render did not resume where the ranking had left it"
    );
    told.decide(
        &best,
        "render",
        format!(
            "resumed from step {resumed}: {}",
            foreseen_and_measured(&best)?
        ),
    )?;

    let random = call("render", json!({"prompt": prompt, "seed": RANDOM_SEED})).await?;
    let without = format!("without foresight: {}", foreseen_and_measured(&random)?);

    println!("{}", told.table);
    let saved = 1.0 - told.evaluations / told.full_evaluations;
    println!(
        "{:.0} denoiser evaluations instead of the {:.0} of rendering all that was looked at: {:.0} % saved",
        told.evaluations,
        told.full_evaluations,
        saved * 100.0
    );
    println!("for comparison, the first prompt with a random seed, {without}\n");
    println!("chosen   {}", existing(&best, "/path")?.display());
    println!("random   {}", existing(&random, "/path")?.display());
    println!(
        "ranking  {}",
        existing(&ranked, "/contact_sheet")?.display()
    );
    let progress = session.end().await?;
    ensure!(progress > 0, "the server never said how far it was");
    println!(
        "\n{:.1} s, {progress} progress notifications",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// `<target>/agent_loop`: beside the build, whatever the working directory.
fn pictures_folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(3)
        .context("this program lies in no target folder")?;
    Ok(target.join("agent_loop"))
}

/// What was decided at each call, and what it cost.
struct Decisions {
    table: Table,
    evaluations: f64,
    full_evaluations: f64,
}

impl Default for Decisions {
    fn default() -> Self {
        let mut table = Table::new();
        let line = LineStyle::none().fill('─').junction('─');
        table.load_style(TableStyle::new().header_separator(line).bottom_border(line));
        table.set_header(["call", "decided", "evaluations", "in full", "seconds"]);
        Self {
            table,
            evaluations: 0.0,
            full_evaluations: 0.0,
        }
    }
}

impl Decisions {
    fn decide(&mut self, reply: &Value, call: &str, decision: String) -> Result<()> {
        let evaluations = number(reply, "/cost/evaluations")?;
        let full = number(reply, "/cost/full_evaluations")?;
        ensure!(
            evaluations <= full,
            "{call} cost {evaluations}, more than {full} in full"
        );
        self.evaluations += evaluations;
        // The render finishes a candidate that the ranking has counted in full already.
        if call != "render" {
            self.full_evaluations += full;
        }
        self.table.add_row([
            call.to_string(),
            decision,
            format!("{evaluations:.0}"),
            format!("{full:.0}"),
            format!("{:.1}", number(reply, "/cost/seconds")?),
        ]);
        Ok(())
    }
}

/// The file that is named at `at`, which must be there.
fn existing(reply: &Value, at: &str) -> Result<PathBuf> {
    let path = PathBuf::from(text(reply, at)?);
    ensure!(
        path.is_file(),
        "{} was promised and is not there",
        path.display()
    );
    Ok(path)
}

/// `0.62 (0.40 to 0.81)`, or `0.62` where no probe stands behind it.
fn with_interval(reply: &Value, point: &str, interval: &str) -> Result<String> {
    let point = number(reply, point)?;
    if reply.pointer(interval).is_none() {
        return Ok(format!("{point:.2}"));
    }
    let low = number(reply, &format!("{interval}/0"))?;
    let high = number(reply, &format!("{interval}/1"))?;
    ensure!(
        (low..=high).contains(&point),
        "{low} to {high} does not hold its point {point}"
    );
    Ok(format!("{point:.2} ({low:.2} to {high:.2})"))
}

/// `predicted 0.81, measured 0.93`
fn foreseen_and_measured(render: &Value) -> Result<String> {
    let measured = number(render, "/measured/composition")?;
    Ok(match number(render, "/predicted") {
        Ok(predicted) if render["calibrated"] == true => {
            format!("predicted {predicted:.2}, measured {measured:.2}")
        }
        _ => format!("measured {measured:.2}"),
    })
}

fn weak_words(reply: &Value) -> String {
    let words = reply["weak_words"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let words: Vec<&str> = words
        .iter()
        .take(3)
        .filter_map(|w| w["word"].as_str())
        .collect();
    if words.is_empty() {
        "none".into()
    } else {
        words.join(", ")
    }
}
