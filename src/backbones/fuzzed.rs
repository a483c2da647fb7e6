//! What the fuzz targets in `tests/fuzz` read models with: they alone are built with `--cfg fuzzing`.

use candle_core::{DType, Device};

use super::audit::Audit;
use super::weights::Weights;
use super::{ModelFiles, Placement, load, needs};
use crate::Result;

/// Reads every tensor of a component, as a matrix where it is one.
pub fn tensors(files: &ModelFiles, component: &str) -> Result<()> {
    let weights = Weights::open(files, component, &Device::Cpu, DType::F32)?;
    let root = weights.root("");
    for (name, _) in weights.sizes() {
        let stored = root.shape(name).unwrap_or_default().to_vec();
        // A checkpoint's tensor stands for several, or for its transposed.
        let mut shapes = vec![stored.clone()];
        shapes.extend([2, 3].map(|parts| {
            let mut share = stored.clone();
            share.iter_mut().take(1).for_each(|rows| *rows /= parts);
            share
        }));
        shapes.push(stored.iter().rev().copied().collect());
        let read = |shape: &Vec<usize>| match shape.len() {
            2 => root.matrix(name, shape).map(drop),
            _ => root.tensor(name, shape).map(drop),
        };
        let first = read(&shapes[0]);
        if first.is_err() && shapes[1..].iter().all(|shape| read(shape).is_err()) {
            return first;
        }
    }
    weights.finish(&[]);
    Ok(())
}

/// Puts a model together from its configurations and headers, and asks it for what its tokenizers and
/// its scheduler answer.
pub fn model(files: ModelFiles) -> Result<()> {
    let name = files.name().to_owned();
    let placement = Placement::new(&Device::Cpu, DType::F32);
    needs(files.clone(), &name, &placement)?;
    let files = files.audited(Audit::default());
    let model = load(files, &name, &Device::Cpu, DType::F32)?;
    model.words("a red circle left of a blue square")?;
    let facts = model.facts();
    let (width, height) = (facts.default_width, facts.default_height);
    for steps in [1, 4, 30] {
        model.schedule(steps, width, height)?;
    }
    Ok(())
}
