//! Where a scorer's published files lie: one folder of the user's, or several of the hub's cache.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use crate::backbones::ModelFiles;
use crate::backbones::weights::Weights;
use crate::{Error, Result};

/// The names that transformers and the hub's mixin save weights under.
const WEIGHTS: [&str; 3] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "model.fp16.safetensors",
];

/// A scorer's folders, looked through in order.
#[derive(Clone, Debug)]
pub struct ScorerFiles {
    metric: String,
    folders: Vec<PathBuf>,
}

/// One of the folders, as the readers of models' files take it.
pub struct Part {
    pub files: ModelFiles,
    /// The folder's own name, under which its files stand in `files`.
    pub name: String,
}

impl ScorerFiles {
    pub fn new(metric: &str, folders: Vec<PathBuf>) -> Self {
        Self {
            metric: metric.into(),
            folders,
        }
    }

    /// The first folder that holds any of these files.
    pub fn part(&self, any_of: &[&str]) -> Result<Part> {
        let path = self.find(any_of)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        // Absolute, so that even "." has a name; its files may be links into the hub's store.
        let folder = folder.canonicalize().map_err(Error::file(folder))?;
        match (folder.parent(), folder.file_name()) {
            (Some(above), Some(name)) => Ok(Part {
                files: ModelFiles::folder(above).named(&self.metric),
                name: name.to_string_lossy().into_owned(),
            }),
            _ => Err(self.error(format!("{} is no folder for it", folder.display()))),
        }
    }

    /// The first of these files that is in any of the folders.
    pub fn find(&self, any_of: &[&str]) -> Result<PathBuf> {
        let paths = self
            .folders
            .iter()
            .flat_map(|folder| any_of.iter().map(|name| folder.join(name)));
        let mut paths = paths;
        paths.find(|path| path.is_file()).ok_or_else(|| {
            let folders = self.folders.iter().map(|f| f.display().to_string());
            self.error(format!(
                "there is no {} in {}",
                any_of.join(" or "),
                folders.collect::<Vec<_>>().join(" or ")
            ))
        })
    }

    /// The first file whose name ends in `.extension`, in the order of the names.
    pub fn find_ending(&self, extension: &str) -> Option<PathBuf> {
        let in_folder = |folder: &PathBuf| {
            let entries = std::fs::read_dir(folder).ok()?.flatten();
            entries
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == extension))
                .min()
        };
        self.folders.iter().find_map(in_folder)
    }

    /// Opens the weights, which are read as f32.
    pub fn weights(&self, device: &Device) -> Result<(Part, Weights)> {
        let part = self.part(&WEIGHTS)?;
        let weights = Weights::open(&part.files, &part.name, device, DType::F32)?;
        Ok((part, weights))
    }

    /// An error about this scorer's files.
    pub fn error(&self, problem: String) -> Error {
        let metric = &self.metric;
        Error::model(
            metric.clone(),
            format!("{problem}; `foreseed models pull {metric}` fetches its files"),
        )
    }
}
