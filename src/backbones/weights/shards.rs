//! The safetensors files that a component's tensors lie in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::Share;
use crate::backbones::checkpoint;
use crate::backbones::files::{ModelFiles, PartReader};
use crate::backbones::gguf;
use crate::{Error, Result};

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
    if checkpoint::holds(files, component) {
        return Ok(vec![checkpoint::PATH.to_owned()]);
    }
    if gguf::holds(files, component) {
        return Ok(vec![gguf::PATH.to_owned()]);
    }
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

/// One safetensors file, open.
#[derive(Debug)]
pub struct Shard {
    /// What errors call the model.
    model: String,
    path: String,
    reader: PartReader,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

/// What a safetensors header says.
pub struct Header {
    /// The tensors by name.
    pub tensors: Vec<(String, TensorInfo)>,
    /// What whoever saved the file wrote beside them.
    pub notes: BTreeMap<String, String>,
}

impl Shard {
    /// Reads and checks the header: a file cut short or holding something else is an error here and
    /// not later.
    pub fn open(model: &str, path: String, mut reader: PartReader) -> Result<(Self, Header)> {
        let broken = |what: String| {
            Error::model(
                model,
                format!("{path} is not a whole safetensors file: {what}"),
            )
        };
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
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|e| broken(e.to_string()))?;
        let have = reader.len() - 8 - length;
        if metadata.data_len() as u64 != have {
            return Err(broken(format!(
                "its tensors take {} bytes and the file has {have} for them",
                metadata.data_len()
            )));
        }
        let header = Header {
            tensors: metadata
                .tensors()
                .into_iter()
                .map(|(name, info)| (name, info.clone()))
                .collect(),
            notes: metadata
                .metadata()
                .iter()
                .flatten()
                .map(|(name, text)| (name.clone(), text.clone()))
                .collect(),
        };
        let shard = Self {
            model: model.into(),
            path,
            reader,
            data_start: 8 + length,
        };
        Ok((shard, header))
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// A share of a tensor's rows as it is stored, on the CPU.
    pub fn tensor(&mut self, name: &str, info: &TensorInfo, share: Share) -> Result<Tensor> {
        let dtype = match info.dtype {
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F64 => DType::F64,
            other => {
                return Err(Error::model(
                    self.model.clone(),
                    format!(
                        "the tensor {name} in {} is stored as {other:?}, which is not supported: \
                         F32, F16, BF16 and F64 are",
                        self.path
                    ),
                ));
            }
        };
        let mut shape = info.shape.clone();
        let rows = shape.first().copied().unwrap_or(1);
        let (from, to) = share.of(rows);
        if let Some(rows) = shape.first_mut() {
            *rows = to - from;
        }
        let (start, end) = info.data_offsets;
        let row = (end - start) / rows.max(1);
        let data: Cow<'static, [u8]> = self.reader.part(
            self.data_start + (start + from * row) as u64,
            (to - from) * row,
        )?;
        Ok(Tensor::from_raw_buffer(&data, dtype, &shape, &Device::Cpu)?)
    }
}
