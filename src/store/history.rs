//! What was rendered here, what had been predicted of it and how it was scored: from this a probe is
//! corrected and trained anew.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{PredictionRecord, RenderRecord, Store, candidate_of, from_json, now};
use crate::Result;
use crate::candidate::{Candidate, Handle, Settings};

/// The metric that is not measured but said: how good an agent or a person found a picture, in 0–1.
pub const RATING: &str = "rating";

/// Which pairs are asked for; what is `None` may be anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The model's fingerprint.
    pub fingerprint: Option<&'a str>,
    pub probe: Option<&'a str>,
    pub metric: Option<&'a str>,
    pub at_step: Option<usize>,
    /// All but the model's name counts: the same weights may be used under several.
    pub settings: Option<&'a Settings>,
}

/// A prediction and what the finished picture came to.
///
/// A candidate that was chosen for what was predicted of it at a later step is better than its
/// earlier predictions say, so only those from the choice on are paired.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// `None`: predicted before fingerprints were kept.
    pub fingerprint: Option<String>,
    pub candidate: Candidate,
    /// The probe's own, as it was before any correction.
    pub predicted: PredictionRecord,
    pub measured: f64,
}

/// A candidate whose picture was scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    pub handle: Handle,
    pub candidate: Candidate,
    pub score: f64,
}

/// While it is the same, so are the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// SQLite's own count of what other connections committed.
    elsewhere: i64,
    here: u64,
}

/// Scores with their candidates and the predictions that they can be held against. Naming the
/// metric lets the newest be found without a look at the others.
const PAIRED: &str = "FROM scores s \
    JOIN predictions p ON p.handle = s.handle AND p.metric = s.metric \
    JOIN candidates c ON c.handle = s.handle \
    WHERE p.at_step >= coalesce((SELECT r.chosen_after FROM renders r \
         WHERE r.handle = s.handle ORDER BY r.id LIMIT 1), 0)";

/// A condition on a pair, with the values of its parameters.
type Condition<'a> = (&'static str, Vec<(&'static str, Box<dyn ToSql + 'a>)>);

impl<'a> Asked<'a> {
    fn conditions(self) -> Vec<Condition<'a>> {
        let mut all: Vec<Condition<'a>> = Vec::new();
        let texts = [
            ("s.metric = :metric", ":metric", self.metric),
            ("p.probe = :probe", ":probe", self.probe),
            (
                "c.fingerprint = :fingerprint",
                ":fingerprint",
                self.fingerprint,
            ),
        ];
        for (condition, name, value) in texts {
            if let Some(value) = value {
                all.push((condition, vec![(name, Box::new(value))]));
            }
        }
        if let Some(step) = self.at_step {
            all.push((
                "p.at_step = :at_step",
                vec![(":at_step", Box::new(step as i64))],
            ));
        }
        if let Some(s) = self.settings {
            all.push((
                "c.steps = :steps AND c.guidance = :guidance AND c.width = :width \
                 AND c.height = :height AND c.negative_prompt IS :negative_prompt",
                vec![
                    (":steps", Box::new(s.steps as i64)),
                    (":guidance", Box::new(s.guidance)),
                    (":width", Box::new(s.width as i64)),
                    (":height", Box::new(s.height as i64)),
                    (":negative_prompt", Box::new(s.negative_prompt.as_deref())),
                ],
            ));
        }
        all
    }
}

impl Store {
    /// Adds a picture to the history; earlier ones of the same candidate stay.
    pub fn keep_render(&self, render: &RenderRecord) -> Result<()> {
        let measured = self.json(&render.measured)?;
        let told = render.told.as_ref().map(|t| self.json(t)).transpose()?;
        let path = render.path.to_string_lossy();
        let at = render.rendered_at as i64;
        self.write(|change| {
            change.execute(
                "INSERT INTO renders (handle, path, measured, rendered_at, chosen_after, told) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    render.handle.0,
                    path,
                    measured,
                    at,
                    render.chosen_after as i64,
                    told
                ],
            )?;
            for (metric, score) in &render.measured {
                score_anew(change, &render.handle, metric, *score, at)?;
            }
            Ok(())
        })?;
        self.pairs_changed();
        Ok(())
    }

    /// Newest first.
    pub fn renders(&self, at_most: usize) -> Result<Vec<RenderRecord>> {
        let limit = at_most.min(i64::MAX as usize) as i64;
        self.read(|connection| {
            let renders: Vec<RenderRecord> = connection
                .prepare_cached(
                    "SELECT handle, path, rendered_at, chosen_after, told FROM renders \
                     ORDER BY rendered_at DESC, id DESC LIMIT ?1",
                )?
                .query_map([limit], render_of)?
                .collect::<rusqlite::Result<_>>()?;
            renders.into_iter().map(|r| scored(connection, r)).collect()
        })
    }

    /// The latest picture of a candidate, if it was ever rendered.
    pub fn render_of(&self, handle: &Handle) -> Result<Option<RenderRecord>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT handle, path, rendered_at, chosen_after, told FROM renders \
                     WHERE handle = ?1 ORDER BY id DESC LIMIT 1",
                )?
                .query_row([&handle.0], render_of)
                .optional()?
                .map(|render| scored(connection, render))
                .transpose()
        })
    }

    /// Scores a candidate's picture; an earlier score by the same metric is replaced.
    pub fn keep_score(&self, handle: &Handle, metric: &str, score: f64) -> Result<()> {
        self.write(|change| score_anew(change, handle, metric, score, now() as i64))?;
        self.pairs_changed();
        Ok(())
    }

    /// The last step at which anything was predicted of a candidate; 0: nothing was.
    pub fn predicted_up_to(&self, handle: &Handle) -> Result<usize> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT max(at_step) FROM predictions WHERE handle = ?1")?
                .query_row([&handle.0], |row| {
                    Ok(row.get::<_, Option<i64>>(0)?.unwrap_or(0).max(0) as usize)
                })
        })
    }

    /// Predictions with the scores that their pictures came to, the latest scored first.
    pub fn pairs(&self, asked: Asked<'_>, at_most: usize) -> Result<Vec<Pair>> {
        let columns = "c.prompt, c.seed, c.model, c.negative_prompt, c.steps, c.guidance, \
            c.width, c.height, c.fingerprint, p.handle, p.metric, p.at_step, p.probe, \
            p.prediction, s.score";
        let limit = at_most.min(i64::MAX as usize);
        let order = format!("ORDER BY s.scored_at DESC, p.handle, p.at_step LIMIT {limit}");
        self.look_up(columns, asked, &order, pair_of)
    }

    /// It is to be read before the pairs that are kept under it.
    pub fn pairs_version(&self) -> Result<Version> {
        let here = self.changes_of_pairs.load(Ordering::Acquire);
        self.read(|connection| {
            let elsewhere =
                connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
            Ok(Version { elsewhere, here })
        })
    }

    /// There may be other pairs now.
    pub(super) fn pairs_changed(&self) {
        self.changes_of_pairs.fetch_add(1, Ordering::Release);
    }

    /// How many candidates have such a pair.
    pub fn paired(&self, asked: Asked<'_>) -> Result<usize> {
        let counts = self.look_up("count(DISTINCT p.handle)", asked, "", |row| {
            row.get::<_, i64>(0)
        })?;
        Ok(counts.first().map_or(0, |n| *n as usize))
    }

    fn look_up<T>(
        &self,
        columns: &str,
        asked: Asked<'_>,
        order: &str,
        of_row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let conditions = asked.conditions();
        let mut sql = format!("SELECT {columns} {PAIRED}");
        for (condition, _) in &conditions {
            sql += &format!(" AND {condition}");
        }
        sql += &format!(" {order}");
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            for (name, value) in conditions.iter().flat_map(|(_, values)| values) {
                statement.raw_bind_parameter(*name, value)?;
            }
            statement.raw_query().mapped(of_row).collect()
        })
    }

    /// Every candidate of the weights with this fingerprint whose picture has a score by `metric`,
    /// in the order of their prompts.
    pub fn scored(&self, fingerprint: &str, metric: &str) -> Result<Vec<Scored>> {
        let all: Vec<(Option<String>, Scored)> = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT c.prompt, c.seed, c.model, c.negative_prompt, c.steps, c.guidance, \
                     c.width, c.height, c.fingerprint, c.handle, s.score \
                     FROM scores s JOIN candidates c ON c.handle = s.handle \
                     WHERE s.metric = ?1 ORDER BY c.prompt, c.seed, c.handle",
                )?
                .query_map([metric], |row| {
                    let scored = Scored {
                        candidate: candidate_of(row)?,
                        handle: Handle(row.get(9)?),
                        score: row.get(10)?,
                    };
                    Ok((row.get(8)?, scored))
                })?
                .collect()
        })?;
        Ok(all
            .into_iter()
            .filter(|(kept, scored)| match kept {
                Some(kept) => kept == fingerprint,
                // From before fingerprints were kept: the handle tells.
                None => scored.candidate.handle(fingerprint) == scored.handle,
            })
            .map(|(_, scored)| scored)
            .collect())
    }
}

fn score_anew(
    change: &Connection,
    handle: &Handle,
    metric: &str,
    score: f64,
    at: i64,
) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "INSERT OR REPLACE INTO scores (handle, metric, score, scored_at) \
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![handle.0, metric, score, at])?;
    Ok(())
}

/// A render but for its scores.
pub(super) fn render_of(row: &Row<'_>) -> rusqlite::Result<RenderRecord> {
    let told: Option<String> = row.get(4)?;
    Ok(RenderRecord {
        handle: Handle(row.get(0)?),
        path: PathBuf::from(row.get::<_, String>(1)?),
        measured: BTreeMap::new(),
        rendered_at: row.get::<_, i64>(2)?.max(0) as u64,
        chosen_after: row.get::<_, i64>(3)?.max(0) as usize,
        told: match told {
            Some(_) => Some(from_json(row, 4)?),
            None => None,
        },
    })
}

pub(super) fn scored(
    connection: &Connection,
    render: RenderRecord,
) -> rusqlite::Result<RenderRecord> {
    let measured = connection
        .prepare_cached("SELECT metric, score FROM scores WHERE handle = ?1")?
        .query_map([&render.handle.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(RenderRecord { measured, ..render })
}

fn pair_of(row: &Row<'_>) -> rusqlite::Result<Pair> {
    Ok(Pair {
        candidate: candidate_of(row)?,
        fingerprint: row.get(8)?,
        predicted: PredictionRecord {
            handle: Handle(row.get(9)?),
            metric: row.get(10)?,
            at_step: row.get::<_, i64>(11)?.max(0) as usize,
            probe: row.get(12)?,
            prediction: from_json(row, 13)?,
        },
        measured: row.get(14)?,
    })
}
