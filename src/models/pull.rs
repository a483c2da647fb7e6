//! Fetching a model from the hub into its cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hf_hub::progress::{DownloadEvent, Progress, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClient, HFClientSync, HFError, split_id};

use super::large::{Failure, LargeFile, PART};
use super::scorers::Part;
use super::{Known, KnownScorer, hub};
use crate::{Error, Result};

/// How far a pull has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulled {
    /// The file that is fetched now.
    pub file: String,
    pub done_bytes: u64,
    pub of_bytes: u64,
}

/// Fetches the files that a known model or scorer needs, and no others, into the hub's cache; what
/// is there is not fetched again. Returns the folder, the first one of a scorer in several.
pub fn pull(name: &str, report: Arc<dyn Fn(Pulled) + Send + Sync>) -> Result<PathBuf> {
    let known = Known::named(name).filter(|known| known.supported);
    let wanted = match (known, KnownScorer::named(name)) {
        (Some(known), _) => vec![Wanted::model(known)],
        (None, Some(scorer)) => Wanted::scorer(scorer),
        (None, None) => Vec::new(),
    };
    let first = wanted.first().ok_or_else(|| {
        let models = super::KNOWN.iter().filter(|k| k.supported).map(|k| k.name);
        let scorers = super::KNOWN_SCORERS.iter().map(|known| known.metric);
        let names: Vec<_> = models.chain(scorers).collect();
        let problem = match Known::named(name) {
            Some(_) => format!("{name} is not supported by this version yet"),
            None if name == super::POCKET => format!("{name} is part of the program"),
            None => format!("no model {:?} is known", super::shortened(name)),
        };
        Error::invalid(
            "model",
            problem,
            format!("Pull one of: {}", names.join(", ")),
        )
    })?;
    if is_offline(std::env::var("HF_HUB_OFFLINE").ok().as_deref()) {
        return Err(Error::model(
            name,
            format!(
                "HF_HUB_OFFLINE is set, so nothing is fetched; unset it and try again, or copy {} into \
                 the hub's cache from another machine: what lies there is used without asking the hub",
                first.repo
            ),
        ));
    }
    let mut folders = Vec::new();
    for part in &wanted {
        let client = HFClient::new().map_err(|error| explain(first, &error, None))?;
        folders.push(fetch(part, client, Arc::clone(&report))?);
    }
    Ok(folders.swap_remove(0))
}

/// What is wanted of one repository.
struct Wanted {
    /// What errors call it.
    name: &'static str,
    repo: &'static str,
    revision: &'static str,
    licence: &'static str,
    /// Nothing can be done without these.
    must: Vec<&'static str>,
    keep: Keep,
}

/// Which of the files there are that are read.
enum Keep {
    /// What a pipeline in diffusers' layout is loaded from.
    Pipeline,
    /// Those that a scorer's part names.
    Named(&'static Part),
}

impl Keep {
    /// Of files with their sizes, those that are read, the small ones first.
    fn of(&self, files: Vec<(String, u64)>) -> Vec<(String, u64)> {
        let part = match self {
            Self::Pipeline => return needed(files),
            Self::Named(part) => part,
        };
        let named = |path: &str| part.needed.contains(&path) || part.read.contains(&path);
        let mut kept: Vec<_> = files.into_iter().filter(|(path, _)| named(path)).collect();
        kept.sort_by_key(|(_, size)| *size);
        kept
    }
}

impl Wanted {
    fn model(known: &'static Known) -> Self {
        Self {
            name: known.name,
            repo: known.repo,
            revision: "main",
            licence: known.licence,
            must: vec!["model_index.json"],
            keep: Keep::Pipeline,
        }
    }

    fn scorer(known: &'static KnownScorer) -> Vec<Self> {
        let one = |part: &'static Part| Self {
            name: known.metric,
            repo: part.repo,
            revision: part.revision,
            licence: known.licence,
            must: part.needed.to_vec(),
            keep: Keep::Named(part),
        };
        known.parts.iter().map(one).collect()
    }
}

fn fetch(
    known: &Wanted,
    client: HFClient,
    report: Arc<dyn Fn(Pulled) + Send + Sync>,
) -> Result<PathBuf> {
    let endpoint = client.endpoint().to_owned();
    let cache = client.cache_dir().to_path_buf();
    let explain = |error: HFError| explain(known, &error, Some(&endpoint));
    let client = HFClientSync::from_inner(client).map_err(explain)?;
    let (owner, name) = split_id(known.repo);
    let repo = client.model(owner, name);
    let tree = repo
        .list_tree()
        .revision(known.revision)
        .recursive(true)
        .send()
        .map_err(explain)?;
    let there = tree.into_iter().filter_map(|entry| match entry {
        RepoTreeEntry::File { path, size, .. } => Some((path, size)),
        RepoTreeEntry::Directory { .. } => None,
    });
    let files = known.keep.of(there.collect());
    let missing = |must: &&&str| !files.iter().any(|(path, _)| path == *must);
    if let Some(missing) = known.must.iter().find(missing) {
        return Err(Error::model(
            known.name,
            format!(
                "{} is in no layout known here: it has no {missing}",
                known.repo
            ),
        ));
    }
    let of_bytes: u64 = files.iter().map(|(_, size)| size).sum();
    let blobs = hub::repo_folder(known.repo, &cache).join("blobs");
    let mut here = 0;
    let mut etags = Vec::with_capacity(files.len());
    for (path, size) in &files {
        let etag = match *size > PART {
            true => {
                let ask = repo.get_file_metadata().filepath(path.as_str());
                Some(ask.revision(known.revision).send().map_err(explain)?.etag)
            }
            false => None,
        };
        if let Some(etag) = &etag {
            here += large(path, *size, etag, &blobs).here();
        }
        etags.push(etag);
    }
    check_space(known, &cache, of_bytes - here.min(of_bytes))?;

    let mut done_bytes = 0;
    let mut index = None;
    for ((path, size), etag) in files.iter().zip(&etags) {
        let progress = FileProgress {
            start: Pulled {
                file: path.clone(),
                done_bytes,
                of_bytes,
            },
            report: Arc::clone(&report),
        };
        (report)(progress.start.clone());
        if let Some(etag) = etag {
            let ask = |range| {
                let part = repo.download_file_to_bytes().filename(path.as_str());
                let bytes = part.revision(known.revision).range(range).send()?;
                Ok(bytes.to_vec())
            };
            let told = |bytes| {
                let mut pulled = progress.start.clone();
                pulled.done_bytes += bytes;
                (report)(pulled);
            };
            let fetched = large(path, *size, etag, &blobs).fetch(ask, told);
            fetched.map_err(|failure| match failure {
                Failure::Hub(error) => explain(error),
                Failure::Here(error) => error,
                Failure::Corrupt(what) => Error::model(
                    known.name,
                    format!(
                        "{what}; pull it again: what was whole is kept. Where that happens twice, look \
                         at the disk, and at a proxy or HF_ENDPOINT in between"
                    ),
                ),
            })?;
        }
        // What is here by now is only linked to.
        let file = repo
            .download_file()
            .filename(path.as_str())
            .revision(known.revision)
            .progress(Progress::new(progress))
            .send()
            .map_err(explain)?;
        done_bytes += size;
        if known.must.contains(&path.as_str()) {
            index = Some(file);
        }
    }
    (report)(Pulled {
        file: String::new(),
        done_bytes,
        of_bytes,
    });
    index
        .as_deref()
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .ok_or_else(|| Error::Internal("a pulled model without a folder".into()))
}

fn large<'a>(path: &'a str, size: u64, etag: &'a str, blobs: &Path) -> LargeFile<'a> {
    LargeFile {
        path,
        size,
        etag,
        blobs: blobs.to_path_buf(),
    }
}

/// Of a repository's files those that a loader reads: the index, every part's configuration and
/// tokenizer, and one set of its weights, in half precision where there is one.
fn needed(files: Vec<(String, u64)>) -> Vec<(String, u64)> {
    let part_of = |path: &str| path.split_once('/').map(|(part, _)| part.to_owned());
    // Shards are called `model.fp16-00001-of-00002.safetensors`, or by older libraries the other way
    // round.
    let is_half = |path: &str| path.contains(".fp16.") || path.contains(".fp16-");
    let is_weights = |path: &str| path.contains(".safetensors");
    let halved: Vec<_> = files
        .iter()
        .filter(|(path, _)| is_weights(path) && is_half(path))
        .filter_map(|(path, _)| part_of(path))
        .collect();
    let mut kept: Vec<_> = files
        .into_iter()
        .filter(|(path, _)| {
            let Some((part, file)) = path.split_once('/') else {
                return path == "model_index.json";
            };
            // Other programs' formats lie beside the weights: ONNX, OpenVINO, Flax.
            let plain = !file.contains('/') && !part.contains("vae_");
            let text =
                file.ends_with(".json") || file.ends_with(".txt") || file.ends_with(".model");
            let other = file.contains("openvino") || file.contains("onnx") || file.contains("flax");
            let weights = is_weights(file);
            let variant = is_half(file) == halved.iter().any(|p| p == part);
            plain && !other && if weights { variant } else { text }
        })
        .collect();
    // The small ones first: what is wrong shows early.
    kept.sort_by_key(|(_, size)| *size);
    kept
}

struct FileProgress {
    start: Pulled,
    report: Arc<dyn Fn(Pulled) + Send + Sync>,
}

impl ProgressHandler for FileProgress {
    fn on_progress(&self, event: &ProgressEvent) {
        let bytes = match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                files.iter().map(|file| file.bytes_completed).sum()
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress {
                bytes_completed, ..
            }) => *bytes_completed,
            _ => return,
        };
        let mut pulled = self.start.clone();
        pulled.done_bytes = (pulled.done_bytes + bytes).min(pulled.of_bytes);
        (self.report)(pulled);
    }
}

fn is_offline(value: Option<&str>) -> bool {
    let value = value.unwrap_or_default().to_ascii_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
}

#[cfg(unix)]
fn check_space(known: &Wanted, cache: &Path, needs: u64) -> Result<()> {
    let folder = cache.ancestors().find(|folder| folder.is_dir());
    let Some(free) = folder.and_then(|folder| rustix::fs::statvfs(folder).ok()) else {
        return Ok(());
    };
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    if free >= needs {
        return Ok(());
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    Err(Error::model(
        known.name,
        format!(
            "{:.1} GB are still to be fetched and {} has {:.1} GB free; free some space or set \
             HF_HOME to a larger disk",
            gb(needs),
            cache.display(),
            gb(free)
        ),
    ))
}

#[cfg(not(unix))]
fn check_space(_: &Wanted, _: &Path, _: u64) -> Result<()> {
    Ok(())
}

/// What a person can do about a failed pull.
fn explain(known: &Wanted, error: &HFError, endpoint: Option<&str>) -> Error {
    let repo = known.repo;
    let endpoint = endpoint.unwrap_or("the hub");
    let locked = match error {
        HFError::AuthRequired { .. } | HFError::Forbidden { .. } => true,
        HFError::Http { context } => matches!(context.status.as_u16(), 401 | 403),
        _ => false,
    };
    let advice = match error {
        _ if locked => format!(
            "{repo} is only given to those who accepted its licence ({}): accept it at \
             {endpoint}/{repo}, make a token at {endpoint}/settings/tokens and set HF_TOKEN to it",
            known.licence
        ),
        HFError::RepoNotFound { .. } => format!(
            "{endpoint} has no {repo}, or does not show it without a token; check HF_ENDPOINT and \
             HF_TOKEN"
        ),
        HFError::RateLimited { .. } => "wait some minutes, or set HF_TOKEN".into(),
        HFError::Request { .. } => {
            format!(
                "{endpoint} cannot be reached, or the connection broke; what was fetched so far is kept: \
                 try again, and check the network and the proxy variables"
            )
        }
        HFError::Io(_) => "check the space and the permissions of HF_HOME".into(),
        _ => "try again: what was fetched so far is kept".into(),
    };
    Error::model(
        known.name,
        format!("it could not be fetched: {error}; {advice}"),
    )
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
