//! What the commands of the four jobs share: their options, a caller, and how figures are shown.

use std::sync::Arc;
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::candidate::Seed;
use crate::foresight::replies::{Common, WeakWord};
use crate::foresight::requests::{PredictingSettings, SeedChoice, SharedSettings};
use crate::foresight::{Caller, Progress};

/// What shapes an image besides its prompt and seed. The model is `--model`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SettingsArgs {
    /// What the image should not show.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    negative_prompt: Option<String>,
    /// Denoising steps of a full render [default: the model's own].
    #[arg(long)]
    steps: Option<u32>,
    /// Guidance scale; at 1 or below it is off [default: the model's own].
    #[arg(long, allow_hyphen_values = true)]
    guidance: Option<f64>,
    /// Pixels [default: the model's own].
    #[arg(long)]
    width: Option<u32>,
    /// Pixels [default: the model's own].
    #[arg(long)]
    height: Option<u32>,
}

impl SettingsArgs {
    pub fn request(self) -> SharedSettings {
        SharedSettings {
            model: None,
            negative_prompt: self.negative_prompt,
            steps: self.steps,
            guidance: self.guidance,
            width: self.width,
            height: self.height,
        }
    }
}

#[derive(Clone, Debug, Default, clap::Args)]
pub struct PredictingArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Steps done before the prediction [default: a fifth of the steps].
    #[arg(long, value_name = "STEP")]
    at_step: Option<u32>,
    /// What is predicted; `foreseed models list` names what each model's probes predict.
    #[arg(long)]
    metric: Option<String>,
}

impl PredictingArgs {
    pub fn request(self) -> PredictingSettings {
        PredictingSettings {
            shared: self.settings.request(),
            at_step: self.at_step,
            metric: self.metric,
        }
    }
}

#[derive(Clone, Debug, Default, clap::Args)]
pub struct SeedArgs {
    /// These seeds, e.g. 7,21,42.
    #[arg(long, value_delimiter = ',', value_name = "SEED,…")]
    seeds: Option<Vec<u32>>,
    /// So many seeds, from 0 on.
    #[arg(long)]
    count: Option<u32>,
}

impl SeedArgs {
    pub fn request(self) -> SeedChoice {
        SeedChoice {
            seeds: self
                .seeds
                .map(|seeds| seeds.into_iter().map(Seed).collect()),
            count: self.count,
        }
    }
}

/// A person at a terminal: a progress bar on stderr, patience without end, and Ctrl-C cancels.
pub struct Person {
    pub caller: Caller,
    bar: ProgressBar,
}

impl Person {
    /// Must be called within a runtime.
    pub fn here() -> Self {
        // Hidden by itself where stderr is no terminal.
        let bar = ProgressBar::new(1);
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {percent:>3} %  {elapsed}  {msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        let cancel = CancellationToken::new();
        let (shown, stop) = (bar.clone(), cancel.clone());
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.cancel();
            }
        });
        Self {
            caller: Caller {
                cancel,
                progress: Arc::new(move |progress: Progress| {
                    shown.set_length(progress.of);
                    shown.set_position(progress.done);
                    shown.set_message(progress.message);
                }),
                patience: None,
            },
            bar,
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line under the header, and no other.
const RULED: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table whose columns named in `right` stand to the right, as numbers do.
pub fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(RULED);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// `0.83`, or a dash where there is nothing.
pub fn figure(value: Option<f64>) -> String {
    value.map_or("–".into(), |v| format!("{v:.3}"))
}

/// `0.71–0.90`, or a dash where there is nothing.
pub fn interval(value: Option<[f64; 2]>) -> String {
    value.map_or("–".into(), |[low, high]| format!("{low:.2} to {high:.2}"))
}

/// `star 62 %, left 31 %`
pub fn words(weak: &[WeakWord]) -> String {
    let words: Vec<String> = weak
        .iter()
        .take(5)
        .map(|w| format!("{} {:.0} %", w.word, w.risk * 100.0))
        .collect();
    words.join(", ")
}

/// The line under every table: what it took.
pub fn cost(common: &Common) -> String {
    let cost = &common.cost;
    format!(
        "{} · {}{} · {} denoiser evaluations of {} ({:.0} % saved) in {:.1} s",
        common.model,
        common.metric,
        if common.calibrated {
            ""
        } else {
            " (not calibrated)"
        },
        cost.evaluations,
        cost.full_evaluations,
        cost.saved_fraction * 100.0,
        cost.seconds,
    )
}
