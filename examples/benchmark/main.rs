//! Foreseed against diffusers: the same model, machine, prompt, precision (f32) and number of
//! threads, in turns, so that what else the machine does hits both.
//!
//! ```text
//! cargo run --release --example benchmark -- --python .venv/bin/python [--model DIR] [--turns 7]
//! ```
//!
//! It prints the ratio of the times (ours over theirs, turn by turn) with its spread, the peak
//! memory of each process, what the tap adds to a step, and what a prediction costs of the steps
//! that it saves. Without `--python` only our side runs.

use std::process::ExitCode;

mod ours;
mod sides;

use sides::{Side, Work};

/// The command's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One prompt for both sides.
pub const PROMPT: &str = "a red circle left of a blue square on a white background";
pub const CANDIDATES: usize = 16;
/// What a prediction costs depends on the prompt and on what is seen: so many candidates are judged, each of
/// a held-out prompt of its own, and others in every turn.
pub const JUDGED: usize = 48;
pub const TO_STEP: usize = 5;
/// Where the VAE itself decodes what the small decoder leaves in doubt.
pub const LATE_STEP: usize = 10;
pub const STEPS: usize = 25;
pub const GUIDANCE: f64 = 5.0;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Options {
    python: Option<String>,
    /// A folder in diffusers' layout.
    model: String,
    turns: usize,
    threads: usize,
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self {
            python: std::env::var("FORESEED_PYTHON").ok(),
            model: concat!(env!("CARGO_MANIFEST_DIR"), "/models/pocket").into(),
            turns: 7,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            match arg.as_str() {
                "--python" => options.python = Some(value),
                "--model" => options.model = value,
                "--turns" => options.turns = value.parse()?,
                "--threads" => options.threads = value.parse()?,
                _ => {
                    return Err(
                        format!("{arg}: known are --python, --model, --turns, --threads").into(),
                    );
                }
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    // The same binary is the driver and, in a process of its own, our side.
    let outcome = match std::env::args().nth(1).as_deref() {
        Some("our-side") => ours::serve(),
        _ => drive(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

fn drive() -> Result<()> {
    let options = Options::read()?;
    println!(
        "{CANDIDATES} candidates to step {TO_STEP} of {STEPS}, and full renders; f32, {} threads, {} turns",
        options.threads, options.turns
    );
    let mut ours = Side::ours(&options.model, options.threads)?;
    let mut theirs = match &options.python {
        Some(python) => {
            let side = ours.side()?;
            Some(Side::theirs(python, &options.model, options.threads, side)?)
        }
        None => None,
    };

    for work in [Work::Candidates, Work::Render] {
        let (mut our_seconds, mut their_seconds) = (vec![], vec![]);
        // The first turn warms caches and is not counted.
        for turn in 0..=options.turns {
            // A seed of its own each turn: nothing may come out of a cache of trajectories.
            let seed = work.first_seed() + 1000 * turn as u32;
            let ours_first = turn % 2 == 0;
            if ours_first {
                our_seconds.push(ours.time(work, seed)?);
            }
            if let Some(theirs) = &mut theirs {
                their_seconds.push(theirs.time(work, seed)?);
            }
            if !ours_first {
                our_seconds.push(ours.time(work, seed)?);
            }
        }
        let name = work.title();
        println!("\n{name}");
        println!("  foreseed   {}", spread(&our_seconds[1..], "s"));
        if theirs.is_some() {
            let ratios: Vec<f64> = our_seconds[1..]
                .iter()
                .zip(&their_seconds[1..])
                .map(|(o, t)| o / t)
                .collect();
            println!("  diffusers  {}", spread(&their_seconds[1..], "s"));
            println!("  ratio      {}", spread(&ratios, ""));
        }
    }

    let (mut shares, mut judging, mut late) = (vec![], vec![], vec![]);
    for turn in 0..=options.turns as u32 {
        let seed = Work::Plain.first_seed() + 1000 * turn;
        let (plain, tapped) = if turn % 2 == 0 {
            let plain = ours.time(Work::Plain, seed)?;
            (plain, ours.time(Work::Tapped, seed + 500)?)
        } else {
            let tapped = ours.time(Work::Tapped, seed + 500)?;
            (ours.time(Work::Plain, seed)?, tapped)
        };
        shares.push(100.0 * (tapped - plain) / plain);
        let saved = |after| plain / TO_STEP as f64 * (STEPS - after) as f64;
        let mut judged = |work, seed| -> Result<f64> {
            Ok(100.0 * ours.time(work, seed)? * CANDIDATES as f64 / JUDGED as f64)
        };
        judging.push(judged(Work::Judged, seed + 750)? / saved(TO_STEP));
        late.push(judged(Work::JudgedLate, seed + 250)? / saved(LATE_STEP));
    }
    println!("\nwhat the tap adds to a step that is tapped");
    println!("  share      {}", spread(&shares[1..], "%"));

    for (step, shares) in [(TO_STEP, judging), (LATE_STEP, late)] {
        println!(
            "\nwhat a prediction at step {step} costs (preview, scorer, probe) of the steps that it saves"
        );
        println!("  share      {}", spread(&shares[1..], "%"));
    }

    println!("\npeak memory of the process");
    println!("  foreseed   {:.0} MB", ours.peak_bytes as f64 / 1e6);
    if let Some(theirs) = &theirs {
        println!("  diffusers  {:.0} MB", theirs.peak_bytes as f64 / 1e6);
        println!(
            "  ratio      {:.2}",
            ours.peak_bytes as f64 / theirs.peak_bytes as f64
        );
    }
    Ok(())
}

/// The median, and the least and the greatest.
fn spread(values: &[f64], unit: &str) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
    format!(
        "{median:8.3} {unit}  ({:.3} to {:.3})",
        sorted[0],
        sorted[n - 1]
    )
}
