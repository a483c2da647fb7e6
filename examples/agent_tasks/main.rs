//! Ten tasks whose answers can be checked, given to a scripted agent that sees nothing but the
//! tool list and the replies.
//!
//! `cargo run --release --example agent_tasks [-- --instances 8 --draw 1 --server PATH --json]`
//!
//! The server is a process of its own that speaks MCP over stdio: this program, started once more as
//! `foreseed serve`, or the one that is named. The scenes were held out of all training; what is
//! true is rendered and scored here, out of the agent's sight. "Blind" is somebody who has no
//! foresight and can only render and look: how often a guess is right, how many full renders it
//! takes to choose or deliver as much measured quality as the agent did, and so how many full
//! renders the agent avoided.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use foreseed::world::random::Random;
use serde_json::json;

mod agent;
#[path = "../common/client.rs"]
mod client;
mod measures;
mod scenes;
mod tasks;
mod truth;

use agent::Agent;
use client::Session;
use tasks::{Instance, Outcome, TASKS, Task};
use truth::Truth;

/// Times that the blind one tries each instance.
const TRIES: usize = 200;
/// As much measured quality: to a hundredth.
const AS_MUCH: f64 = 0.01;
/// More full renders than this are not tried.
const MOST: usize = 16;

/// The command's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// Instances of each task.
    #[arg(long, default_value_t = 8)]
    instances: usize,
    /// What scenes and seeds are drawn from.
    #[arg(long, default_value_t = 1)]
    draw: u64,
    /// The server's program. Default: this one.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet.
    unsafe { foreseed::device::count_cores_once() };
    if std::env::args_os().nth(1).is_some_and(|a| a == "serve") {
        return foreseed::cli::run(std::env::args_os());
    }
    let outcome = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(Args::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent_tasks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How a task went.
struct Row {
    asks: &'static str,
    right: usize,
    of: usize,
    quality: f64,
    /// The share of guesses that are right.
    chance: f64,
    evaluations: u64,
    /// Full renders that take the blind one as far, an instance; `None`: more than were tried.
    blind: Option<f64>,
}

async fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let server = match args.server {
        Some(server) => server,
        None => std::env::current_exe()?,
    };
    let folder = tempfile::tempdir()?;
    let pictures = folder.path().join("pictures");
    let session = Session::start(&server, folder.path(), &pictures).await?;
    let mut agent = Agent::new(session).await?;
    let truth = Truth::new()?;
    let mut rows = Vec::new();
    for (number, task) in TASKS.iter().enumerate() {
        eprintln!("{}/{}: {}", number + 1, TASKS.len(), task.asks);
        let stream = args.draw.wrapping_mul(1000) + number as u64;
        rows.push(perform(task, args.instances, stream, &mut agent, &truth).await?);
    }
    agent.end().await?;
    let full = truth.full_evaluations() as f64;
    if args.json {
        println!("{}", as_json(&rows, full));
    } else {
        println!("{}", table(&rows, full));
        println!(
            "{} pictures rendered to know what is true; {:.0} s in all",
            truth.rendered(),
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

async fn perform(
    task: &Task,
    instances: usize,
    stream: u64,
    agent: &mut Agent,
    truth: &Truth,
) -> Result<Row> {
    let begun = agent.spent;
    let mut made: Vec<Instance> = Vec::new();
    let mut outcomes: Vec<Outcome> = Vec::new();
    for index in 0..instances {
        let mut random = Random::nth(stream, index as u64);
        let instance = (task.make)(truth, &mut random)?;
        let before = agent.spent;
        let answer = agent.answer(&instance.question).await?;
        outcomes.push((instance.judge)(truth, &answer, agent.spent - before)?);
        made.push(instance);
    }
    let quality = mean(outcomes.iter().map(|o| o.quality));
    let mut random = Random::nth(stream, instances as u64);
    let guess = blind(&made, task.least, &mut random);
    let counts = (0..=MOST).filter(|n| *n == task.least || n % task.unit == 0);
    let mut needed = None;
    for count in counts.filter(|n| *n >= task.least) {
        if blind(&made, count, &mut random).quality >= quality - AS_MUCH {
            needed = Some(count as f64);
            break;
        }
    }
    Ok(Row {
        asks: task.asks,
        right: outcomes.iter().filter(|o| o.right).count(),
        of: instances,
        quality,
        chance: guess.right,
        evaluations: agent.spent - begun,
        blind: needed,
    })
}

/// The shares and means over instances and tries.
struct Tried {
    right: f64,
    quality: f64,
}

fn blind(instances: &[Instance], pictures: usize, random: &mut Random) -> Tried {
    let outcomes: Vec<Outcome> = instances
        .iter()
        .flat_map(|instance| std::iter::repeat_n(instance, TRIES))
        .map(|instance| (instance.blind)(pictures, random))
        .collect();
    Tried {
        right: mean(outcomes.iter().map(|o| f64::from(u8::from(o.right)))),
        quality: mean(outcomes.iter().map(|o| o.quality)),
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

impl Row {
    /// In full renders, an instance.
    fn spent(&self, full: f64) -> f64 {
        self.evaluations as f64 / full / self.of.max(1) as f64
    }

    /// Full renders that the blind one needs beyond what the agent spent, an instance. Where it never
    /// gets as far it is more than this.
    fn avoided(&self, full: f64) -> f64 {
        self.blind.unwrap_or(MOST as f64) - self.spent(full)
    }
}

fn table(rows: &[Row], full: f64) -> Table {
    let mut table = Table::new();
    let line = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(line).bottom_border(line));
    table.set_header([
        "task",
        "right",
        "guessed",
        "quality",
        "evaluations",
        "in renders",
        "blind needs",
        "avoided",
    ]);
    for row in rows {
        table.add_row([
            row.asks.to_string(),
            format!("{}/{}", row.right, row.of),
            format!("{:.0} %", row.chance * 100.0),
            format!("{:.2}", row.quality),
            format!("{:.0}", row.spent(full) * full),
            format!("{:.2}", row.spent(full)),
            row.blind.map_or(format!("> {MOST}"), |n| format!("{n:.0}")),
            match row.blind {
                Some(_) => format!("{:+.2}", row.avoided(full)),
                None => format!("> {:+.2}", row.avoided(full)),
            },
        ]);
    }
    let (right, of) = totals(rows);
    table.add_row([
        "all (a mean instance; > counted as =)".to_string(),
        format!("{right}/{of}"),
        format!("{:.0} %", mean(rows.iter().map(|r| r.chance)) * 100.0),
        String::new(),
        format!("{:.0}", mean(rows.iter().map(|r| r.spent(full))) * full),
        format!("{:.2}", mean(rows.iter().map(|r| r.spent(full)))),
        String::new(),
        format!("{:+.2}", mean(rows.iter().map(|r| r.avoided(full)))),
    ]);
    for column in 1..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn totals(rows: &[Row]) -> (usize, usize) {
    (
        rows.iter().map(|r| r.right).sum(),
        rows.iter().map(|r| r.of).sum(),
    )
}

fn as_json(rows: &[Row], full: f64) -> serde_json::Value {
    let (right, of) = totals(rows);
    let tasks: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            json!({
                "task": row.asks,
                "right": row.right,
                "of": row.of,
                "guessed": row.chance,
                "quality": row.quality,
                "evaluations": row.evaluations,
                "full_renders_spent": row.spent(full),
                "full_renders_blind": row.blind,
                "full_renders_avoided": row.avoided(full),
            })
        })
        .collect();
    json!({"tasks": tasks, "right": right, "of": of})
}
