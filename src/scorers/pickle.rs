//! Tensors out of what `torch.save` wrote, for the one scorer that is published in no other form.
//! Such a file is a pickle, a program for a stack machine that in Python can call anything. The
//! reader here is candle's, which builds a description of the calls and makes none of them; what is
//! no tensor is passed over.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::pickle::PthTensors;
use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// No file of a scorer's head is larger.
const MOST_BYTES: u64 = 64 << 20;

/// The floating-point tensors in the file by name, as f32.
///
/// # Errors
/// A file that is too large, broken, or holds no such tensor.
pub fn tensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let bad = |problem: String| Error::model(path.display().to_string(), problem);
    let bytes = std::fs::metadata(path).map_err(Error::file(path))?.len();
    if bytes > MOST_BYTES {
        return Err(bad(format!(
            "it has {bytes} bytes and a scorer's head has some millions; larger ones are not read"
        )));
    }
    // candle takes some shapes of a description for granted and panics where a file was forged.
    let read = catch_unwind(AssertUnwindSafe(|| read(path, bytes, device)));
    let found = read
        .unwrap_or_else(|_| Err("it is no description of tensors".into()))
        .map_err(|problem| bad(format!("it cannot be read as tensors: {problem}")))?;
    match found.is_empty() {
        true => Err(bad(
            "it holds no tensors, or none in torch's zip format".into()
        )),
        false => Ok(found),
    }
}

fn read(
    path: &Path,
    bytes: u64,
    device: &Device,
) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let text = |e: candle_core::Error| e.to_string();
    let file = PthTensors::new(path, None).map_err(text)?;
    let mut found = BTreeMap::new();
    for (name, info) in file.tensor_infos() {
        // Checked before room is made for it.
        let fits = info
            .layout
            .dims()
            .iter()
            .try_fold(info.dtype.size_in_bytes() as u64, |size, length| {
                size.checked_mul(*length as u64)
            })
            .is_some_and(|size| size <= bytes);
        if !fits {
            return Err(format!(
                "{name} claims the shape {:?}, more than the file holds",
                info.layout.dims()
            ));
        }
        if !info.dtype.is_float() {
            continue;
        }
        if let Some(tensor) = file.get(name).map_err(text)? {
            let tensor = tensor
                .to_dtype(DType::F32)
                .and_then(|t| t.to_device(device));
            found.insert(name.clone(), tensor.map_err(text)?);
        }
    }
    Ok(found)
}
