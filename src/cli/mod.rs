//! The command line: one file a subcommand.
//!
//! A person gets progress bars and a table, a pipe gets the tool's structured reply with `--json`.
//! Exit codes: 0 it worked, 1 it failed, 2 the call itself was wrong.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::Error;

mod doctor;
#[cfg(fuzzing)]
pub mod fuzzed;
mod globals;
mod models;
pub mod output;
mod predict;
mod probe;
mod rank;
mod refine;
mod render;
mod serve;
mod shared;
mod surface;
mod trace;

pub use globals::Globals;

/// See how an image will turn out before paying for it.
#[derive(Debug, Parser)]
#[command(name = "foreseed", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the five tools to an agent: MCP over stdio, or over HTTP with --http.
    Serve(serve::Args),
    /// Predict how good a prompt's images will be, from their first denoising steps.
    Predict(predict::Args),
    /// Rank seeds of a prompt, dropping the weak ones early.
    Rank(rank::Args),
    /// Find a better wording of a prompt, measured on the same seeds.
    Refine(refine::Args),
    /// Render one candidate: from its handle, or from a prompt and a seed.
    Render(render::Args),
    /// List the models there are, or fetch one.
    Models(models::Args),
    /// Collect trajectories, train a probe, evaluate it.
    Probe(probe::Args),
    /// Write a trajectory's tensors to a safetensors file, to be checked against another program.
    Trace(trace::Args),
    /// Check that everything is in place, and say what to do where it is not.
    Doctor(doctor::Args),
}

/// Runs the command in `args` (the program's name first) and says how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe while help is printed is nobody's failure.
            let _ = error.print();
            return ExitCode::from(error.exit_code().clamp(0, 2) as u8);
        }
    };
    output::trace_to_stderr(cli.globals.verbose);
    let globals = &cli.globals;
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(args, globals),
        Command::Predict(args) => predict::run(args, globals),
        Command::Rank(args) => rank::run(args, globals),
        Command::Refine(args) => refine::run(args, globals),
        Command::Render(args) => render::run(args, globals),
        Command::Models(args) => models::run(args, globals),
        Command::Probe(args) => probe::run(args, globals),
        Command::Trace(args) => trace::run(args, globals),
        Command::Doctor(args) => doctor::run(args, globals),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("foreseed: {error}");
            ExitCode::from(match error {
                Error::Invalid { .. } => 2,
                _ => 1,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_subcommand() {
        for line in [
            "foreseed --model pocket --json doctor",
            "foreseed doctor --json --model pocket",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.globals.model.as_deref(), Some("pocket"));
            assert!(cli.globals.json);
        }
    }
}
