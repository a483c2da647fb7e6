//! Small files of weights, where those in the tree are large.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::folders::golden;

type Failure = Box<dyn std::error::Error>;
type Sample = Result<Vec<u8>, Failure>;

fn ramp(shape: &[usize], dtype: DType) -> candle_core::Result<Tensor> {
    let numbers: usize = shape.iter().product();
    Tensor::arange(0f32, numbers as f32, &Device::Cpu)?
        .affine(0.01, -0.3)?
        .reshape(shape)?
        .to_dtype(dtype)
}

/// Tensors of every number that is read, and of one that is not.
pub fn safetensors() -> Sample {
    let mut tensors = HashMap::new();
    for (name, dtype) in [
        ("a.weight", DType::F32),
        ("a.bias", DType::F16),
        ("b.weight", DType::BF16),
        ("b.0.weight", DType::F64),
        ("c", DType::U8),
    ] {
        let shape: &[usize] = if name.ends_with("weight") {
            &[4, 3]
        } else {
            &[5]
        };
        tensors.insert(name.to_string(), ramp(shape, dtype)?);
    }
    Ok(safetensors::serialize(&tensors, None)?)
}

/// A GGUF file of a transformer of each layout, in every coding that candle writes.
pub fn gguf(scratch: &Path, names: &[&str]) -> Sample {
    let codings = [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q5_1,
        GgmlDType::Q4K,
        GgmlDType::Q6K,
    ];
    let mut tensors = Vec::new();
    for (name, coding) in names.iter().zip(codings.iter().cycle()) {
        let columns = coding.block_size().max(32);
        let tensor = ramp(&[6, columns], DType::F32)?;
        tensors.push((*name, QTensor::quantize(&tensor, *coding)?));
    }
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(n, t)| (*n, t)).collect();
    let about = gguf_file::Value::String("flux".into());
    let path = scratch.join("sample.gguf");
    let mut file = fs::File::create(&path)?;
    gguf_file::write(&mut file, &[("general.architecture", &about)], &tensors)?;
    drop(file);
    Ok(fs::read(path)?)
}

/// Some tensors of a single-file checkpoint: the smallest of every place in its tree of names.
pub fn checkpoint() -> Sample {
    let whole = fs::read(golden("owned/single.safetensors"))?;
    let file = SafeTensors::deserialize(&whole)?;
    let mut kept: BTreeMap<String, (String, TensorView<'_>)> = BTreeMap::new();
    for (name, view) in file.tensors() {
        let place: Vec<&str> = name.split('.').take(4).collect();
        let place = place.join(".");
        let smaller = |(_, have): &(String, TensorView<'_>)| view.data().len() < have.data().len();
        if kept.get(&place).is_none_or(smaller) {
            kept.insert(place, (name, view));
        }
    }
    Ok(safetensors::serialize(kept.into_values(), None)?)
}

/// The shipped probe with its smallest design alone, of one network.
pub fn probe() -> Sample {
    const KEY: &str = "foreseed_probe";
    let whole = fs::read(crate::folders::tree(
        "models/pocket/probes/composition.safetensors",
    ))?;
    let file = SafeTensors::deserialize(&whole)?;
    let (_, metadata) = SafeTensors::read_metadata(&whole)?;
    let notes = metadata.metadata().as_ref().ok_or("a probe has notes")?;
    let mut header: Value = serde_json::from_str(notes.get(KEY).ok_or("a probe says what it is")?)?;
    let mut sizes = BTreeMap::<String, usize>::new();
    for (name, view) in file.tensors() {
        let mut parts = name.split('/');
        if let (Some(design), Some("0")) = (parts.next(), parts.next()) {
            *sizes.entry(design.to_owned()).or_default() += view.data().len();
        }
    }
    let smallest = sizes.iter().min_by_key(|(_, size)| **size);
    let smallest = smallest.ok_or("a probe has networks")?.0.as_str();
    let of_it = |name: &str| name.starts_with(&format!("{smallest}/0/"));
    let members = header["members"].as_array().ok_or("a probe has members")?;
    let mut own: Vec<Value> = members
        .iter()
        .filter(|member| member["design"].as_str().is_some_and(|d| d == smallest))
        .cloned()
        .collect();
    own.iter_mut().for_each(|m| m["networks"] = json!(1));
    header["members"] = Value::Array(own);
    let tensors = file.tensors().into_iter().filter(|(name, _)| of_it(name));
    let notes = HashMap::from([(KEY.to_owned(), header.to_string())]);
    Ok(safetensors::serialize(tensors, Some(notes))?)
}
