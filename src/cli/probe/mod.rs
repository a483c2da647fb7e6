//! `foreseed probe`: collect trajectories, train a probe on them, evaluate it.

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::Globals;
use crate::Result;

mod collect;
mod eval;
mod history;
mod train;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run trajectories to the end, and keep what was seen of them and how they came out.
    ///
    /// A prompt at a time is written whole; run the same command again to go on after a kill.
    Collect(collect::Args),
    /// Fit a probe, its baselines and its calibration on what was collected.
    Train(train::Args),
    /// Measure a probe on fresh held-out prompts, next to its baselines.
    Eval(eval::Args),
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    match args.command {
        Command::Collect(args) => collect::run(args, globals),
        Command::Train(args) => train::run(args, globals),
        Command::Eval(args) => eval::run(args, globals),
    }
}

/// A number of what is to be run: none of it would measure nothing.
fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there has to be at least one".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}: send a whole number from 1 on")),
    }
}

/// A bar on stderr for a person, with the time that is left; hidden where nobody watches.
fn bar(length: usize, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let template =
        format!("{{wide_bar}} {{pos}}/{{len}} {unit}, {{elapsed}} gone, {{eta}} left {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}
