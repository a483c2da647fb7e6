//! A LoRA's file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Tensor};
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};

use super::names::{Role, Target, key_of, read};
use crate::backbones::files::PartReader;
use crate::backbones::weights::{Shard, Share};
use crate::{Error, Result};

/// A LoRA, its header read. Which of its modules were merged is remembered.
#[derive(Debug)]
pub struct Lora {
    name: String,
    weight: f64,
    modules: Vec<Module>,
    /// SHA-256 over the file, as models are fingerprinted.
    fingerprint: String,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    shard: Shard,
    merged: BTreeSet<usize>,
}

/// One module's difference: up · down, scaled.
#[derive(Debug)]
struct Module {
    target: Target,
    down: (String, TensorInfo),
    up: (String, TensorInfo),
    scale: Scale,
}

/// A module's tensors, by what they are.
type Parts = BTreeMap<Role, (String, TensorInfo)>;

#[derive(Debug)]
enum Scale {
    /// The tensor with the number that is divided by the rank.
    Alpha(String, TensorInfo),
    Known(f64),
}

/// Where diffusers writes PEFT's configuration: alpha and rank are in no tensor there.
const NOTE: &str = "lora_adapter_metadata";

impl Lora {
    /// Reads the header of a LoRA called `name` in errors; `weight` is what it is merged with.
    ///
    /// # Errors
    /// What is no LoRA of a supported layout: kohya's, PEFT's and diffusers' are, for linear layers
    /// and convolutions.
    pub fn open(name: &str, mut reader: PartReader, weight: f64) -> Result<Self> {
        let bad = |problem: String| Error::model(name, problem);
        if !weight.is_finite() {
            return Err(bad(format!("its weight is {weight}, and must be a number")));
        }
        let fingerprint = reader.fingerprint()?;
        let (shard, header) = Shard::open(name, name.to_owned(), reader)?;
        let mut found: BTreeMap<String, (Target, Parts)> = BTreeMap::new();
        for (key, info) in header.tensors {
            let Some((target, role)) = read(&key) else {
                return Err(bad(format!(
                    "the tensor {key} is none of a LoRA's that can be merged: those of kohya \
                     (lora_unet_…, lora_te1_…) and of diffusers or PEFT (unet.….lora_A.weight) are; \
                     LoHa, LoKr and DoRA are not supported"
                )));
            };
            let place = format!("{}/{}/{}", target.component, target.flat, target.path);
            let (_, parts) = found.entry(place).or_insert((target, Parts::new()));
            parts.insert(role, (key, info));
        }
        let notes = header.notes.get(NOTE);
        let notes = notes.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        let mut modules = Vec::new();
        for (target, mut parts) in found.into_values() {
            let mut take = |role: Role| parts.remove(&role);
            let (Some(down), Some(up)) = (take(Role::Down), take(Role::Up)) else {
                return Err(bad(format!(
                    "its module {} has one matrix of two",
                    target.path
                )));
            };
            let rank = down.1.shape.first().copied().unwrap_or_default();
            if rank == 0 || up.1.shape.get(1) != Some(&rank) {
                return Err(bad(format!(
                    "its module {} has matrices of the shapes {:?} and {:?}, which do not go \
                     together",
                    target.path, down.1.shape, up.1.shape
                )));
            }
            let scale = match take(Role::Alpha) {
                Some((key, info)) => Scale::Alpha(key, info),
                None => Scale::Known(noted_scale(notes.as_ref(), &target, rank)),
            };
            modules.push(Module {
                target,
                down,
                up,
                scale,
            });
        }
        if modules.is_empty() {
            return Err(bad("there is nothing in it".into()));
        }
        let merged = BTreeSet::new();
        Ok(Self {
            name: name.into(),
            weight,
            modules,
            fingerprint,
            open: Mutex::new(Open { shard, merged }),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Modules that it changes.
    pub fn modules(&self) -> usize {
        self.modules.len()
    }

    /// What tells a model with it from one without, or with another weight.
    pub fn fingerprint(&self) -> (&str, f64) {
        (&self.fingerprint, self.weight)
    }

    /// The indices of the modules for `component`, by what they are looked up by.
    pub fn modules_of(
        &self,
        component: &str,
        layers: Option<usize>,
    ) -> BTreeMap<String, Vec<usize>> {
        let mut keys = BTreeMap::<_, Vec<_>>::new();
        for (at, module) in self.modules.iter().enumerate() {
            if module.target.component == component {
                let key = key_of(&module.target, layers);
                keys.entry(key).or_default().push(at);
            }
        }
        keys
    }

    /// What the module with this index adds to the tensor `name` of this shape, f32 on the CPU.
    pub fn difference(&self, module: usize, name: &str, shape: &[usize]) -> Result<Tensor> {
        let mut open = self.lock();
        open.merged.insert(module);
        let module = &self.modules[module];
        let mut matrix = |(key, info): &(String, TensorInfo)| -> Result<Tensor> {
            let tensor = open.shard.tensor(key, info, Share::WHOLE)?;
            let rows = info.shape.first().copied().unwrap_or_default();
            Ok(tensor.to_dtype(DType::F32)?.reshape((rows, ()))?)
        };
        let (down, up) = (matrix(&module.down)?, matrix(&module.up)?);
        let rank = down.dim(0)?;
        let scale = match &module.scale {
            Scale::Known(scale) => *scale,
            Scale::Alpha(key, info) => {
                let alpha = open.shard.tensor(key, info, Share::WHOLE)?;
                let alpha = alpha.to_dtype(DType::F64)?.flatten_all()?;
                alpha.to_vec1::<f64>()?.first().copied().unwrap_or(1.0) / rank as f64
            }
        };
        let inputs: usize = shape.iter().skip(1).product();
        if up.dim(1)? != rank || (up.dim(0)?, down.dim(1)?) != (shape[0], inputs) {
            return Err(Error::model(
                self.name.clone(),
                format!(
                    "its matrices {:?} and {:?} make no difference of {name}, which has the shape \
                     {shape:?}: it is for another model, or of a kind that is not supported",
                    module.up.1.shape, module.down.1.shape
                ),
            ));
        }
        let product = up.matmul(&down)?.reshape(shape)?;
        Ok((product * (scale * self.weight))?)
    }

    /// Counts the module with this index as merged.
    pub fn mark(&self, module: usize) {
        self.lock().merged.insert(module);
    }

    /// The modules that no tensor was asked for.
    pub fn unmerged(&self) -> Vec<String> {
        let open = self.lock();
        let modules = self.modules.iter().enumerate();
        let left = modules.filter(|(at, _)| !open.merged.contains(at));
        left.map(|(_, m)| format!("{} of the {}", m.target.path, m.target.component))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Reads leave nothing half done behind.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scale of a module without a tensor that says it: by PEFT's configuration where the file has
/// it, else 1.
fn noted_scale(notes: Option<&Map<String, Value>>, target: &Target, rank: usize) -> f64 {
    let of = |name: &str| notes?.get(&format!("{}.{name}", target.component));
    let patterned = of("alpha_pattern")
        .and_then(Value::as_object)
        .and_then(|p| {
            let fits = |key: &str| target.path == key || target.path.ends_with(&format!(".{key}"));
            p.iter()
                .find(|(key, _)| fits(key))
                .and_then(|(_, v)| v.as_f64())
        });
    let alpha = patterned.or_else(|| of("lora_alpha").and_then(Value::as_f64));
    let Some(alpha) = alpha else { return 1.0 };
    match of("use_rslora").and_then(Value::as_bool) {
        // Kalajdzievski 2023
        Some(true) => alpha / (rank as f64).sqrt(),
        _ => alpha / rank as f64,
    }
}
