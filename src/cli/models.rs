//! `foreseed models`: what there is, and fetching what is not.

use std::sync::Arc;

use clap::Subcommand;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Globals, output};
use crate::Result;
use crate::engine::Limits;
use crate::models::{self, ScorerCard};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the models there are, what each needs and whether it fits. The default.
    List,
    /// Fetch a model or a scorer from the hub, into the cache that other programs share.
    Pull {
        /// As `foreseed models list` prints it.
        name: String,
    },
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    match args.command.unwrap_or(Command::List) {
        Command::List => list(globals),
        Command::Pull { name } => pull(&name, globals),
    }
}

fn list(globals: &Globals) -> Result<()> {
    if globals.json {
        let foresight = globals.foresight_read_only(Limits::default())?;
        return output::print_json(&foresight.list_models()?);
    }
    let models = globals.models()?;
    let cards = models.list();
    let scorers = models.scorers();
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["model", "state", "needs", "licence", "about"]);
    for card in &cards {
        let default = if card.name == models.default_name() {
            " *"
        } else {
            ""
        };
        table.add_row([
            format!("{}{default}", card.name),
            state((card.installed, card.fits), &card.name),
            gigabytes(card.needs_bytes),
            card.licence.clone().unwrap_or_default(),
            card.about.clone(),
        ]);
    }
    output::print(&table.to_string())?;
    output::print("* taken when no model is named\n")?;
    output::print(&scorer_table(&scorers))
}

fn scorer_table(scorers: &[ScorerCard]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["metric", "state", "needs", "licence", "what it says"]);
    for card in scorers {
        table.add_row([
            card.metric.clone(),
            state((card.installed, card.fits), &card.metric),
            gigabytes(card.needs_bytes),
            card.licence.clone().unwrap_or_default(),
            card.about.clone(),
        ]);
    }
    table.to_string()
}

fn state((installed, fits): (bool, bool), name: &str) -> String {
    match (installed, fits) {
        (true, true) => "installed".into(),
        (true, false) => "installed, too large for this memory".into(),
        (false, true) => format!("foreseed models pull {name}"),
        (false, false) => "too large for this memory".into(),
    }
}

fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..50_000_000 => format!("{:.0} MB", (bytes as f64 / 1e6).ceil()),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

fn pull(name: &str, globals: &Globals) -> Result<()> {
    let bar = ProgressBar::new(0);
    let style = "{bar:30} {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left) {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let folder = models::pull(
        name,
        Arc::new(move |pulled| {
            shown.set_length(pulled.of_bytes);
            shown.set_position(pulled.done_bytes);
            shown.set_message(pulled.file);
        }),
    );
    bar.finish_and_clear();
    let folder = folder?;
    if globals.json {
        return output::print_json(&json!({ "model": name, "folder": folder }));
    }
    output::print(&format!("{name} is in {}", folder.display()))
}
