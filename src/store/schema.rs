//! The database's tables, and how an older database becomes today's.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as ours in its header (`PRAGMA application_id`): the letters "4SEE".
const APPLICATION_ID: i64 = 0x3453_4545;

/// One script for each version of the schema: a database at version n has had the first n.
const MIGRATIONS: [&str; 2] = [RECORDS, HISTORY];

const RECORDS: &str = "
CREATE TABLE candidates (
    handle TEXT PRIMARY KEY NOT NULL,
    prompt TEXT NOT NULL,
    seed INTEGER NOT NULL,
    model TEXT NOT NULL,
    negative_prompt TEXT,
    steps INTEGER NOT NULL,
    guidance REAL NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    first_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE predictions (
    handle TEXT NOT NULL,
    metric TEXT NOT NULL,
    at_step INTEGER NOT NULL,
    probe TEXT NOT NULL,
    quality REAL NOT NULL,
    prediction TEXT NOT NULL,
    predicted_at INTEGER NOT NULL,
    PRIMARY KEY (handle, metric, at_step, probe)
) STRICT, WITHOUT ROWID;

CREATE TABLE renders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    handle TEXT NOT NULL,
    path TEXT NOT NULL,
    measured TEXT NOT NULL,
    rendered_at INTEGER NOT NULL
) STRICT;

CREATE INDEX renders_by_handle ON renders (handle);
CREATE INDEX renders_by_time ON renders (rendered_at);
";

/// A score belongs to its candidate, since the same candidate is the same picture. `chosen_after` is
/// the last step at which a candidate had been predicted when its render was asked for: what was
/// predicted of it before that step did not choose it.
const HISTORY: &str = "
ALTER TABLE candidates ADD COLUMN fingerprint TEXT;
ALTER TABLE renders ADD COLUMN chosen_after INTEGER NOT NULL DEFAULT 0;
ALTER TABLE renders ADD COLUMN told TEXT;

CREATE TABLE scores (
    handle TEXT NOT NULL,
    metric TEXT NOT NULL,
    score REAL NOT NULL,
    scored_at INTEGER NOT NULL,
    PRIMARY KEY (handle, metric)
) STRICT, WITHOUT ROWID;

CREATE INDEX scores_by_time ON scores (metric, scored_at);

INSERT OR REPLACE INTO scores (handle, metric, score, scored_at)
SELECT r.handle, m.key, m.value, r.rendered_at FROM renders r, json_each(r.measured) m
WHERE m.type IN ('real', 'integer') ORDER BY r.id;

UPDATE renders SET chosen_after = coalesce((
    SELECT max(p.at_step) FROM predictions p
    WHERE p.handle = renders.handle AND p.predicted_at <= renders.rendered_at
), 0);
";

/// Why a database cannot be brought to today's schema.
pub(super) enum Refusal {
    Sql(rusqlite::Error),
    /// In words: what it is instead.
    NotOurs(String),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Brings the database to today's schema, whoever of several processes comes first.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Refusal> {
    let newest = MIGRATIONS.len() as i64;
    if version(connection)? == newest && is_ours(connection)? {
        return Ok(());
    }
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&change)?;
    let tables: i64 = change.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    if tables > 0 && !is_ours(&change)? {
        return Err(Refusal::NotOurs(
            "this is another program's database; move it away or choose another data folder".into(),
        ));
    }
    if found > newest {
        return Err(Refusal::NotOurs(format!(
            "they were written by a newer foreseed (schema {found}, this one knows {newest}); \
             update foreseed or choose another data folder"
        )));
    }
    for script in &MIGRATIONS[found.max(0) as usize..] {
        change.execute_batch(script)?;
    }
    change.pragma_update(None, "application_id", APPLICATION_ID)?;
    change.pragma_update(None, "user_version", newest)?;
    change.commit()?;
    Ok(())
}

/// A database as the first version made it.
#[cfg(test)]
pub(super) fn first_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(RECORDS)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", 1)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |r| r.get(0))
}

fn is_ours(connection: &Connection) -> rusqlite::Result<bool> {
    let id: i64 = connection.pragma_query_value(None, "application_id", |r| r.get(0))?;
    Ok(id == APPLICATION_ID)
}
