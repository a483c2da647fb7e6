//! Under what a set of trajectories was collected, kept beside its shards.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::preview::Decoding;
use super::shard::broken;
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
    /// What made them.
    #[serde(flatten)]
    pub previews: Decoding,
    pub seeds: usize,
    /// Where the prompts come from: a file's digest, or the world and its seed.
    pub prompts: String,
    /// What the pictures and previews were scored by besides `metric`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Measure>,
}

/// A metric and its threshold of good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub metric: String,
    pub good: f64,
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
            write_whole(&path, &text)?;
        }
        // Another process may have written one at the same time.
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

    /// All settings but where the prompts come from and how many seeds each got, as bytes that are
    /// equal where they are.
    pub fn kind(&self) -> Vec<u8> {
        let kind = Self {
            prompts: String::new(),
            seeds: 0,
            ..self.clone()
        };
        serde_json::to_vec(&kind).unwrap_or_default()
    }

    /// The same set as one that was scored by `metric` alone; the error lists what it was scored by.
    pub fn by(&self, metric: &str) -> Result<Self> {
        let mut own = Self {
            also: Vec::new(),
            ..self.clone()
        };
        if metric == self.metric {
            return Ok(own);
        }
        let Some(measure) = self.also.iter().find(|also| also.metric == metric) else {
            return Err(Error::invalid(
                "metric",
                format!("{metric:?} is nothing that these trajectories were scored by"),
                format!(
                    "They were by {}; `foreseed probe collect --metric` takes several",
                    self.metrics().join(", ")
                ),
            ));
        };
        // Each scorer judged the previews as well.
        own.preview = own.preview.map(|_| metric.to_owned());
        (own.metric, own.good) = (measure.metric.clone(), measure.good);
        Ok(own)
    }

    /// What the trajectories were scored by, the first one first.
    pub fn metrics(&self) -> Vec<&str> {
        let also = self.also.iter().map(|also| also.metric.as_str());
        std::iter::once(self.metric.as_str()).chain(also).collect()
    }

    /// The first setting in which two manifests differ, with both its values.
    pub fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let fields = |m: &Self| match serde_json::to_value(m) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (own, other) = (fields(self), fields(other));
        // What one of them does not say is nothing in it.
        let said = |fields: &serde_json::Map<String, serde_json::Value>, name: &String| {
            fields.get(name).cloned().unwrap_or_default()
        };
        own.keys()
            .chain(other.keys())
            .map(|name| (name, said(&own, name), said(&other, name)))
            .find(|(_, own, other)| own != other)
            .map(|(name, own, other)| (name.clone(), own.to_string(), other.to_string()))
    }
}
