//! Records that are never written: a copy in memory of those on the disk.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use rusqlite::{Connection, OpenFlags};

use super::{Store, explain, schema};
use crate::{Error, Result};

const TABLES: [&str; 4] = ["candidates", "predictions", "renders", "scores"];

impl Store {
    /// What the database in `folder` holds now, if there is one, in memory: the handles given out so
    /// far are known, and what is recorded from here on goes with the process. A database of another
    /// version of Foreseed is not read, for it could not be brought up to date.
    pub fn in_memory(folder: &Path) -> Result<Self> {
        let path = folder.join("foreseed.sqlite");
        let failed = |error: rusqlite::Error| explain(&path, &error);
        let mut connection = Connection::open_in_memory().map_err(failed)?;
        schema::migrate(&mut connection).map_err(|refusal| match refusal {
            schema::Refusal::Sql(error) => failed(error),
            schema::Refusal::NotOurs(problem) => Error::Records {
                path: path.clone(),
                problem,
            },
        })?;
        if path.is_file() && !copy(&connection, &path).map_err(failed)? {
            tracing::warn!(path = %path.display(), "written by another version: not read");
        }
        Ok(Self {
            path,
            connection: Mutex::new(connection),
            changes_of_pairs: AtomicU64::default(),
        })
    }
}

/// Whether the database at `path` was of this version, and so was copied.
fn copy(to: &Connection, path: &Path) -> rusqlite::Result<bool> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let from = address(path);
    let version = |connection: &Connection| -> rusqlite::Result<(i64, i64)> {
        let of = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
        Ok((of("application_id")?, of("user_version")?))
    };
    if version(&Connection::open_with_flags(&from, flags)?)? != version(to)? {
        return Ok(false);
    }
    to.execute("ATTACH DATABASE ?1 AS disk", [&from])?;
    for table in TABLES {
        to.execute_batch(&format!(
            "INSERT INTO main.{table} SELECT * FROM disk.{table}"
        ))?;
    }
    to.execute_batch("DETACH DATABASE disk")?;
    Ok(true)
}

/// The address under which SQLite opens `path` and makes no file beside it.
fn address(path: &Path) -> String {
    let mut address = String::from("file:");
    for c in path.to_string_lossy().chars() {
        match c {
            '%' | '?' | '#' => address += &format!("%{:02x}", u32::from(c)),
            c => address.push(c),
        }
    }
    let log = path.with_file_name("foreseed.sqlite-wal");
    // What another process has not yet moved out of its log is read there; where there is no log,
    // SQLite would make one unless it is told that nobody writes.
    address += match log.is_file() {
        true => "?mode=ro",
        false => "?mode=ro&immutable=1",
    };
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::{Candidate, Seed, Settings};

    fn candidate(seed: u32) -> Candidate {
        Candidate {
            prompt: "a ring".into(),
            seed: Seed(seed),
            settings: Settings {
                model: "pocket".into(),
                negative_prompt: None,
                steps: 25,
                guidance: 5.0,
                width: 64,
                height: 64,
            },
        }
    }

    fn files(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap())
            .map(|file| (file.file_name(), std::fs::read(file.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn what_was_recorded_is_known_and_nothing_is_written() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("100% #mine?");
        let handle = |seed| candidate(seed).handle("weights");
        let on_disk = Store::open(&folder).unwrap();
        on_disk
            .remember("weights", &[(handle(1), candidate(1))])
            .unwrap();
        // While another process has it open, and after that.
        let copy = Store::in_memory(&folder).unwrap();
        assert_eq!(copy.recall(&handle(1)).unwrap(), Some(candidate(1)));
        drop((copy, on_disk));
        let before = files(&folder);
        let copy = Store::in_memory(&folder).unwrap();
        copy.remember("weights", &[(handle(2), candidate(2))])
            .unwrap();
        assert_eq!(copy.recall(&handle(1)).unwrap(), Some(candidate(1)));
        assert_eq!(copy.recall(&handle(2)).unwrap(), Some(candidate(2)));
        assert_eq!(files(&folder), before);
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("none");
        let store = Store::in_memory(&folder).unwrap();
        assert_eq!(store.renders(9).unwrap(), []);
        assert!(!folder.exists());
    }
}
