//! Candidates that were rendered and scored before, looked at once more to learn from them: they are
//! denoised as far as a probe looks, and no further.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::reading::Reader;
use super::run::{observe, words_wrong};
use super::shard::{Group, Manifest, Outcome};
use super::split::{Side, side_of};
use crate::backbones::{Backbone, TapRequest, Word};
use crate::candidate::{Seed, Settings};
use crate::scorers::Scorer;
use crate::{Error, Result, world};

/// A scored candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub prompt: String,
    pub seed: Seed,
    pub score: f64,
    /// Its picture, where the file is still there: a scorer reads off it which words went wrong.
    pub picture: Option<PathBuf>,
}

/// How many candidates each side of the split needs at least.
const LEAST: [(Side, usize, &str); 3] = [
    (Side::Train, 80, "to fit on"),
    (Side::Validation, 10, "to stop at the best"),
    (Side::Calibration, 10, "to calibrate on"),
];

/// What to look at, and how.
pub struct Revisit<'a> {
    pub backbone: &'a dyn Backbone,
    pub settings: &'a Settings,
    /// Says what is looked at: the steps, the blocks, who judges previews.
    pub manifest: &'a Manifest,
    /// Trajectories that are learned from besides, by side.
    pub besides: BTreeMap<Side, usize>,
    /// Gives the scorer of a metric.
    pub scorer: &'a dyn Fn(&str) -> Result<Arc<dyn Scorer>>,
}

/// How many groups each side of the split holds, of candidates of these scenes.
pub fn by_side<'a>(scenes: impl Iterator<Item = (&'a str, usize)>) -> BTreeMap<Side, usize> {
    let mut sides = BTreeMap::new();
    for (scene, candidates) in scenes {
        *sides.entry(side_of(scene)).or_default() += candidates;
    }
    sides
}

impl Revisit<'_> {
    /// Brings the shards in `folder` to what is known now: those of other candidates or scores go,
    /// those that are missing are made. `looked` is called once for each prompt.
    pub fn collect(&self, known: &[Known], folder: &Path, looked: &dyn Fn()) -> Result<()> {
        let prompts = by_prompt(known);
        self.manifest.claim(folder)?;
        let mut wanted = BTreeSet::new();
        for (prompt, candidates) in &prompts {
            let path = folder.join(format!("{}.safetensors", digest(candidates)));
            if !path.exists() {
                self.look(prompt, candidates, &path)?;
            }
            wanted.insert(path);
            looked();
        }
        for entry in std::fs::read_dir(folder).map_err(Error::file(folder))? {
            let path = entry.map_err(Error::file(folder))?.path();
            let is_shard = path.extension().is_some_and(|e| e == "safetensors");
            if is_shard && !wanted.contains(&path) {
                std::fs::remove_file(&path).map_err(Error::file(&path))?;
            }
        }
        Ok(())
    }

    /// An error where there is too little to learn from, which says how much is missing.
    pub fn is_enough(&self, known: &[Known]) -> Result<()> {
        let scenes: Vec<(String, usize)> = by_prompt(known)
            .iter()
            .map(|(prompt, candidates)| (scene_of(prompt), candidates.len()))
            .collect();
        let own = by_side(scenes.iter().map(|(scene, n)| (scene.as_str(), *n)));
        let count = |side| {
            let of = |sides: &BTreeMap<Side, usize>| sides.get(&side).copied().unwrap_or(0);
            of(&own) + of(&self.besides)
        };
        // A tenth of all scenes validates, and a tenth calibrates.
        let missing = LEAST.iter().map(|(side, least, _)| {
            let missing = least.saturating_sub(count(*side));
            match side {
                Side::Train => missing,
                _ => missing * 10,
            }
        });
        let Some(missing) = missing.max().filter(|missing| *missing > 0) else {
            return Ok(());
        };
        let held: Vec<String> = LEAST
            .iter()
            .map(|(side, least, what)| format!("{} of {least} {what}", count(*side)))
            .collect();
        let metric = &self.manifest.metric;
        let all: usize = own.values().sum();
        Err(Error::invalid(
            "--from-history",
            format!(
                "scored by {metric} under these settings: {all} in all, that is {}",
                held.join(", ")
            ),
            format!(
                "About {missing} more are missing, of other scenes: render and score them, or add \
                 collected trajectories with --from DIR"
            ),
        ))
    }

    fn look(&self, prompt: &str, candidates: &[&Known], path: &Path) -> Result<()> {
        let manifest = self.manifest;
        let words = self.backbone.words(prompt)?;
        let tap = TapRequest {
            blocks: manifest.tap.clone(),
            middle: manifest.middle,
        };
        let seeds: Vec<Seed> = candidates.iter().map(|c| c.seed).collect();
        let seen = observe(
            self.backbone,
            prompt,
            &seeds,
            self.settings,
            (&manifest.at_steps, &tap),
        )?;
        let judge = manifest.preview.as_deref().map(self.scorer).transpose()?;
        // What somebody's rating is silent about, which words went wrong, a scorer may know.
        let scorer = (self.scorer)(&manifest.metric).ok();
        let scorer = scorer.as_deref().or(judge.as_deref());
        let scorer = scorer.filter(|scorer| scorer.judges_words());
        let mut reader = Reader {
            backbone: self.backbone,
            prompt,
            words: &words,
            blocks: (&manifest.tap, manifest.early),
            middle: manifest.middle,
            decoding: manifest.previews,
            scorers: judge.as_deref().into_iter().collect(),
            text: None,
        };
        let mut outcomes = Vec::with_capacity(candidates.len());
        for (candidate, observations) in candidates.iter().zip(seen) {
            outcomes.push(Outcome {
                seed: candidate.seed.0,
                seen: reader
                    .read(&observations)?
                    .into_iter()
                    .map(|(s, _)| s)
                    .collect(),
                score: candidate.score,
                words_wrong: verdicts(candidate, &words, scorer)?,
                also: Vec::new(),
            });
        }
        let text = reader.into_text()?;
        Group::write(path, prompt, &scene_of(prompt), &text, &outcomes)
    }
}

fn by_prompt(known: &[Known]) -> BTreeMap<&str, Vec<&Known>> {
    let mut prompts: BTreeMap<&str, Vec<&Known>> = BTreeMap::new();
    for candidate in known {
        prompts
            .entry(&candidate.prompt)
            .or_default()
            .push(candidate);
    }
    prompts
}

/// For each word, whether its object came out wrong, where the picture and a scorer are there to say.
fn verdicts(
    candidate: &Known,
    words: &[Word],
    scorer: Option<&dyn Scorer>,
) -> Result<Vec<Option<bool>>> {
    // A picture that was moved away or written over has no say.
    let picture = candidate.picture.as_deref().and_then(|path| {
        let bytes = std::fs::read(path).ok()?;
        Some(image::load_from_memory(&bytes).ok()?.to_rgb8())
    });
    let (Some(scorer), Some(picture)) = (scorer, picture) else {
        return Ok(vec![None; words.len()]);
    };
    let score = scorer.score(&candidate.prompt, &picture)?;
    Ok(words_wrong(words, &score))
}

/// Equal for all wordings of one scene, as far as that can be told.
fn scene_of(prompt: &str) -> String {
    match world::parse(prompt) {
        Ok(reading) => reading.scene.content(),
        Err(_) => prompt.to_lowercase(),
    }
}

/// Names what a shard holds, so that a new score or another candidate is another shard.
fn digest(candidates: &[&Known]) -> String {
    let mut hash = Sha256::new();
    for candidate in candidates {
        hash.update(candidate.prompt.as_bytes());
        hash.update([0]);
        hash.update(candidate.seed.0.to_le_bytes());
        hash.update(candidate.score.to_bits().to_le_bytes());
        let there = candidate.picture.as_deref().is_some_and(Path::is_file);
        hash.update([u8::from(there)]);
    }
    let hex = hash.finalize();
    hex[..12].iter().map(|b| format!("{b:02x}")).collect()
}
