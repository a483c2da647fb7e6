//! The probes that ship, and those that were trained here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use super::pocket;
use crate::probe::Probe;
use crate::{Error, Result};

/// Probes by their files, read again when a file changes.
pub(super) struct Probes {
    folder: Option<PathBuf>,
    read: Mutex<HashMap<PathBuf, (SystemTime, Arc<Probe>)>>,
}

impl Probes {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            read: Mutex::default(),
        }
    }

    /// All there are: those trained here first, since they know more. A file in the folder that is
    /// no probe is told to the log and left out, so that it does not take the others with it.
    pub(super) fn all(&self) -> Result<Vec<Arc<Probe>>> {
        let mut probes = Vec::new();
        for path in self.files()? {
            match self.open(&path) {
                Ok(probe) => probes.push(probe),
                Err(error) => tracing::warn!("{}: not used as a probe: {error}", path.display()),
            }
        }
        probes.extend(shipped()?);
        Ok(probes)
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let Some(folder) = self.folder.as_deref().filter(|f| f.is_dir()) else {
            return Ok(Vec::new());
        };
        let entries = std::fs::read_dir(folder).map_err(Error::file(folder))?;
        let mut files: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        files.sort();
        Ok(files)
    }

    fn open(&self, path: &Path) -> Result<Arc<Probe>> {
        let metadata = std::fs::metadata(path).map_err(Error::file(path))?;
        let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, probe)) = read.get(path)
            && *then == changed
        {
            return Ok(Arc::clone(probe));
        }
        let bytes = std::fs::read(path).map_err(Error::file(path))?;
        let probe = Arc::new(Probe::from_bytes(&bytes)?);
        read.insert(path.to_path_buf(), (changed, Arc::clone(&probe)));
        Ok(probe)
    }
}

fn shipped() -> Result<Vec<Arc<Probe>>> {
    static SHIPPED: OnceLock<Vec<Arc<Probe>>> = OnceLock::new();
    if let Some(probes) = SHIPPED.get() {
        return Ok(probes.clone());
    }
    let probes = pocket::PROBES
        .iter()
        .map(|(_, bytes)| Ok(Arc::new(Probe::from_bytes(bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(SHIPPED.get_or_init(|| probes).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_probe_does_not_take_the_others_with_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("broken.safetensors"), "no probe").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no probe either").unwrap();
        let probes = Probes::new(Some(folder.path().into()));
        assert_eq!(probes.all().unwrap().len(), pocket::PROBES.len());
    }

    #[test]
    fn a_folder_that_is_not_there_holds_no_probes() {
        let probes = Probes::new(Some("/nowhere/at/all".into()));
        assert_eq!(probes.all().unwrap().len(), pocket::PROBES.len());
    }
}
