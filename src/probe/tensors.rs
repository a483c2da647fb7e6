//! Tensors and a text about them, as the bytes of one safetensors file.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use crate::{Error, Result};

/// Tensors (f16 or f32) with a text under `key` in their metadata, as safetensors.
pub fn serialize(tensors: &BTreeMap<String, Tensor>, key: &str, json: String) -> Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let flat = tensor.flatten_all()?;
        let (dtype, bytes) = match tensor.dtype() {
            DType::F16 => {
                let values = flat.to_vec1::<half::f16>()?;
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (Dtype::F16, bytes)
            }
            _ => {
                let values = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (Dtype::F32, bytes)
            }
        };
        raw.push((name, dtype, tensor.dims().to_vec(), bytes));
    }
    let broken = |e: safetensors::SafeTensorError| Error::Internal(e.to_string());
    let views = raw
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(broken)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([(key.to_string(), json)]);
    safetensors::serialize(views, Some(metadata)).map_err(broken)
}

/// The other way: every tensor as it was stored, and the text; the error says what is wrong.
pub fn deserialize(
    bytes: &[u8],
    key: &str,
) -> std::result::Result<(BTreeMap<String, Tensor>, String), String> {
    let (_, metadata) =
        safetensors::SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let json = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(key).cloned())
        .ok_or_else(|| format!("it has no {key} in its metadata"))?;
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            Dtype::F16 => DType::F16,
            Dtype::F32 => DType::F32,
            other => return Err(format!("{name} is {other:?}, not f16 or f32")),
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
            .map_err(|e| e.to_string())?;
        tensors.insert(name, tensor);
    }
    Ok((tensors, json))
}
