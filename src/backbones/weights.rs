//! The tensors of one component of a model, read from its safetensors files.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::files::{ModelFiles, PartReader};
use crate::Result;

/// A component's tensors by name. Which of them were taken is remembered, so that
/// [`Weights::finish`] can tell what was left over.
pub struct Weights {
    files: ModelFiles,
    component: String,
    device: Device,
    dtype: DType,
    shards: Vec<RefCell<Shard>>,
    index: BTreeMap<String, (usize, TensorInfo)>,
    taken: RefCell<BTreeSet<String>>,
    bytes: Cell<u64>,
}

struct Shard {
    path: String,
    reader: PartReader,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The longest safetensors header that is read: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// The names under which diffusers and transformers save a component, plain before `fp16`: what
/// has more precision is taken where a folder has both.
const SINGLE: [&str; 4] = [
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
];
const SHARDED: [&str; 4] = [
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "model.safetensors.index.fp16.json",
];

/// The paths of the files that hold a component's tensors, and of their index if they are sharded.
pub fn weight_paths(files: &ModelFiles, component: &str) -> Result<Vec<String>> {
    for (single, sharded) in SINGLE.iter().zip(SHARDED) {
        let single = format!("{component}/{single}");
        if files.has(&single) {
            return Ok(vec![single]);
        }
        let index_path = format!("{component}/{sharded}");
        if files.has(&index_path) {
            let index: ShardIndex = files.json(&index_path)?;
            let names: BTreeSet<String> = index.weight_map.into_values().collect();
            let mut paths = vec![index_path.clone()];
            for name in names {
                if name.contains(['/', '\\']) {
                    return Err(files.error(format!(
                        "{index_path} names the file {name}, which lies outside of its folder"
                    )));
                }
                paths.push(format!("{component}/{name}"));
            }
            return Ok(paths);
        }
    }
    Err(files.error(format!(
        "there are no weights in {component}/: expected {} or {} (only safetensors are read, \
         never .bin or .ckpt files)",
        SINGLE[0], SINGLE[1]
    )))
}

impl Weights {
    /// Opens a component's files and reads their headers; tensors are read when they are asked for,
    /// as `dtype`, onto `device`.
    pub fn open(
        files: &ModelFiles,
        component: &str,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let mut shards = Vec::new();
        let mut index = BTreeMap::new();
        for path in weight_paths(files, component)? {
            if path.ends_with(".json") {
                continue;
            }
            let (shard, infos) = open_shard(files, path)?;
            for (name, info) in infos {
                index.insert(name, (shards.len(), info));
            }
            shards.push(RefCell::new(shard));
        }
        Ok(Self {
            files: files.clone(),
            component: component.into(),
            device: device.clone(),
            dtype,
            shards,
            index,
            taken: RefCell::default(),
            bytes: Cell::new(0),
        })
    }

    /// All of the tensors, or those under `prefix` where the file puts them there: published files
    /// and newer libraries differ in such prefixes.
    pub fn root(&self, prefix: &str) -> Scope<'_> {
        let prefixed = !prefix.is_empty() && self.has_under(prefix);
        Scope {
            weights: self,
            prefix: match prefixed {
                true => format!("{prefix}."),
                false => String::new(),
            },
        }
    }

    /// Whether there are tensors under `prefix`.
    pub fn has_under(&self, prefix: &str) -> bool {
        let dotted = format!("{prefix}.");
        self.index.keys().any(|name| name.starts_with(&dotted))
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of the tensors taken so far, as loaded.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Warns of tensors that nothing asked for, unless their names begin with, or end in, something
    /// on the allow-list of (beginning or ending, reason).
    pub fn finish(&self, allowed: &[(&str, &str)]) {
        let taken = self.taken.borrow();
        let left: Vec<&String> = self
            .index
            .keys()
            .filter(|name| !taken.contains(*name))
            .filter(|name| {
                !allowed
                    .iter()
                    .any(|(part, _)| name.starts_with(part) || name.ends_with(part))
            })
            .collect();
        if !left.is_empty() {
            tracing::warn!(
                "model {}: {} tensors of {}/ were not used, the first is {}",
                self.files.name(),
                left.len(),
                self.component,
                left[0]
            );
        }
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some((shard, info)) = self.index.get(name) else {
            return Err(self.files.error(format!(
                "the tensor {name} is missing in {}/ ({})",
                self.component,
                self.paths()
            )));
        };
        let shard = &mut *self.shards[*shard].borrow_mut();
        if info.shape != shape {
            return Err(self.files.error(format!(
                "the tensor {name} in {} has the shape {:?}, but the configuration asks for {shape:?}",
                shard.path, info.shape
            )));
        }
        let dtype = match info.dtype {
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F64 => DType::F64,
            other => {
                return Err(self.files.error(format!(
                    "the tensor {name} in {} is stored as {other:?}, which is not supported: \
                     F32, F16, BF16 and F64 are",
                    shard.path
                )));
            }
        };
        let (start, end) = info.data_offsets;
        let data = shard
            .reader
            .part(shard.data_start + start as u64, end - start)?;
        let tensor = Tensor::from_raw_buffer(&data, dtype, shape, &candle_core::Device::Cpu)?
            .to_dtype(self.dtype)?
            .to_device(&self.device)?;
        self.taken.borrow_mut().insert(name.into());
        self.bytes
            .set(self.bytes.get() + (tensor.elem_count() * self.dtype.size_in_bytes()) as u64);
        Ok(tensor)
    }

    fn paths(&self) -> String {
        let paths: Vec<String> = self
            .shards
            .iter()
            .map(|s| s.borrow().path.clone())
            .collect();
        paths.join(", ")
    }
}

/// Reads and checks a safetensors header: a file cut short or holding something else is an error
/// here and not later.
fn open_shard(files: &ModelFiles, path: String) -> Result<(Shard, Vec<(String, TensorInfo)>)> {
    let mut reader = files.open(&path)?;
    let broken =
        |what: String| files.error(format!("{path} is not a whole safetensors file: {what}"));
    if reader.len() < 8 {
        return Err(broken(format!("it has {} bytes", reader.len())));
    }
    let mut length = [0; 8];
    length.copy_from_slice(&reader.part(0, 8)?);
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > reader.len() - 8 {
        return Err(broken(format!(
            "its header claims {length} bytes and the file has {}",
            reader.len()
        )));
    }
    let header = reader.part(8, length as usize)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| broken(e.to_string()))?;
    let have = reader.len() - 8 - length;
    if metadata.data_len() as u64 != have {
        return Err(broken(format!(
            "its tensors take {} bytes and the file has {have} for them",
            metadata.data_len()
        )));
    }
    let infos = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| (name, info.clone()))
        .collect();
    let shard = Shard {
        path,
        reader,
        data_start: 8 + length,
    };
    Ok((shard, infos))
}

/// A place in the tree of a component's tensor names.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// One level down: `scope.at("resnets").at(0)`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self {
            weights: self.weights,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// The tensor `name` here, which must have this shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights
            .tensor(&format!("{}{name}", self.prefix), shape)
    }

    pub fn has(&self, name: &str) -> bool {
        self.weights
            .index
            .contains_key(&format!("{}{name}", self.prefix))
    }

    /// Dimensions of the tensor `name`, if it is there.
    pub fn rank(&self, name: &str) -> Option<usize> {
        let name = format!("{}{name}", self.prefix);
        self.weights
            .index
            .get(&name)
            .map(|(_, info)| info.shape.len())
    }

    /// The shape of the tensor `name`, if it is there: files without a configuration say by it how
    /// large a network is.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let name = format!("{}{name}", self.prefix);
        let (_, info) = self.weights.index.get(&name)?;
        Some(&info.shape)
    }

    /// Zeros as the component's tensors are, where its files need hold none.
    pub fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::zeros(
            shape,
            self.weights.dtype,
            &self.weights.device,
        )?)
    }

    /// The module path, as diffusers writes it.
    pub fn path(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }
}
