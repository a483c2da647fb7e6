//! LoRAs (Hu et al. 2021): small differences of a model's weights, as products of two thin matrices,
//! merged into the weights when they are loaded.

mod file;
mod names;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Tensor};

pub use self::file::Lora;
use super::files::ModelFiles;
use crate::Result;

/// A LoRA to merge into a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub file: PathBuf,
    /// What its difference is multiplied by, beside the scale that it brings along.
    pub weight: f64,
}

/// What a model's LoRAs add to one component's tensors.
#[derive(Debug, Default)]
pub struct Merges(BTreeMap<String, Vec<(Arc<Lora>, usize)>>);

impl Merges {
    /// The modules of all LoRAs that are for one of `names`, the component's tensors.
    pub fn of<'a>(
        files: &ModelFiles,
        component: &str,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<Self> {
        let mut merges = BTreeMap::<_, Vec<_>>::new();
        if files.loras().is_empty() {
            return Ok(Self::default());
        }
        let layers = match component {
            "unet" => names::layers(files),
            _ => None,
        };
        let names: Vec<&String> = names.collect();
        for lora in files.loras() {
            let modules = lora.modules_of(component, layers);
            for name in &names {
                let Some(module) = name.strip_suffix(".weight") else {
                    continue;
                };
                for key in names::keys(component, module) {
                    for at in modules.get(&key).into_iter().flatten() {
                        let lora = (Arc::clone(lora), *at);
                        merges.entry((*name).clone()).or_default().push(lora);
                    }
                }
            }
        }
        Ok(Self(merges))
    }

    /// Whether anything is added to the tensor `name`.
    pub fn change(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Counts what is added to the tensor `name` as merged, where the tensor itself is read later.
    pub fn mark(&self, name: &str) {
        for (lora, module) in self.0.get(name).into_iter().flatten() {
            lora.mark(*module);
        }
    }

    /// The tensor `name` with what is added to it; in f32 if anything is.
    pub fn add_to(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        let Some(loras) = self.0.get(name) else {
            return Ok(tensor);
        };
        let mut sum = tensor.to_dtype(DType::F32)?;
        for (lora, module) in loras {
            sum = (&sum + lora.difference(*module, name, sum.dims())?)?;
        }
        Ok(sum)
    }
}

/// Refuses LoRAs of which something was not merged: they are for another model.
pub fn check_all_merged(files: &ModelFiles) -> Result<()> {
    for lora in files.loras() {
        let left = lora.unmerged();
        if let Some(first) = left.first() {
            return Err(files.error(format!(
                "the LoRA {} has {} modules, and the model lacks {} of them, such as {first}: it is \
                 for another model, or of a kind that is not supported",
                lora.name(),
                lora.modules(),
                left.len()
            )));
        }
    }
    Ok(())
}
