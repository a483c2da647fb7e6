//! Models in the hub's cache: `models--owner--name/snapshots/<commit>/`, shared with every program
//! that uses the hub's libraries.

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::{self, Survey};
use super::machine::Machine;
use super::{Known, ModelCard, Place, needed};
use crate::backbones::{self, ModelFiles, Needs};

/// The card of a known model, installed where a whole snapshot of it lies in `cache`; `machine` is
/// what it has to fit into.
pub(super) fn card(known: &Known, cache: &Path, machine: &Machine) -> ModelCard {
    let found = snapshot(known.repo, cache);
    let (needs, needs_bytes) = match &found {
        Some((folder, survey)) => {
            let placement = machine.placement(survey.parameters);
            let files = ModelFiles::folder(folder);
            let needs = backbones::needs(files, known.name, &placement).ok();
            let bytes = needed(needs.as_ref(), survey, placement.dtype);
            (needs, bytes)
        }
        None => {
            let needs = known.needs(&machine.placement(known.parameters())).ok();
            let bytes = needs.as_ref().map_or(0, Needs::least);
            (needs, bytes)
        }
    };
    ModelCard {
        name: known.name.to_owned(),
        family: known.family.to_owned(),
        installed: found.is_some(),
        place: match found {
            Some((folder, _)) => Place::Folder(folder),
            None => Place::Hub(known.repo.to_owned()),
        },
        licence: Some(known.licence.to_owned()),
        needs_bytes,
        fits: machine.fits(needs_bytes),
        needs,
        about: known.about.to_owned(),
    }
}

/// The snapshot that `main` points at or, failing that, the newest one; only a whole one counts.
fn snapshot(repo: &str, cache: &Path) -> Option<(PathBuf, Survey)> {
    snapshots(repo, cache).into_iter().find_map(|folder| {
        let survey = folder::survey(&folder, None).ok()?;
        Some((folder, survey))
    })
}

/// All snapshots of a repository, whole or not: the one that `main` points at, then from the newest
/// on.
pub(super) fn snapshots(repo: &str, cache: &Path) -> Vec<PathBuf> {
    let home = repo_folder(repo, cache);
    let main = fs::read_to_string(home.join("refs/main")).unwrap_or_default();
    let Ok(entries) = fs::read_dir(home.join("snapshots")) else {
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort_by_key(|folder| {
        let is_main = folder.file_name().is_some_and(|name| name == main.trim());
        let changed = fs::metadata(folder).and_then(|m| m.modified()).ok();
        std::cmp::Reverse((is_main, changed))
    });
    folders
}

/// The folder of a repository in the hub's cache.
pub(super) fn repo_folder(repo: &str, cache: &Path) -> PathBuf {
    cache.join(format!("models--{}", repo.replace('/', "--")))
}
