//! A model's files: a folder in diffusers' layout, or the same files inside the binary.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Files compiled into the binary: path inside the folder, with `/`, and content.
pub type Embedded = &'static [(&'static str, &'static [u8])];

/// Where a model's files are read from. Paths are relative to the model's folder.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    name: String,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Folder(PathBuf),
    Embedded(Embedded),
}

/// Models up to this size are fingerprinted by every byte, larger ones by samples.
const WHOLE_FINGERPRINT_BYTES: u64 = 256 << 20;
/// How much of a large file is sampled: this many blocks of [`SAMPLE_BYTES`], evenly spread.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: u64 = 16 << 10;

impl ModelFiles {
    /// The files in a folder on disk; errors call the model by the folder's path until
    /// [`ModelFiles::named`] says otherwise.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            name: path.display().to_string(),
            source: Source::Folder(path),
        }
    }

    /// The files compiled into the binary.
    pub fn embedded(files: Embedded) -> Self {
        Self {
            name: "embedded".into(),
            source: Source::Embedded(files),
        }
    }

    /// The same files, called `name` in errors.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What errors call the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An error about this model.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::model(self.name.clone(), problem)
    }

    pub fn has(&self, path: &str) -> bool {
        match &self.source {
            Source::Folder(folder) => folder.join(path).is_file(),
            Source::Embedded(files) => files.iter().any(|(name, _)| *name == path),
        }
    }

    /// The first of `paths` that is there.
    pub fn first_of<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        paths.iter().copied().find(|path| self.has(path))
    }

    /// A whole file.
    pub fn read(&self, path: &str) -> Result<Cow<'static, [u8]>> {
        match &self.source {
            Source::Embedded(_) => Ok(Cow::Borrowed(self.embedded_bytes(path)?)),
            Source::Folder(folder) => {
                let full = folder.join(path);
                if !full.is_file() {
                    return Err(self.error(format!("there is no file {path} in it")));
                }
                std::fs::read(&full)
                    .map(Cow::Owned)
                    .map_err(Error::file(&full))
            }
        }
    }

    /// A JSON file.
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let bytes = self.read(path)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| self.error(format!("{path} is not what is expected there: {e}")))
    }

    /// A file to read parts of.
    pub fn open(&self, path: &str) -> Result<PartReader> {
        match &self.source {
            Source::Embedded(_) => {
                let bytes = self.embedded_bytes(path)?;
                Ok(PartReader {
                    path: PathBuf::from(path),
                    len: bytes.len() as u64,
                    inner: Inner::Bytes(bytes),
                })
            }
            Source::Folder(folder) => {
                let full = folder.join(path);
                if !full.is_file() {
                    return Err(self.error(format!("there is no file {path} in it")));
                }
                let file = File::open(&full).map_err(Error::file(&full))?;
                let len = file.metadata().map_err(Error::file(&full))?.len();
                Ok(PartReader {
                    path: full,
                    len,
                    inner: Inner::File(file),
                })
            }
        }
    }

    /// SHA-256, in hex, over the names and contents of `paths`: every byte while they are at most
    /// 256 MiB together, else their sizes and evenly spread samples, so that it stays quick for
    /// models of many gigabytes and still tells a fine-tuned model from its parent.
    pub fn fingerprint(&self, paths: &[String]) -> Result<String> {
        let mut readers = paths
            .iter()
            .map(|path| Ok((path, self.open(path)?)))
            .collect::<Result<Vec<_>>>()?;
        let total: u64 = readers.iter().map(|(_, r)| r.len).sum();
        let mut hash = Sha256::new();
        hash.update(b"foreseed model 1");
        for (path, reader) in &mut readers {
            hash.update((path.len() as u64).to_le_bytes());
            hash.update(path.as_bytes());
            hash.update(reader.len.to_le_bytes());
            let sampled = total > WHOLE_FINGERPRINT_BYTES && reader.len > SAMPLES * SAMPLE_BYTES;
            if sampled {
                for i in 0..SAMPLES {
                    let start = (reader.len - SAMPLE_BYTES) / (SAMPLES - 1) * i;
                    hash.update(reader.part(start, SAMPLE_BYTES as usize)?);
                }
            } else {
                hash.update(reader.part(0, reader.len as usize)?);
            }
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    fn embedded_bytes(&self, path: &str) -> Result<&'static [u8]> {
        let Source::Embedded(files) = &self.source else {
            return Err(Error::Internal("a folder has no embedded bytes".into()));
        };
        files
            .iter()
            .find(|(name, _)| *name == path)
            .map(|(_, bytes)| *bytes)
            .ok_or_else(|| self.error(format!("there is no file {path} in it")))
    }
}

/// A file of which parts are read, so that a component's tensors never lie in memory twice.
#[derive(Debug)]
pub struct PartReader {
    path: PathBuf,
    len: u64,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    File(File),
    Bytes(&'static [u8]),
}

impl PartReader {
    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `count` bytes from `start`.
    pub fn part(&mut self, start: u64, count: usize) -> Result<Cow<'static, [u8]>> {
        match &mut self.inner {
            Inner::Bytes(bytes) => {
                let range = start as usize..start as usize + count;
                bytes
                    .get(range)
                    .map(Cow::Borrowed)
                    .ok_or_else(|| Error::Internal(format!("{} ends early", self.path.display())))
            }
            Inner::File(file) => {
                let mut buffer = vec![0; count];
                file.seek(SeekFrom::Start(start))
                    .and_then(|_| file.read_exact(&mut buffer))
                    .map_err(Error::file(&self.path))?;
                Ok(Cow::Owned(buffer))
            }
        }
    }
}
