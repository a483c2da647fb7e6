//! What was collected, on disk: one file a prompt, with all its seeds and steps, written whole or not
//! at all, and a manifest that says under which settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::features::{Before, Features, Layout, Seen, Text};
use super::preview::Preview;
use super::tensors::{deserialize, serialize};
use crate::pictures::write_whole;
use crate::{Error, Result};

/// Under what the trajectories of a folder were run; trajectories of another kind are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub model_name: String,
    pub model_fingerprint: String,
    pub metric: String,
    pub good: f64,
    pub steps: usize,
    pub at_steps: Vec<usize>,
    pub sampler: String,
    pub guidance: f64,
    pub width: usize,
    pub height: usize,
    /// Module paths of the tapped blocks.
    pub tap: Vec<String>,
    pub middle: bool,
    /// How many of the blocks, the first ones, a glimpse shows.
    pub early: usize,
    /// The metric of the scorer that judged the previews, if any did.
    pub preview: Option<String>,
    pub seeds: usize,
    /// Where the prompts come from: a file's digest, or the world and its seed.
    pub prompts: String,
}

impl Manifest {
    const NAME: &str = "manifest.json";

    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::NAME);
        let text = std::fs::read(&path).map_err(Error::file(&path))?;
        serde_json::from_slice(&text).map_err(|e| broken(&path, e))
    }

    /// Makes `folder` this manifest's, or checks that it is: what was collected under other
    /// settings is never mixed with these.
    pub fn claim(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
        let path = folder.join(Self::NAME);
        if !path.exists() {
            let text = serde_json::to_vec_pretty(self).map_err(|e| broken(&path, e))?;
            return write_whole(&path, &text);
        }
        let there = Self::read(folder)?;
        match there.difference(self) {
            None => Ok(()),
            Some((field, there, asked)) => Err(Error::invalid(
                "out",
                format!(
                    "{} holds trajectories with {field} {there}, not {asked}",
                    folder.display()
                ),
                "Collect into another folder, or with the settings of this one",
            )),
        }
    }

    /// The first setting in which two manifests differ, with both its values.
    pub fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let fields = |m: &Self| match serde_json::to_value(m) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (own, other) = (fields(self), fields(other));
        own.iter()
            .find(|(name, value)| other.get(*name) != Some(value))
            .map(|(name, value)| {
                let asked = other.get(name).cloned().unwrap_or_default();
                (name.clone(), value.to_string(), asked.to_string())
            })
    }
}

/// One finished trajectory: what was seen at each step, and how it came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seed: u32,
    /// In the order of the manifest's steps.
    pub seen: Vec<Seen>,
    pub score: f64,
    /// For each word, whether its object came out missing or wrong; `None`: no verdict on it.
    pub words_wrong: Vec<Option<bool>>,
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
}

/// The file of the prompt with this index.
pub fn shard_path(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("{index:06}.safetensors"))
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
        let parts = [
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
        let mut tensors = BTreeMap::new();
        for (name, mut shape, values) in parts {
            if !values.is_empty() {
                shape.push(values.len() / shape.iter().product::<usize>());
                tensors.insert(
                    name.to_string(),
                    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(DType::F16)?,
                );
            }
        }
        let json = serde_json::to_string(&header).map_err(|e| broken(path, e))?;
        write_whole(path, &serialize(&tensors, "foreseed", json)?)
    }

    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::file(path))?;
        let (tensors, json) = deserialize(&bytes, "foreseed").map_err(|e| broken(path, e))?;
        let header: Header = serde_json::from_str(&json).map_err(|e| broken(path, e))?;
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
            previews: PREVIEWS.map(|[whole, words]| {
                let whole = tensors.get(whole).cloned()?;
                Some((whole, tensors.get(words).cloned()?))
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
    fn layout(&self, blocks: &[String], early: usize) -> Layout {
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
        }
    }
}

/// Everything that was collected in some folders of one kind, in the order of the files' names.
pub struct Collected {
    pub manifest: Manifest,
    pub groups: Vec<Group>,
}

impl Collected {
    /// Reads folders whose manifests agree in all but where the prompts come from and how many
    /// seeds each got.
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        let mut kind: Option<Manifest> = None;
        let mut groups = Vec::new();
        for folder in folders {
            let manifest = Manifest::read(folder)?;
            if let Some(first) = &kind {
                let same = Manifest {
                    prompts: first.prompts.clone(),
                    seeds: first.seeds,
                    ..manifest.clone()
                };
                if let Some((field, one, other)) = first.difference(&same) {
                    return Err(Error::invalid(
                        "data",
                        format!("the folders differ in {field}: {one} and {other}"),
                        "Train on trajectories of one model and one set of settings",
                    ));
                }
            }
            kind.get_or_insert(manifest);
            let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
                .map_err(Error::file(folder))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
                .collect();
            paths.sort();
            for path in paths {
                groups.push(Group::read(&path)?);
            }
        }
        match (kind, groups.is_empty()) {
            (Some(manifest), false) => Ok(Self { manifest, groups }),
            _ => Err(Error::invalid(
                "data",
                format!("no trajectory in {folders:?}"),
                "Make some with `foreseed probe collect`",
            )),
        }
    }

    /// The layout that holds all of them.
    pub fn layout(&self) -> Result<Layout> {
        let blocks = &self.manifest.tap;
        let mut layouts = self
            .groups
            .iter()
            .map(|g| g.layout(blocks, self.manifest.early));
        let mut all = layouts
            .next()
            .ok_or_else(|| Error::Internal("no groups".into()))?;
        for layout in layouts {
            all.keys = all.keys.max(layout.keys);
        }
        Ok(all)
    }
}

fn broken(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::invalid(
        "data",
        format!("{} cannot be used: {problem}", path.display()),
        "Delete it and collect it again",
    )
}
