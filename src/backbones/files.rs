//! A model's files: a folder in diffusers' layout, the same files inside the binary, or a single-file
//! checkpoint with what folders beside it say.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::audit::Audit;
use super::checkpoint;
use super::gguf;
use super::lora::{Adapter, Lora};
use crate::{Error, Result};

/// Files compiled into the binary: path inside the folder, with `/`, and content.
pub type Embedded = &'static [(&'static str, &'static [u8])];

/// Where a model's files are read from. Paths are relative to the model's folder.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    name: String,
    /// Looked through in this order.
    sources: Vec<Source>,
    loras: Vec<Arc<Lora>>,
    audit: Option<Audit>,
}

#[derive(Clone, Debug)]
enum Source {
    Folder(PathBuf),
    Embedded(Embedded),
    /// One file, that stands at this path whatever its own.
    At(&'static str, PathBuf),
}

/// A file that is there.
enum Found {
    OnDisk(PathBuf),
    Bytes(&'static [u8]),
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
        Self::of(path.display().to_string(), vec![Source::Folder(path)])
    }

    /// The files compiled into the binary.
    pub fn embedded(files: Embedded) -> Self {
        Self::of("embedded".into(), vec![Source::Embedded(files)])
    }

    /// A single-file checkpoint of SDXL in its original key layout. Its configurations and tokenizers
    /// are those of the first of `folders`, in diffusers' layout, that has them, else the
    /// configurations are SDXL base 1.0's.
    pub fn checkpoint(file: impl Into<PathBuf>, folders: &[PathBuf]) -> Self {
        let file = file.into();
        let name = file.display().to_string();
        let folders = folders.iter().cloned().map(Source::Folder);
        let mut sources = vec![Source::At(checkpoint::PATH, file)];
        sources.extend(folders);
        sources.push(Source::Embedded(checkpoint::SDXL_BASE));
        Self::of(name, sources)
    }

    fn of(name: String, sources: Vec<Source>) -> Self {
        Self {
            name,
            sources,
            loras: Vec::new(),
            audit: None,
        }
    }

    /// The same files with these LoRAs, which are merged into the weights when they are loaded, and
    /// change the fingerprint.
    pub fn adapted(mut self, adapters: &[Adapter]) -> Result<Self> {
        for Adapter { file, weight } in adapters {
            if !file.is_file() {
                return Err(Error::invalid(
                    "lora",
                    format!("there is no file {}", file.display()),
                    "Name a safetensors file, with its weight: FILE or FILE=0.8",
                ));
            }
            let name = file.display().to_string();
            let lora = Lora::open(&name, PartReader::file(file)?, *weight)?;
            self.loras.push(Arc::new(lora));
        }
        Ok(self)
    }

    /// [`ModelFiles::adapted`] with a LoRA that is among the files.
    pub(super) fn adapted_by_own(mut self, path: &str, weight: f64) -> Result<Self> {
        self.check_inside(path)?;
        let name = format!("{}/{path}", self.name);
        let lora = Lora::open(&name, self.open(path)?, weight)?;
        self.loras.push(Arc::new(lora));
        Ok(self)
    }

    /// The same files with a GGUF file of the denoiser's weights instead of their own.
    pub fn with_denoiser(mut self, file: &Path) -> Result<Self> {
        if !file.is_file() {
            return Err(Error::invalid(
                "denoiser",
                format!("there is no file {}", file.display()),
                "Name a GGUF file of the model's transformer",
            ));
        }
        self.sources.push(Source::At(gguf::PATH, file.to_owned()));
        Ok(self)
    }

    /// [`ModelFiles::with_denoiser`] of a file that is among these.
    pub(super) fn with_own_denoiser(self, path: &str) -> Result<Self> {
        self.check_inside(path)?;
        match self.found(path)? {
            Found::OnDisk(file) => self.with_denoiser(&file),
            Found::Bytes(_) => Err(self.error("an embedded model has no file of its denoiser")),
        }
    }

    /// Refuses a path of `foreseed.json` that leads out of the model's folder.
    fn check_inside(&self, path: &str) -> Result<()> {
        let outside = path.starts_with(['/', '\\']) || path.split(['/', '\\']).any(|p| p == "..");
        match outside {
            true => Err(self.error(format!(
                "foreseed.json names the file {path}, which lies outside of its folder"
            ))),
            false => Ok(()),
        }
    }

    pub(super) fn loras(&self) -> &[Arc<Lora>] {
        &self.loras
    }

    /// The same files, of whose tensors only names and shapes are taken.
    pub(super) fn audited(mut self, audit: Audit) -> Self {
        self.audit = Some(audit);
        self
    }

    pub(super) fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
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
        self.find(path).is_some()
    }

    fn find(&self, path: &str) -> Option<Found> {
        self.sources.iter().find_map(|source| match source {
            Source::Folder(folder) => Some(folder.join(path))
                .filter(|full| full.is_file())
                .map(Found::OnDisk),
            Source::Embedded(files) => files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, bytes)| Found::Bytes(bytes)),
            Source::At(at, file) => Some(file.clone())
                .filter(|file| path == *at && file.is_file())
                .map(Found::OnDisk),
        })
    }

    fn found(&self, path: &str) -> Result<Found> {
        let found = self.find(path);
        found.ok_or_else(|| self.error(format!("there is no file {path} in it")))
    }

    /// The first of `paths` that is there.
    pub fn first_of<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        paths.iter().copied().find(|path| self.has(path))
    }

    /// A whole file.
    pub fn read(&self, path: &str) -> Result<Cow<'static, [u8]>> {
        match self.found(path)? {
            Found::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Found::OnDisk(full) => std::fs::read(&full)
                .map(Cow::Owned)
                .map_err(Error::file(&full)),
        }
    }

    /// A JSON file, as Python's libraries write it: with numbers that are none, such as the `-Infinity`
    /// of a DPMSolverMultistepScheduler, which are read as null.
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let bytes = self.read(path)?;
        serde_json::from_slice(&bytes)
            .or_else(|first| serde_json::from_slice(&finite(&bytes)).map_err(|_| first))
            .map_err(|e| self.error(format!("{path} is not what is expected there: {e}")))
    }

    /// A file to read parts of.
    pub fn open(&self, path: &str) -> Result<PartReader> {
        match self.found(path)? {
            Found::OnDisk(full) => PartReader::file(&full),
            Found::Bytes(bytes) => Ok(PartReader {
                path: PathBuf::from(path),
                len: bytes.len() as u64,
                inner: Inner::Bytes(bytes),
            }),
        }
    }

    /// SHA-256, in hex, over the names and contents of `paths`: every byte while they are at most
    /// 256 MiB together, else their sizes and evenly spread samples, so that it stays quick for
    /// models of many gigabytes and still tells a fine-tuned model from its parent.
    /// LoRAs count with their weights.
    pub fn fingerprint(&self, paths: &[String]) -> Result<String> {
        let mut readers = Vec::new();
        for (i, path) in paths.iter().enumerate() {
            // A single-file checkpoint is several components' file.
            if !paths[..i].contains(path) {
                readers.push((path, self.open(path)?));
            }
        }
        let total: u64 = readers.iter().map(|(_, r)| r.len).sum();
        let mut hash = Sha256::new();
        hash.update(b"foreseed model 1");
        for (path, reader) in &mut readers {
            hash.update((path.len() as u64).to_le_bytes());
            hash.update(path.as_bytes());
            reader.hash_into(&mut hash, total > WHOLE_FINGERPRINT_BYTES)?;
        }
        for lora in &self.loras {
            let (fingerprint, weight) = lora.fingerprint();
            hash.update(b"lora");
            hash.update(fingerprint);
            hash.update(weight.to_le_bytes());
        }
        Ok(hexadecimal(hash))
    }
}

/// JSON with null for what Python writes for numbers that are none, outside of strings.
fn finite(json: &[u8]) -> Vec<u8> {
    const NONE: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut out = Vec::with_capacity(json.len());
    let (mut at, mut quoted) = (0, false);
    while at < json.len() {
        let rest = &json[at..];
        let none = NONE.iter().find(|none| !quoted && rest.starts_with(none));
        let (written, taken): (&[u8], _) = match none {
            Some(none) => (b"null", none.len()),
            None if quoted && rest[0] == b'\\' => (&rest[..2.min(rest.len())], 2),
            None => (&rest[..1], 1),
        };
        quoted ^= none.is_none() && rest[0] == b'"';
        out.extend_from_slice(written);
        at += taken;
    }
    out
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
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
    /// A file on disk.
    pub fn file(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::file(path))?;
        let len = file.metadata().map_err(Error::file(path))?.len();
        Ok(Self {
            path: path.to_owned(),
            len,
            inner: Inner::File(file),
        })
    }

    /// SHA-256, in hex: over every byte of a file of at most 256 MiB, else over its size and evenly
    /// spread samples.
    pub fn fingerprint(&mut self) -> Result<String> {
        let mut hash = Sha256::new();
        let samples = self.len > WHOLE_FINGERPRINT_BYTES;
        self.hash_into(&mut hash, samples)?;
        Ok(hexadecimal(hash))
    }

    fn hash_into(&mut self, hash: &mut Sha256, samples: bool) -> Result<()> {
        hash.update(self.len.to_le_bytes());
        if samples && self.len > SAMPLES * SAMPLE_BYTES {
            for i in 0..SAMPLES {
                let start = (self.len - SAMPLE_BYTES) / (SAMPLES - 1) * i;
                hash.update(self.part(start, SAMPLE_BYTES as usize)?);
            }
        } else {
            hash.update(self.part(0, self.len as usize)?);
        }
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_are_null_outside_of_strings() {
        let python = br#"{"a": -Infinity, "b\" NaN": [NaN, "Infinity\\"], "c": Infinity}"#;
        let read: serde_json::Value = serde_json::from_slice(&finite(python)).unwrap();
        let expected = serde_json::json!({"a": null, "b\" NaN": [null, "Infinity\\"], "c": null});
        assert_eq!(read, expected);
    }
}
