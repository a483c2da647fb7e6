//! The records behind the handles: a small SQLite database in the data folder that several servers
//! may share and that survives a kill.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use crate::candidate::{Candidate, Handle, Seed, Settings};
use crate::{Error, Result};

pub use history::{Asked, Pair, RATING, Scored, Version};

mod browse;
mod history;
mod memory;
mod schema;
#[cfg(test)]
mod tests;

/// A prediction as it was answered, kept so that it need not be computed again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRecord {
    pub handle: Handle,
    pub metric: String,
    pub at_step: usize,
    /// The probe's own fingerprint; another probe's prediction is another prediction. With [`GLIMPSE`]
    /// after it, where it was made half-way into `at_step`.
    pub probe: String,
    pub prediction: crate::probe::Prediction,
}

/// Ends the name of who predicted half-way into a step.
pub const GLIMPSE: &str = " glimpse";

impl PredictionRecord {
    pub fn is_of_glimpse(&self) -> bool {
        self.probe.ends_with(GLIMPSE)
    }
}

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RenderRecord {
    pub handle: Handle,
    pub path: PathBuf,
    /// metric → score; a later score of the candidate replaces an earlier one.
    pub measured: BTreeMap<String, f64>,
    /// Seconds since the Unix epoch.
    pub rendered_at: u64,
    /// The last step at which the candidate had been predicted when the render was asked for; 0: it
    /// was rendered without.
    pub chosen_after: usize,
    /// `None`: it was rendered before this was kept.
    pub told: Option<Told>,
}

/// What was told of a picture besides its scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub metric: String,
    pub calibrated: bool,
    pub predicted: Option<f64>,
    /// Denoiser evaluations of the render from its start.
    pub full_evaluations: u64,
}

/// How long a write waits for another process that is writing.
const PATIENCE: Duration = Duration::from_secs(10);

/// The records. One connection behind a lock: what is asked of it takes well under a millisecond
/// next to the seconds of a denoising step.
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// How often this store changed what [`Store::pairs`] tells.
    changes_of_pairs: AtomicU64,
}

impl Store {
    /// Opens, or makes, the database `foreseed.sqlite` in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|source| Error::Records {
            path: folder.to_path_buf(),
            problem: format!(
                "the folder cannot be made ({source}); choose a data folder that can be written"
            ),
        })?;
        let path = folder.join("foreseed.sqlite");
        let connection = connect(&path).map_err(|refusal| match refusal {
            schema::Refusal::Sql(error) => explain(&path, &error),
            schema::Refusal::NotOurs(problem) => Error::Records {
                path: path.clone(),
                problem,
            },
        })?;
        Ok(Self {
            path,
            connection: Mutex::new(connection),
            changes_of_pairs: AtomicU64::default(),
        })
    }

    /// Keeps what the handles stand for under the weights with this fingerprint. Once this returned,
    /// no kill takes it back.
    pub fn remember(&self, fingerprint: &str, candidates: &[(Handle, Candidate)]) -> Result<()> {
        self.write(|change| {
            let mut insert = change.prepare_cached(
                "INSERT INTO candidates (handle, prompt, seed, model, negative_prompt, \
                 steps, guidance, width, height, first_seen, fingerprint) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
                 ON CONFLICT (handle) DO UPDATE SET fingerprint = excluded.fingerprint \
                 WHERE fingerprint IS NULL",
            )?;
            for (handle, candidate) in candidates {
                let s = &candidate.settings;
                insert.execute(params![
                    handle.0,
                    candidate.prompt,
                    candidate.seed.0,
                    s.model,
                    s.negative_prompt,
                    s.steps as i64,
                    s.guidance,
                    s.width as i64,
                    s.height as i64,
                    now() as i64,
                    fingerprint,
                ])?;
            }
            Ok(())
        })
    }

    /// `None`: no such handle was ever given out.
    pub fn recall(&self, handle: &Handle) -> Result<Option<Candidate>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT prompt, seed, model, negative_prompt, steps, guidance, width, height \
                     FROM candidates WHERE handle = ?1",
                )?
                .query_row([&handle.0], candidate_of)
                .optional()
        })
    }

    pub fn keep_predictions(&self, predictions: &[PredictionRecord]) -> Result<()> {
        let rows = predictions
            .iter()
            .map(|p| Ok((p, self.json(&p.prediction)?)))
            .collect::<Result<Vec<_>>>()?;
        let mut pairs = false;
        self.write(|change| {
            let mut scored = change.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM scores WHERE handle = ?1 AND metric = ?2)",
            )?;
            let mut insert = change.prepare_cached(
                "INSERT OR REPLACE INTO predictions (handle, metric, at_step, probe, quality, \
                 prediction, predicted_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for (record, json) in &rows {
                insert.execute(params![
                    record.handle.0,
                    record.metric,
                    record.at_step as i64,
                    record.probe,
                    record.prediction.quality,
                    json,
                    now() as i64,
                ])?;
                pairs |= scored.query_row([&record.handle.0, &record.metric], |row| {
                    row.get::<_, bool>(0)
                })?;
            }
            Ok(())
        })?;
        if pairs {
            self.pairs_changed();
        }
        Ok(())
    }

    /// What this probe said of this candidate after `at_step` steps, if it was ever asked.
    pub fn prediction(
        &self,
        handle: &Handle,
        metric: &str,
        at_step: usize,
        probe: &str,
    ) -> Result<Option<PredictionRecord>> {
        let prediction = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT prediction FROM predictions \
                     WHERE handle = ?1 AND metric = ?2 AND at_step = ?3 AND probe = ?4",
                )?
                .query_row(params![handle.0, metric, at_step as i64, probe], |row| {
                    from_json(row, 0)
                })
                .optional()
        })?;
        Ok(prediction.map(|prediction| PredictionRecord {
            handle: handle.clone(),
            metric: metric.to_owned(),
            at_step,
            probe: probe.to_owned(),
            prediction,
        }))
    }

    fn read<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        ask(&self.lock()).map_err(|error| explain(&self.path, &error))
    }

    /// Runs `change` in one transaction that holds the write lock from its start, so that it waits
    /// for other processes instead of failing half-way.
    fn write(&self, change: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<()> {
        let mut connection = self.lock();
        let run = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change(&transaction)?;
            transaction.commit()
        };
        run().map_err(|error| explain(&self.path, &error))
    }

    /// A panic elsewhere cannot leave the connection half-changed: its transaction is rolled back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn json(&self, value: &impl Serialize) -> Result<String> {
        serde_json::to_string(value).map_err(|error| Error::Records {
            path: self.path.clone(),
            problem: format!("a record cannot be written as JSON: {error}"),
        })
    }
}

fn connect(path: &Path) -> std::result::Result<Connection, schema::Refusal> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    // Readers go on while another process writes, and a commit is on the disk before it is answered.
    patiently(|| connection.pragma_update(None, "journal_mode", "WAL"))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// Does for changes of the journal's mode what SQLite's busy timeout does for all others: of several
/// processes that open a new database at once, one changes it, and SQLite refuses the rest at once.
fn patiently(change: impl Fn() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match change() {
            Err(error) if is_busy(&error) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn candidate_of(row: &Row<'_>) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        prompt: row.get(0)?,
        seed: Seed(row.get(1)?),
        settings: Settings {
            model: row.get(2)?,
            negative_prompt: row.get(3)?,
            steps: row.get::<_, i64>(4)?.max(0) as usize,
            guidance: row.get(5)?,
            width: row.get::<_, i64>(6)?.max(0) as usize,
            height: row.get::<_, i64>(7)?.max(0) as usize,
        },
    })
}

fn from_json<T: for<'a> Deserialize<'a>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What a person can do about a failure of the database.
fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let advice = match error.sqlite_error_code() {
        _ if is_busy(error) => {
            "another process has held it for long; stop that process or try again"
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "the file is damaged; move it away and a new one is made, which does not know the \
             handles given out so far"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "it cannot be opened for writing; check the permissions or choose another data folder"
        }
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
            "the disk is full or fails; free some space or choose another data folder"
        }
        _ => "try again, or choose another data folder",
    };
    Error::Records {
        path: path.to_path_buf(),
        problem: format!("{error}; {advice}"),
    }
}
