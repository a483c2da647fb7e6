//! Which prompts of a set a process works on, so that several can collect into one folder.
//!
//! A claim is a lock that the system holds for as long as its process lives: what a killed collector
//! was at work on is free again at once.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A prompt that this process alone works on, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    /// Keeps the lock.
    _file: File,
    path: PathBuf,
}

impl Claim {
    /// Claims what is called `name` in the set in `folder`; `None` where another process has it.
    ///
    /// # Errors
    /// A folder that cannot be written, or a file system that knows no locks.
    pub fn take(folder: &Path, name: &str) -> Result<Option<Self>> {
        let claims = folder.join("claims");
        fs::create_dir_all(&claims).map_err(Error::file(&claims))?;
        let path = claims.join(name);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::file(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file, path })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::invalid(
                "out",
                format!("{} cannot be locked: {source}", path.display()),
                "Collect into a folder of its own on each machine, each with its --part, and copy the \
                 files into one",
            )),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Whoever opened it meanwhile looks whether its shard is there. One that stays harms nothing.
        drop(fs::remove_file(&self.path));
    }
}

/// One of several equal parts of a set: that of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// From 1.
    number: usize,
    of: usize,
}

impl Share {
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    pub fn holds(self, index: usize) -> bool {
        index % self.of == self.number - 1
    }
}

impl std::str::FromStr for Share {
    type Err = String;

    /// `2/4`: the second of four.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&number).then_some(Self { number, of })
        });
        numbers.ok_or_else(|| format!("{text:?} is no part: 2/4 is the second of four"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_one_process_s_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let claim = || Claim::take(folder.path(), "000001").unwrap();
        let first = claim();
        assert!(first.is_some() && claim().is_none());
        assert!(Claim::take(folder.path(), "000002").unwrap().is_some());
        drop(first);
        assert!(claim().is_some());
    }

    #[test]
    fn parts_hold_everything_once() {
        let parts: Vec<Share> = ["1/3", "2/3", "3/3"].map(|p| p.parse().unwrap()).into();
        for index in 0..10 {
            assert_eq!(parts.iter().filter(|part| part.holds(index)).count(), 1);
            assert!(Share::WHOLE.holds(index));
        }
        for wrong in ["", "3", "0/2", "3/2", "1/0", "a/b"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
