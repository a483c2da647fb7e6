//! Large files from the hub: fetched part by part, so that a break loses a part at most, and compared
//! with what the hub says of them before they count as fetched.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{HFError, HFResult};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Bytes that are asked for at once; smaller files are fetched whole.
pub(super) const PART: u64 = if cfg!(test) { 16 } else { 64 << 20 };
/// How often a part is asked for before the pull is given up, and how long is waited in between, at
/// first.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 2000 });

/// A file on the hub, and where the cache keeps it.
pub(super) struct LargeFile<'a> {
    /// What errors call it.
    pub path: &'a str,
    pub size: u64,
    /// The hub's name of its content: for large files its SHA-256 in hex.
    pub etag: &'a str,
    /// The cache's folder of contents.
    pub blobs: PathBuf,
}

/// Why a file could not be fetched.
pub(super) enum Failure {
    Hub(HFError),
    Here(Error),
    /// All bytes came, and they are not what the hub says that they are.
    Corrupt(String),
}

impl LargeFile<'_> {
    fn whole(&self) -> PathBuf {
        self.blobs.join(self.etag)
    }

    /// Named as the hub's libraries name it, which go on with it as well.
    fn partial(&self) -> PathBuf {
        self.blobs.join(format!("{}.incomplete", self.etag))
    }

    /// Bytes that are here already.
    pub fn here(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map(|m| m.len()).ok();
        match size(&self.whole()) {
            Some(bytes) if bytes == self.size => bytes,
            _ => size(&self.partial())
                .filter(|b| *b <= self.size)
                .unwrap_or(0),
        }
    }

    /// Fetches what is not here yet by `ask`, part by part; `done` is told how many bytes are here.
    pub fn fetch(
        &self,
        ask: impl Fn(Range<u64>) -> HFResult<Vec<u8>>,
        done: impl Fn(u64),
    ) -> Result<(), Failure> {
        let here = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Failure::Here(Error::file(&path)(source))
        };
        let (whole, partial) = (self.whole(), self.partial());
        if let Ok(metadata) = fs::metadata(&whole) {
            if metadata.len() == self.size {
                return Ok(());
            }
            // Cut short by whoever wrote it.
            fs::remove_file(&whole).map_err(here(&whole))?;
        }
        fs::create_dir_all(&self.blobs).map_err(here(&self.blobs))?;
        let mut have = self.here();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&partial)
            .map_err(here(&partial))?;
        file.set_len(have).map_err(here(&partial))?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(here(&partial))?;
        while have < self.size {
            done(have);
            let bytes = self.part(&ask, have..(have + PART).min(self.size))?;
            file.write_all(&bytes).map_err(here(&partial))?;
            have += bytes.len() as u64;
        }
        file.sync_all().map_err(here(&partial))?;
        done(have);
        self.check(&partial)?;
        fs::rename(&partial, &whole).map_err(here(&whole))
    }

    /// One part, asked for again where the connection breaks.
    fn part(
        &self,
        ask: &impl Fn(Range<u64>) -> HFResult<Vec<u8>>,
        range: Range<u64>,
    ) -> Result<Vec<u8>, Failure> {
        let wanted = (range.end - range.start) as usize;
        let mut attempt = 1;
        loop {
            let failure = match ask(range.clone()) {
                Ok(bytes) if bytes.len() == wanted => return Ok(bytes),
                // A server that knows no ranges sends all.
                Ok(bytes) if bytes.len() as u64 == self.size => {
                    return Ok(bytes[range.start as usize..range.end as usize].to_vec());
                }
                Ok(bytes) => Failure::Corrupt(format!(
                    "{} of {wanted} bytes came of a part of {}",
                    bytes.len(),
                    self.path
                )),
                Err(error) => Failure::Hub(error),
            };
            let may_pass = match &failure {
                Failure::Hub(HFError::Http { context }) => context.status.is_server_error(),
                Failure::Hub(HFError::AuthRequired { .. } | HFError::Forbidden { .. }) => false,
                _ => true,
            };
            if attempt == ATTEMPTS || !may_pass {
                return Err(failure);
            }
            tracing::info!("a part of {} is asked for again", self.path);
            std::thread::sleep(PAUSE * 2u32.pow(attempt - 1));
            attempt += 1;
        }
    }

    /// Compares the file with its digest, and removes it where it is another.
    fn check(&self, partial: &Path) -> Result<(), Failure> {
        let is_digest = self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_digest {
            return Ok(());
        }
        let failed = |source| Failure::Here(Error::file(partial)(source));
        let mut file = File::open(partial).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let failed = |source| Failure::Here(Error::file(partial)(source));
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        if found == self.etag.to_ascii_lowercase() {
            return Ok(());
        }
        drop(fs::remove_file(partial));
        Err(Failure::Corrupt(format!(
            "{} came out corrupt (its SHA-256 is {found}, not {})",
            self.path, self.etag
        )))
    }
}
