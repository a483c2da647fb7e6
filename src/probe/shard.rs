//! What was collected, on disk: one file a prompt, with all its seeds and steps, written whole or not
//! at all, and a manifest that says under which settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use super::collected::Collected;
use super::features::{Before, Features, Layout, Seen, Text};
pub use super::manifest::{Manifest, Measure};
use super::preview::Preview;
use super::tensors::{deserialize, serialize};
use crate::candidate::Seed;
use crate::pictures::write_whole;
use crate::{Error, Result};

/// One finished trajectory: what was seen at each step, and how it came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seed: u32,
    /// In the order of the manifest's steps.
    pub seen: Vec<Seen>,
    pub score: f64,
    /// For each word, whether its object came out missing or wrong; `None`: no verdict on it.
    pub words_wrong: Vec<Option<bool>>,
    /// What the other scorers say, in the order of the manifest's `also`.
    pub also: Vec<Also>,
}

/// What another scorer says of a trajectory.
#[derive(Clone, Debug)]
pub struct Also {
    pub metric: String,
    pub score: f64,
    pub words_wrong: Vec<Option<bool>>,
    /// By step: of the preview, and of that of the step before.
    pub previews: Vec<[Option<Preview>; 2]>,
}

/// All that was collected of one prompt.
#[derive(Clone, Debug)]
pub struct Group {
    pub prompt: String,
    /// Equal for all wordings of one scene.
    pub scene: String,
    pub text: Arc<Text>,
    pub seeds: Vec<u32>,
    pub scores: Vec<f64>,
    /// (seeds) × (words)
    pub words_wrong: Vec<Vec<Option<bool>>>,
    at_steps: Vec<usize>,
    grid: (usize, usize),
    maps: Tensor,
    x0: Tensor,
    middle: Option<Tensor>,
    before: Option<Tensor>,
    /// Of `x0` and of `before`: (seeds, steps, whole), (seeds, steps, words × a word's).
    previews: [Option<(Tensor, Tensor)>; 2],
}

/// The names of the previews' tensors: as a whole and by word, of x0 and of the x0 before.
const PREVIEWS: [[&str; 2]; 2] = [
    ["preview", "preview_words"],
    ["before_preview", "before_preview_words"],
];

/// The names of another metric's previews.
fn previews_by(metric: Option<&str>) -> [[String; 2]; 2] {
    PREVIEWS.map(|names| {
        names.map(|name| match metric {
            None => name.to_owned(),
            Some(metric) => format!("{name}/{metric}"),
        })
    })
}

/// The part of a shard that is text.
#[derive(Serialize, Deserialize)]
struct Header {
    prompt: String,
    scene: String,
    words: Vec<std::ops::Range<usize>>,
    seeds: Vec<u32>,
    scores: Vec<f64>,
    words_wrong: Vec<Vec<Option<bool>>>,
    at_steps: Vec<usize>,
    height: usize,
    width: usize,
    keys: usize,
    /// By metric, what the other scorers say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    also: BTreeMap<String, Said>,
}

/// What a scorer says of a prompt's seeds.
#[derive(Serialize, Deserialize)]
struct Said {
    scores: Vec<f64>,
    words_wrong: Vec<Vec<Option<bool>>>,
}

/// What the file of a prompt is called: by its place among the prompts, and by a digest of what it
/// holds, so that the files of several machines can be copied into one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardName {
    index: usize,
    name: String,
}

impl ShardName {
    pub fn new(manifest: &Manifest, index: usize, prompt: &str, seeds: &[Seed]) -> Self {
        let mut hash = Sha256::new();
        hash.update(manifest.kind());
        hash.update(prompt.as_bytes());
        for seed in seeds {
            hash.update(seed.0.to_le_bytes());
        }
        let digest = hash.finalize();
        let digest: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
        Self {
            index,
            name: format!("{index:06}-{digest}"),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.safetensors", self.name))
    }

    /// Whether the folder has it, by this name or by its place alone, as it was called once.
    pub fn is_in(&self, folder: &Path) -> bool {
        self.path(folder).exists()
            || folder
                .join(format!("{:06}.safetensors", self.index))
                .exists()
    }
}

impl Group {
    /// Writes one prompt's outcomes.
    pub fn write(
        path: &Path,
        prompt: &str,
        scene: &str,
        text: &Text,
        outcomes: &[Outcome],
    ) -> Result<()> {
        let first = outcomes
            .first()
            .and_then(|o| o.seen.first())
            .ok_or_else(|| Error::Internal("a shard without outcomes".into()))?;
        let header = Header {
            prompt: prompt.into(),
            scene: scene.into(),
            words: text.words.clone(),
            seeds: outcomes.iter().map(|o| o.seed).collect(),
            scores: outcomes.iter().map(|o| o.score).collect(),
            words_wrong: outcomes.iter().map(|o| o.words_wrong.clone()).collect(),
            at_steps: outcomes[0].seen.iter().map(|s| s.steps_done).collect(),
            height: first.height,
            width: first.width,
            keys: text.keys,
            also: also_said(outcomes),
        };
        let (rows, steps) = (outcomes.len(), header.at_steps.len());
        let all = |part: &dyn Fn(&Seen) -> &Vec<f32>| -> Vec<f32> {
            outcomes
                .iter()
                .flat_map(|o| &o.seen)
                .flat_map(|s| part(s).iter().copied())
                .collect()
        };
        static NOTHING: Vec<f32> = Vec::new();
        fn opt(values: Option<&Vec<f32>>) -> &Vec<f32> {
            values.unwrap_or(&NOTHING)
        }
        fn before(seen: &Seen) -> Option<&Preview> {
            seen.before.as_ref()?.preview.as_ref()
        }
        let parts = vec![
            ("maps", vec![rows, steps], all(&|s| &s.maps)),
            ("x0", vec![rows, steps], all(&|s| &s.x0)),
            ("middle", vec![rows, steps], all(&|s| &s.middle)),
            ("embeds", vec![text.keys], text.embeds.clone()),
            ("pooled", vec![1], text.pooled.clone()),
            (
                "before",
                vec![rows, steps],
                all(&|s| opt(s.before.as_ref().map(|b| &b.x0))),
            ),
            (
                PREVIEWS[0][0],
                vec![rows, steps],
                all(&|s| opt(s.preview.as_ref().map(|p| &p.whole))),
            ),
            (
                PREVIEWS[0][1],
                vec![rows, steps],
                all(&|s| opt(s.preview.as_ref().map(|p| &p.words))),
            ),
            (
                PREVIEWS[1][0],
                vec![rows, steps],
                all(&|s| opt(before(s).map(|p| &p.whole))),
            ),
            (
                PREVIEWS[1][1],
                vec![rows, steps],
                all(&|s| opt(before(s).map(|p| &p.words))),
            ),
        ];
        let mut parts: Vec<(String, Vec<usize>, Vec<f32>)> = parts
            .into_iter()
            .map(|(name, shape, values)| (name.to_owned(), shape, values))
            .collect();
        for (index, also) in outcomes[0].also.iter().enumerate() {
            for (which, names) in previews_by(Some(&also.metric)).into_iter().enumerate() {
                let of = |part: fn(&Preview) -> &Vec<f32>| -> Vec<f32> {
                    outcomes
                        .iter()
                        .flat_map(|o| &o.also[index].previews)
                        .filter_map(|both| both[which].as_ref())
                        .flat_map(|preview| part(preview).iter().copied())
                        .collect()
                };
                let [whole, words] = names;
                parts.push((whole, vec![rows, steps], of(|p| &p.whole)));
                parts.push((words, vec![rows, steps], of(|p| &p.words)));
            }
        }
        let mut tensors = BTreeMap::new();
        for (name, mut shape, values) in parts {
            if !values.is_empty() {
                shape.push(values.len() / shape.iter().product::<usize>());
                // A score may differ by less than f16 can tell, as 21.37 and 21.38 do.
                let dtype = match PREVIEWS.iter().any(|[whole, _]| names_whole(&name, whole)) {
                    true => DType::F32,
                    false => DType::F16,
                };
                let values = Tensor::from_vec(values, shape, &Device::Cpu)?;
                tensors.insert(name, values.to_dtype(dtype)?);
            }
        }
        let json = serde_json::to_string(&header).map_err(|e| broken(path, e))?;
        write_whole(path, &serialize(&tensors, "foreseed", json)?)
    }

    /// Reads one prompt's outcomes as the first scorer saw them, or as the one of the metric `also`.
    pub fn read(path: &Path, also: Option<&str>) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::file(path))?;
        let (tensors, json) = deserialize(&bytes, "foreseed").map_err(|e| broken(path, e))?;
        let mut header: Header = serde_json::from_str(&json).map_err(|e| broken(path, e))?;
        if let Some(metric) = also {
            let said = header.also.remove(metric);
            let said = said.ok_or_else(|| broken(path, format!("no score by {metric}")))?;
            (header.scores, header.words_wrong) = (said.scores, said.words_wrong);
        }
        let part = |name: &str| -> Result<Tensor> {
            tensors
                .get(name)
                .cloned()
                .ok_or_else(|| broken(path, format!("{name} is missing")))
        };
        let values = |name: &str| -> Result<Vec<f32>> {
            match tensors.get(name) {
                None => Ok(Vec::new()),
                Some(t) => Ok(t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?),
            }
        };
        Ok(Self {
            text: Arc::new(Text {
                keys: header.keys,
                embeds: values("embeds")?,
                pooled: values("pooled")?,
                words: header.words,
            }),
            prompt: header.prompt,
            scene: header.scene,
            seeds: header.seeds,
            scores: header.scores,
            words_wrong: header.words_wrong,
            at_steps: header.at_steps,
            grid: (header.height, header.width),
            maps: part("maps")?,
            x0: part("x0")?,
            middle: tensors.get("middle").cloned(),
            before: tensors.get("before").cloned(),
            previews: previews_by(also).map(|[whole, words]| {
                let whole = tensors.get(&whole).cloned()?;
                Some((whole, tensors.get(&words).cloned()?))
            }),
        })
    }

    /// What was seen of a seed at a step, both by index.
    pub fn features(&self, seed: usize, step: usize) -> Result<Features> {
        let row = |t: &Tensor| -> Result<Vec<f32>> {
            Ok(t.get(seed)?.get(step)?.to_dtype(DType::F32)?.to_vec1()?)
        };
        let preview = |kept: &Option<(Tensor, Tensor)>| -> Result<Option<Preview>> {
            let Some((whole, words)) = kept else {
                return Ok(None);
            };
            Ok(Some(Preview {
                whole: row(whole)?,
                words: row(words)?,
            }))
        };
        let [of_x0, of_before] = &self.previews;
        let before = match &self.before {
            None => None,
            Some(x0) => Some(Before {
                x0: row(x0)?,
                preview: preview(of_before)?,
            }),
        };
        Ok(Features {
            text: self.text.clone(),
            seen: Seen {
                preview: preview(of_x0)?,
                before,
                glimpse: false,
                steps_done: self.at_steps[step],
                height: self.grid.0,
                width: self.grid.1,
                maps: row(&self.maps)?,
                x0: row(&self.x0)?,
                middle: self
                    .middle
                    .as_ref()
                    .map(row)
                    .transpose()?
                    .unwrap_or_default(),
            },
        })
    }

    /// The widths of these features, with this prompt's own number of keys.
    pub(super) fn layout(&self, blocks: &[String], early: usize) -> Layout {
        let cells = self.grid.0 * self.grid.1;
        let last = |t: &Tensor| t.dims().last().copied().unwrap_or(0);
        Layout {
            blocks: blocks.to_vec(),
            keys: self.text.keys,
            text_dim: self.text.embeds.len() / self.text.keys.max(1),
            pooled_dim: self.text.pooled.len(),
            x0_channels: last(&self.x0) / cells,
            middle_channels: self.middle.as_ref().map_or(0, last) / cells,
            early,
            preview: self.previews[0].is_some(),
            preview_scale: None,
        }
    }

    /// What the previews scored, over all seeds and steps.
    pub(super) fn preview_values(&self) -> Result<Vec<f64>> {
        let Some((whole, _)) = &self.previews[0] else {
            return Ok(Vec::new());
        };
        let values = whole.to_dtype(DType::F32)?.narrow(D::Minus1, 0, 1)?;
        let values = values.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.into_iter().map(f64::from).collect())
    }
}

/// Whether `name` is `whole`, by any metric.
fn names_whole(name: &str, whole: &str) -> bool {
    name.strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn also_said(outcomes: &[Outcome]) -> BTreeMap<String, Said> {
    let first = outcomes.first().map_or(&[][..], |o| &o.also);
    let said = |(index, also): (usize, &Also)| {
        let of = outcomes.iter().map(|o| &o.also[index]);
        let said = Said {
            scores: of.clone().map(|also| also.score).collect(),
            words_wrong: of.map(|also| also.words_wrong.clone()).collect(),
        };
        (also.metric.clone(), said)
    };
    first.iter().enumerate().map(said).collect()
}

pub(super) fn broken(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::invalid(
        "data",
        format!("{} cannot be used: {problem}", path.display()),
        "Delete it and collect it again",
    )
}
