//! Sets of shards as a training takes them: by one of the metrics that they were scored by.

use std::path::PathBuf;

use super::features::Layout;
use super::manifest::Manifest;
use super::shard::Group;
use super::split::{Side, side_of};
use super::stats;
use crate::{Error, Result, scorers};

/// Everything that was collected in some folders of one kind, in the order of the files' names.
pub struct Collected {
    pub manifest: Manifest,
    pub groups: Vec<Group>,
}

impl Collected {
    /// [`Collected::read_by`] what the first folder was scored by first.
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        Self::read_by(folders, None)
    }

    /// Reads folders whose manifests agree in all but where the prompts come from, how many seeds
    /// each got and what they were scored by besides `metric`.
    pub fn read_by(folders: &[PathBuf], metric: Option<&str>) -> Result<Self> {
        let mut metric = metric.map(str::to_owned);
        let mut kind: Option<Manifest> = None;
        let mut groups = Vec::new();
        for folder in folders {
            let whole = Manifest::read(folder)?;
            let metric = &*metric.get_or_insert_with(|| whole.metric.clone());
            let also = (*metric != whole.metric).then_some(metric.as_str());
            let manifest = whole.by(metric)?;
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
                groups.push(Group::read(&path, also)?);
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

    /// The groups whose scenes lie on one side.
    pub fn on(&self, side: Side) -> Vec<&Group> {
        let groups = self.groups.iter();
        groups.filter(|g| side_of(&g.scene) == side).collect()
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
        let judge = self.manifest.preview.as_deref();
        if judge.is_some_and(|metric| scorers::range(metric).is_none()) {
            let values = self.groups.iter().map(Group::preview_values);
            let values = values.collect::<Result<Vec<_>>>()?.concat();
            let deviation = stats::deviation(&values).max(1e-6);
            all.preview_scale = Some((stats::mean(&values) as f32, deviation as f32));
        }
        Ok(all)
    }
}
