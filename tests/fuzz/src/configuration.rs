//! Every configuration and tokenizer file of a model of each family, of the scorers, and what a collection
//! of trajectories says of itself: the input stands for one file among those of a whole folder.

#![no_main]

use std::path::Path;

use candle_core::Device;
use foreseed::backbones::ModelFiles;
use foreseed::backbones::fuzzed::model;
use foreseed::models::folder::{draws_shapes_only, survey};
use foreseed::probe::{manifest::Manifest, prompts::Source};
use foreseed::{Result, scorers};
use foreseed_fuzz::Reader;
use foreseed_fuzz::folders::{Copy, files, golden};

foreseed_fuzz::target!(readers);

const MODELS: [(&str, &str); 7] = [
    ("sdxl", "sdxl/epsilon"),
    ("sdxl-velocity", "sdxl/velocity"),
    ("sdxl-fp16", "sdxl/sample"),
    ("flux-dev", "flux/dev"),
    ("flux-schnell", "flux/schnell"),
    ("qwen-image", "qwen/plain"),
    ("qwen-image-published", "qwen/published"),
];

const SCORERS: [(&str, &str); 4] = [
    ("pickscore", "scorers/pickscore"),
    ("clipscore", "scorers/clipscore"),
    ("imagereward", "scorers/imagereward"),
    ("aesthetic", "scorers/aesthetic"),
];

const OWN: &str = r#"{"steps": 4, "guidance": 3.5, "width": 64, "height": 64,
    "max_sequence_length": 64, "loras": [{"file": "lora.safetensors", "weight": 0.5}]}"#;

const MANIFEST: &str = r#"{"format": 1}"#;

const PROMPTS: &str = "a red circle\n\n{\"prompt\": \"a blue star\", \"scene\": \"star\"}\n";

fn whole(folder: &Path) -> Result<()> {
    survey(folder, None)?;
    draws_shapes_only(folder);
    model(ModelFiles::folder(folder).named("fuzzed"))
}

/// A reader for each file that holds no weights.
fn each_file(copy: &Copy, original: &Path, read: fn(&Path) -> Result<()>) -> Vec<Reader> {
    let files = files(original).into_iter();
    let texts = files.filter(|(path, _)| {
        let extension = path.extension().and_then(|e| e.to_str());
        matches!(extension, Some("json" | "txt" | "model"))
    });
    texts
        .filter_map(|(path, _)| Some(copy.with(path.to_str()?, Vec::new(), read)))
        .collect()
}

fn readers() -> Vec<Reader> {
    let mut readers = Vec::new();
    for (name, path) in MODELS {
        let copy = Copy::of(name, golden(path));
        readers.extend(each_file(&copy, &golden(path), whole));
        if name == "sdxl" || name == "qwen-image" {
            readers.push(copy.with("foreseed.json", vec![OWN.into()], whole));
        }
    }
    for (metric, path) in SCORERS {
        let copy = Copy::of(metric, golden(path));
        let read: fn(&Path) -> Result<()> = match metric {
            "pickscore" => |folder| score("pickscore", folder),
            "clipscore" => |folder| score("clipscore", folder),
            "imagereward" => |folder| score("imagereward", folder),
            _ => |folder| score("aesthetic", folder),
        };
        readers.extend(each_file(&copy, &golden(path), read));
    }
    let collected = Copy::empty("a collection");
    readers.push(
        collected.with("manifest.json", vec![MANIFEST.into()], |folder| {
            Manifest::read(folder).map(drop)
        }),
    );
    readers.push(collected.with("prompts", vec![PROMPTS.into()], |folder| {
        Source::file(&folder.join("prompts")).map(drop)
    }));
    readers
}

fn score(metric: &str, folder: &Path) -> Result<()> {
    scorers::load(metric, vec![folder.to_owned()], &Device::Cpu).map(drop)
}
