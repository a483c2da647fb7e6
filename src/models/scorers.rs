//! The scorers: where their files are published, whether they are here, and loading each of them
//! once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::{folder, hub};
use crate::device;
use crate::scorers::{self, METRICS, Metric, Scorer};
use crate::{Error, Result};

/// A scorer whose files are on the hub.
pub struct KnownScorer {
    pub metric: &'static str,
    pub parts: &'static [Part],
    /// Of the weights; "none stated" where their page names none.
    pub licence: &'static str,
    /// Weights that are loaded.
    pub parameters: u64,
}

/// What a scorer needs of one repository.
pub struct Part {
    pub repo: &'static str,
    pub revision: &'static str,
    /// It cannot do without these.
    pub needed: &'static [&'static str],
    /// It reads these where they are there.
    pub read: &'static [&'static str],
}

const MAIN: &str = "main";

/// CLIP in transformers' layout.
const CLIP: [&str; 3] = [
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
];
/// CLIP's vocabulary, in both forms that it is kept in.
const WORDS: [&str; 2] = ["vocab.json", "merges.txt"];
const WORDS_BESIDE: [&str; 3] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];
const CLIP_AND_WORDS: [&str; 5] = [CLIP[0], CLIP[1], CLIP[2], WORDS[0], WORDS[1]];

const CLIP_L14: &str = "openai/clip-vit-large-patch14";

pub static KNOWN_SCORERS: [KnownScorer; 6] = [
    KnownScorer {
        metric: "pickscore",
        parts: &[Part {
            repo: "yuvalkirstain/PickScore_v1",
            revision: MAIN,
            needed: &CLIP_AND_WORDS,
            read: &WORDS_BESIDE,
        }],
        licence: "none stated",
        parameters: 986_000_000,
    },
    KnownScorer {
        metric: "hpsv2.1",
        parts: &[
            Part {
                repo: "RE-N-Y/hpsv21",
                revision: MAIN,
                needed: &["model.safetensors"],
                read: &[],
            },
            // OpenCLIP has the same vocabulary in its code.
            Part {
                repo: CLIP_L14,
                revision: MAIN,
                needed: &WORDS,
                read: &WORDS_BESIDE,
            },
        ],
        licence: "Apache-2.0",
        parameters: 986_000_000,
    },
    KnownScorer {
        metric: "imagereward",
        parts: &[
            Part {
                repo: "RE-N-Y/ImageReward",
                revision: MAIN,
                needed: &["model.safetensors"],
                read: &[],
            },
            Part {
                repo: "google-bert/bert-base-uncased",
                revision: MAIN,
                needed: &["vocab.txt"],
                read: &[],
            },
        ],
        licence: "Apache-2.0",
        parameters: 448_000_000,
    },
    KnownScorer {
        metric: "clipscore",
        parts: &[Part {
            repo: CLIP_L14,
            revision: MAIN,
            needed: &CLIP_AND_WORDS,
            read: &WORDS_BESIDE,
        }],
        licence: "MIT",
        parameters: 428_000_000,
    },
    KnownScorer {
        metric: "clipscore-b32",
        // On `main` there are pickles only; the hub's own converter put safetensors here.
        parts: &[Part {
            repo: "openai/clip-vit-base-patch32",
            revision: "refs/pr/15",
            needed: &CLIP_AND_WORDS,
            read: &WORDS_BESIDE,
        }],
        licence: "MIT",
        parameters: 151_000_000,
    },
    KnownScorer {
        metric: "aesthetic",
        parts: &[
            Part {
                repo: CLIP_L14,
                revision: MAIN,
                needed: &CLIP,
                read: &[],
            },
            // The head is published in no other form: it is read and never run.
            Part {
                repo: "camenduru/improved-aesthetic-predictor",
                revision: MAIN,
                needed: &["sac+logos+ava1-l14-linearMSE.pth"],
                read: &[],
            },
        ],
        licence: "Apache-2.0",
        parameters: 305_000_000,
    },
];

impl KnownScorer {
    pub fn named(metric: &str) -> Option<&'static Self> {
        KNOWN_SCORERS.iter().find(|known| known.metric == metric)
    }

    /// The folders of its parts in the hub's cache, where all of them are there.
    fn installed(&self, cache: &Path) -> Option<Vec<PathBuf>> {
        let part = |part: &Part| {
            let whole =
                |folder: &PathBuf| part.needed.iter().all(|file| folder.join(file).is_file());
            hub::snapshots(part.repo, cache).into_iter().find(whole)
        };
        self.parts.iter().map(part).collect()
    }

    fn repos(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.repo.to_owned()).collect()
    }
}

/// What is known of a scorer before it is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScorerCard {
    pub metric: String,
    /// What it says, in a sentence.
    pub about: String,
    /// At or above this value a picture is good, unless a training says otherwise.
    pub good: f64,
    pub installed: bool,
    /// Where its files are published.
    pub repos: Vec<String>,
    pub licence: Option<String>,
    /// Bytes of memory that its weights need.
    pub needs_bytes: u64,
    pub fits: bool,
}

/// The scorers of this process: each is loaded when it is first asked for, and kept.
#[derive(Default)]
pub(super) struct Shelf {
    /// Folders that were named at start, by metric.
    given: BTreeMap<String, PathBuf>,
    loaded: Mutex<BTreeMap<String, Arc<dyn Scorer>>>,
}

impl Shelf {
    /// An error where a folder is given for what is no metric, or is no folder.
    pub fn new(given: BTreeMap<String, PathBuf>) -> Result<Self> {
        for (metric, folder) in &given {
            if KnownScorer::named(metric).is_none() {
                return Err(scorers::unknown(metric));
            }
            if !folder.is_dir() {
                return Err(Error::invalid(
                    "scorer",
                    format!("{} is no folder", folder.display()),
                    "Name the folder with the scorer's published files: --scorer METRIC=DIR",
                ));
            }
        }
        Ok(Self {
            given,
            loaded: Mutex::default(),
        })
    }

    /// Every scorer, the weightless one first.
    pub fn cards(&self, cache: &Path, device: &Device) -> Vec<ScorerCard> {
        let free = device::memory(device).map(|memory| memory.free);
        let card = |metric: &&'static Metric| {
            let known = KnownScorer::named(metric.name);
            let needs_bytes = self.needs(metric.name);
            ScorerCard {
                metric: metric.name.to_owned(),
                about: metric.about.to_owned(),
                good: metric.good,
                installed: self.folders(metric.name, cache).is_some(),
                repos: known.map(KnownScorer::repos).unwrap_or_default(),
                licence: known.map(|known| known.licence.to_owned()),
                needs_bytes,
                fits: self.is_loaded(metric.name) || free.is_none_or(|free| needs_bytes <= free),
            }
        };
        METRICS.iter().map(card).collect()
    }

    /// The scorer of `metric`: seconds where its weights are not loaded yet. The error says which
    /// files to fetch, or lists the metrics.
    pub fn get(&self, metric: &str, cache: &Path, device: &Device) -> Result<Arc<dyn Scorer>> {
        if scorers::metric(metric).is_none() {
            return Err(scorers::unknown(metric));
        }
        // Held while it loads, so that nobody loads gigabytes twice.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scorer) = loaded.get(metric) {
            return Ok(Arc::clone(scorer));
        }
        let folders = self.folders(metric, cache).ok_or_else(|| {
            let repos = KnownScorer::named(metric).map(KnownScorer::repos);
            Error::invalid(
                "metric",
                format!("the scorer of {metric} is not installed"),
                format!(
                    "Fetch {} with `foreseed models pull {metric}`, or name a folder with its files: \
                     --scorer {metric}=DIR",
                    repos.unwrap_or_default().join(" and ")
                ),
            )
        })?;
        device::check_room(
            device,
            &format!("the scorer of {metric}"),
            self.needs(metric),
        )?;
        let scorer = scorers::load(metric, folders, device)?;
        loaded.insert(metric.to_owned(), Arc::clone(&scorer));
        Ok(scorer)
    }

    /// Bytes of its weights in f32.
    fn needs(&self, metric: &str) -> u64 {
        match (self.given.get(metric), KnownScorer::named(metric)) {
            (Some(folder), _) => 4 * weights(folder),
            (None, Some(known)) => 4 * known.parameters,
            (None, None) => 0,
        }
    }

    /// Where a scorer's files are; nothing to look for is nowhere to look, and there.
    fn folders(&self, metric: &str, cache: &Path) -> Option<Vec<PathBuf>> {
        match (self.given.get(metric), KnownScorer::named(metric)) {
            (Some(folder), _) => Some(vec![folder.clone()]),
            (None, Some(known)) => known.installed(cache),
            (None, None) => Some(Vec::new()),
        }
    }

    fn is_loaded(&self, metric: &str) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.contains_key(metric)
    }
}

/// Numbers in the safetensors of a folder, by their headers.
fn weights(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.filter_map(|path| folder::count(&path).ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goldens() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/scorers")
    }

    #[test]
    fn every_metric_but_the_weightless_one_can_be_pulled() {
        for metric in METRICS {
            let known = KnownScorer::named(metric.name);
            assert_eq!(known.is_none(), metric.name == "composition");
        }
    }

    #[test]
    fn a_scorer_that_is_not_here_says_what_to_pull() {
        let cache = tempfile::tempdir().unwrap();
        let shelf = Shelf::default();
        for known in &KNOWN_SCORERS {
            let error = shelf
                .get(known.metric, cache.path(), &Device::Cpu)
                .err()
                .unwrap();
            let text = error.to_string();
            let pull = format!("foreseed models pull {}", known.metric);
            assert!(text.contains(&pull), "{text}");
            assert!(text.contains(known.parts[0].repo), "{text}");
        }
        assert!(shelf.get("composition", cache.path(), &Device::Cpu).is_ok());
        let error = shelf
            .get("beauty", cache.path(), &Device::Cpu)
            .err()
            .unwrap();
        assert!(error.to_string().contains("There are composition"));
        let cards = shelf.cards(cache.path(), &Device::Cpu);
        let here: Vec<_> = cards.iter().filter(|card| card.installed).collect();
        assert_eq!(here.len(), 1);
        assert!(here[0].fits && here[0].metric == "composition");
    }

    #[test]
    fn a_scorer_is_found_in_the_hubs_cache_and_in_a_folder_and_loaded_once() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = |repo: &str| {
            let home = hub::repo_folder(repo, cache.path());
            let folder = home.join("snapshots/c0ffee");
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        let copy = |from: &str, to: &Path, names: &[&str]| {
            for name in names {
                std::fs::copy(goldens().join(from).join(name), to.join(name)).unwrap();
            }
        };
        copy(
            "hpsv2.1",
            &snapshot("RE-N-Y/hpsv21"),
            &["model.safetensors"],
        );
        let shelf = Shelf::default();
        // One part of two is not enough.
        assert!(shelf.get("hpsv2.1", cache.path(), &Device::Cpu).is_err());
        let words = snapshot(CLIP_L14);
        copy("clipscore", &words, &WORDS);
        copy("clipscore", &words, &WORDS_BESIDE[..2]);
        let scorer = shelf.get("hpsv2.1", cache.path(), &Device::Cpu).unwrap();
        assert!(Arc::ptr_eq(
            &scorer,
            &shelf.get("hpsv2.1", cache.path(), &Device::Cpu).unwrap()
        ));

        let given = [("pickscore".to_owned(), goldens().join("pickscore"))];
        let shelf = Shelf::new(given.into()).unwrap();
        assert_eq!(
            shelf
                .get("pickscore", cache.path(), &Device::Cpu)
                .unwrap()
                .metric(),
            "pickscore"
        );
        let wrong = [("beauty".to_owned(), goldens())];
        assert!(Shelf::new(wrong.into()).is_err());
    }
}
