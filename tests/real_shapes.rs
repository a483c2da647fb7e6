//! The loader asks the published models for the tensors that they have, by name and shape, and leaves
//! none without a reason.
//!
//! Their weights are of tens of gigabytes. `tests/shapes/make_manifests.py` wrote down every tensor's
//! name and shape; here they become safetensors files that are all hole, which the loader itself opens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device};
use foreseed::backbones::{ComponentAudit, ModelFiles, Placement, audit, needs};
use foreseed::models::Known;
use serde_json::{Map, Value, json};

#[allow(dead_code)]
mod parity;

type Shapes = BTreeMap<String, Vec<usize>>;

/// One component of a manifest.
struct Component {
    name: String,
    manifest: Value,
    tensors: Shapes,
}

fn manifest(model: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shapes");
    let text = fs::read(folder.join(format!("{model}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// `a.0-2,5.b` stands for four names.
fn unfolded(name: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    for part in name.split('.') {
        let numbers: Vec<String> = match part.starts_with(|c: char| c.is_ascii_digit()) {
            false => vec![part.to_owned()],
            true => part
                .split(',')
                .flat_map(|run| {
                    let (first, last) = run.split_once('-').unwrap_or((run, run));
                    let (first, last): (usize, usize) =
                        (first.parse().unwrap(), last.parse().unwrap());
                    (first..=last).map(|n| n.to_string())
                })
                .collect(),
        };
        names = names
            .iter()
            .flat_map(|start| numbers.iter().map(move |n| format!("{start}.{n}")))
            .collect();
    }
    names.iter().map(|name| name[1..].to_owned()).collect()
}

fn components(model: &str) -> Vec<Component> {
    let whole = manifest(model);
    let named = whole["components"].as_object().unwrap();
    named
        .iter()
        .map(|(name, own)| {
            let manifest = match own["same_as"].as_str() {
                Some(other) => manifest(other)["components"][name].clone(),
                None => own.clone(),
            };
            let tensors = manifest["tensors"].as_object().unwrap().iter();
            let tensors = tensors.flat_map(|(name, shape)| {
                let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
                unfolded(name).into_iter().map(move |n| (n, shape.clone()))
            });
            Component {
                name: name.clone(),
                tensors: tensors.collect(),
                manifest,
            }
        })
        .collect()
}

/// How a model's files are written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    /// As they are published.
    Published,
    /// In half precision beside nothing else: `.fp16`, sharded.
    Half,
    /// With the names that libraries wrote before or write since.
    OtherNames,
}

/// A safetensors file of these tensors whose data is a hole in the file.
fn write_hollow(path: &Path, tensors: &Shapes, dtype: &str) {
    let width = if dtype == "F32" { 4 } else { 2 };
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * width;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

fn write_component(folder: &Path, component: &Component, dtype: &str, style: Style) {
    let manifest = &component.manifest;
    let folder = folder.join(&component.name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.json"), manifest["config"].to_string()).unwrap();
    let mut tensors = component.tensors.clone();
    if style == Style::OtherNames {
        for (name, shape) in manifest["extra"].as_object().into_iter().flatten() {
            let shape = serde_json::from_value(shape.clone()).unwrap();
            tensors.insert(name.clone(), shape);
        }
        for other in ["older", "newer"] {
            let Some(renames) = manifest[other].as_object() else {
                continue;
            };
            let renamed = |name: &String| {
                let found = renames.iter().find(|(from, _)| match other {
                    // Beginnings, and parts of attentions.
                    "newer" => name.starts_with(*from),
                    _ => name.contains(*from),
                });
                found.map_or(name.clone(), |(from, to)| {
                    name.replacen(from, to.as_str().unwrap(), 1)
                })
            };
            tensors = tensors
                .iter()
                .map(|(n, s)| (renamed(n), s.clone()))
                .collect();
        }
    }
    let file = manifest["file"].as_str().unwrap();
    let shards = match style {
        Style::Half => 2,
        _ => manifest["shards"].as_u64().unwrap_or(1) as usize,
    };
    let (dtype, variant) = match style {
        Style::Half => ("F16", ".fp16"),
        _ => (dtype, ""),
    };
    if shards == 1 {
        let path = folder.join(format!("{file}{variant}.safetensors"));
        return write_hollow(&path, &tensors, dtype);
    }
    let mut places = Map::new();
    let names: Vec<&String> = tensors.keys().collect();
    for (i, part) in names.chunks(names.len().div_ceil(shards)).enumerate() {
        let shard = format!("{file}{variant}-{:05}-of-{shards:05}.safetensors", i + 1);
        let own: Shapes = part
            .iter()
            .map(|n| ((*n).clone(), tensors[*n].clone()))
            .collect();
        write_hollow(&folder.join(&shard), &own, dtype);
        places.extend(own.into_keys().map(|name| (name, json!(shard))));
    }
    let index = json!({"metadata": {}, "weight_map": places});
    let path = folder.join(format!("{file}.safetensors.index{variant}.json"));
    fs::write(path, index.to_string()).unwrap();
}

/// A folder like the published one, with tokenizers of the tiny models: the vocabularies are no
/// tensors.
fn write_model(model: &str, folder: &Path, style: Style) -> Vec<Component> {
    let whole = manifest(model);
    let components = components(model);
    let mut index = whole["index"].clone();
    for component in &components {
        let manifest = &component.manifest;
        index[&component.name] = json!([manifest["library"], manifest["class"]]);
        write_component(folder, component, whole["dtype"].as_str().unwrap(), style);
    }
    fs::write(folder.join("model_index.json"), index.to_string()).unwrap();
    let scheduler = folder.join("scheduler");
    fs::create_dir_all(&scheduler).unwrap();
    let config = whole["scheduler"].to_string();
    fs::write(scheduler.join("scheduler_config.json"), config).unwrap();
    let tiny = match model {
        "sdxl-base-1.0" => parity::goldens("sdxl").join("epsilon"),
        "qwen-image" => parity::goldens("qwen").join("plain"),
        _ => parity::goldens("flux").join("dev"),
    };
    for tokenizer in ["tokenizer", "tokenizer_2"] {
        if tiny.join(tokenizer).is_dir() {
            parity::copy(&tiny.join(tokenizer), &folder.join(tokenizer));
        }
    }
    components
}

/// Loads the model by its files' headers.
fn audited(model: &str, style: Style) -> (Vec<Component>, Vec<ComponentAudit>) {
    let folder = tempfile::tempdir().unwrap();
    let components = write_model(model, folder.path(), style);
    let audits = audit(ModelFiles::folder(folder.path()), model).unwrap();
    (components, audits)
}

/// Nothing was missing or of another shape, or `audit` would have failed; and all that is left over
/// is so for a reason.
fn assert_nothing_is_unexplained(model: &str, style: Style) -> Vec<ComponentAudit> {
    let (components, audits) = audited(model, style);
    let names: BTreeSet<&str> = audits.iter().map(|a| a.component.as_str()).collect();
    let expected: BTreeSet<&str> = components.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, expected, "{model}");
    for audit in &audits {
        let unexplained: Vec<&String> = audit
            .left
            .iter()
            .filter(|(_, reason)| reason.is_none())
            .map(|(name, _)| name)
            .collect();
        assert!(
            unexplained.is_empty(),
            "{model}, {}: nothing asks for {unexplained:?}, and nothing says why",
            audit.component
        );
        assert!(!audit.taken.is_empty(), "{model}, {}", audit.component);
        let whole = components.iter().find(|c| c.name == audit.component);
        let count = audit.taken.len() + audit.left.len();
        if style != Style::OtherNames {
            assert_eq!(count, whole.unwrap().tensors.len(), "{model}");
        }
    }
    audits
}

const MODELS: [&str; 4] = [
    "sdxl-base-1.0",
    "flux.1-dev",
    "flux.1-schnell",
    "qwen-image",
];

#[test]
fn the_manifests_hold_as_many_numbers_as_the_models_have() {
    for model in MODELS {
        let numbers: usize = components(model)
            .iter()
            .flat_map(|c| c.tensors.values())
            .map(|shape| shape.iter().product::<usize>())
            .sum();
        let published = manifest(model)["parameters"].as_u64().unwrap() as f64;
        let off = (numbers as f64 - published).abs() / published;
        assert!(off < 0.005, "{model}: {numbers} numbers of {published}");
    }
}

#[test]
fn sdxl_takes_every_tensor_of_the_published_files_or_says_why_not() {
    let audits = assert_nothing_is_unexplained("sdxl-base-1.0", Style::Published);
    let left = |component: &str| -> BTreeSet<String> {
        let audit = audits.iter().find(|a| a.component == component).unwrap();
        let first = |name: &String| name.split('.').next().unwrap().to_owned();
        audit.left.iter().map(|(name, _)| first(name)).collect()
    };
    assert_eq!(left("unet"), BTreeSet::new());
    assert_eq!(left("text_encoder"), BTreeSet::new());
    let encoder = BTreeSet::from(["encoder".to_owned(), "quant_conv".to_owned()]);
    assert_eq!(left("vae"), encoder);
}

#[test]
fn flux_takes_every_tensor_of_the_published_files_or_says_why_not() {
    for model in ["flux.1-dev", "flux.1-schnell"] {
        assert_nothing_is_unexplained(model, Style::Published);
    }
}

#[test]
fn qwen_image_takes_every_tensor_of_the_published_files_or_says_why_not() {
    let audits = assert_nothing_is_unexplained("qwen-image", Style::Published);
    let text = audits.iter().find(|a| a.component == "text_encoder");
    let left = &text.unwrap().left;
    assert!(left.iter().any(|(name, _)| name == "lm_head.weight"));
    assert!(left.iter().any(|(name, _)| name.starts_with("visual.")));
}

#[test]
fn names_of_older_and_newer_libraries_are_taken_as_well() {
    for model in MODELS {
        assert_nothing_is_unexplained(model, Style::OtherNames);
    }
}

#[test]
fn sharded_variants_in_half_precision_are_taken() {
    for model in ["sdxl-base-1.0", "flux.1-schnell"] {
        assert_nothing_is_unexplained(model, Style::Half);
    }
}

#[test]
fn a_tensor_that_is_missing_or_of_another_shape_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut components = write_model("sdxl-base-1.0", folder.path(), Style::Published);
    let unet = components.iter_mut().find(|c| c.name == "unet").unwrap();
    let name = "mid_block.attentions.0.transformer_blocks.9.attn2.to_k.weight";
    let shape = unet.tensors.insert(name.into(), vec![1280, 1280]).unwrap();
    assert_eq!(shape, [1280, 2048]);
    write_component(folder.path(), unet, "F32", Style::Published);
    let refusal = || {
        let files = ModelFiles::folder(folder.path());
        audit(files, "sdxl").unwrap_err().to_string()
    };
    let said = refusal();
    for part in [name, "[1280, 1280]", "[1280, 2048]"] {
        assert!(said.contains(part), "{said}");
    }
    unet.tensors.remove(name);
    write_component(folder.path(), unet, "F32", Style::Published);
    let said = refusal();
    assert!(said.contains(&format!("{name} is missing")), "{said}");
}

#[test]
fn a_known_model_says_what_it_needs_before_it_is_here_as_its_files_say_it() {
    let placement = Placement::new(&Device::Cpu, DType::BF16);
    for (model, name) in MODELS
        .iter()
        .zip(["sdxl", "flux-dev", "flux-schnell", "qwen-image"])
    {
        let folder = tempfile::tempdir().unwrap();
        write_model(model, folder.path(), Style::Published);
        let by_files = needs(ModelFiles::folder(folder.path()), name, &placement).unwrap();
        let told = Known::named(name).unwrap().needs(&placement).unwrap();
        assert_eq!(told, by_files, "{name}");
    }
}
