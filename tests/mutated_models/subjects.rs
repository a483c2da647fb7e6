//! What is read: models of every family and layout, scorers, the records behind the handles.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device};
use foreseed::backbones::{Adapter, ModelFiles, load};
use foreseed::candidate::{Candidate, Handle, Seed, Settings};
use foreseed::probe::Probe;
use foreseed::store::Store;
use foreseed::{Result, scorers};

/// A folder of files, and who reads it.
pub struct Subject {
    pub name: &'static str,
    pub folder: PathBuf,
    pub read: fn(&Path) -> Result<()>,
}

fn goldens(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(path)
}

/// All of them; those that are no golden are made in `scratch`.
pub fn all(scratch: &Path) -> Vec<Subject> {
    let golden = |name, path: &str, read| Subject {
        name,
        folder: goldens(path),
        read,
    };
    let made = |name, read, make: fn(&Path)| {
        let folder = scratch.join(name);
        fs::create_dir_all(&folder).unwrap();
        make(&folder);
        Subject { name, folder, read }
    };
    vec![
        golden("sdxl", "sdxl/epsilon", model),
        golden("sdxl in shards", "sdxl/velocity", model),
        golden("sdxl in half precision", "sdxl/sample", model),
        golden("flux", "flux/schnell", model),
        golden("flux in shards", "flux/dev", model),
        golden("qwen-image", "qwen/plain", model),
        golden("qwen-image in shards", "qwen/published", model),
        golden("a preview decoder", "preview", model_part),
        golden("a checkpoint and LoRAs", "owned", checkpoint),
        golden("scorers", "scorers", all_scorers),
        made("a gguf file", gguf, make_gguf),
        made("records", records, make_records),
        made("a probe", probe, make_probe),
    ]
}

/// The model in this folder, its weights and its tokenizers.
fn model(folder: &Path) -> Result<()> {
    run(ModelFiles::folder(folder))
}

fn run(files: ModelFiles) -> Result<()> {
    let model = load(files, "damaged", &Device::Cpu, DType::F32)?;
    model.words("a red circle left of a blue square")?;
    let schedule = model.schedule(4, 64, 64)?;
    assert!(schedule.sigmas.len() <= 9);
    Ok(())
}

/// A model whose decoder of previews is another's.
fn model_part(folder: &Path) -> Result<()> {
    let part = folder.join("preview_vae");
    let whole = folder.join("model");
    link(&goldens("sdxl/epsilon"), &whole);
    link(&part, &whole.join("preview_vae"));
    model(&whole)
}

fn checkpoint(folder: &Path) -> Result<()> {
    let file = folder.join("single.safetensors");
    let alone = run(ModelFiles::checkpoint(file, &[folder.join("single")]));
    let adapters = ["kohya", "kohya-original", "noted", "peft"].map(|name| Adapter {
        file: folder.join(format!("lora-{name}.safetensors")),
        weight: 0.7,
    });
    let base = ModelFiles::folder(goldens("sdxl/epsilon"));
    let adapted = base.adapted(&adapters).and_then(run);
    alone.and(adapted)
}

fn all_scorers(folder: &Path) -> Result<()> {
    let mut done = Ok(());
    for (metric, folders) in [
        ("pickscore", &["pickscore"][..]),
        ("hpsv2.1", &["hpsv2.1", "clipscore"]),
        ("imagereward", &["imagereward"]),
        ("clipscore", &["clipscore"]),
        ("aesthetic", &["aesthetic"]),
    ] {
        let folders = folders.iter().map(|f| folder.join(f)).collect();
        let loaded = scorers::load(metric, folders, &Device::Cpu);
        done = done.and(loaded.map(drop));
    }
    done
}

fn gguf(folder: &Path) -> Result<()> {
    let files = ModelFiles::folder(goldens("qwen/plain"));
    run(files.with_denoiser(&folder.join("denoiser.gguf"))?)
}

fn make_gguf(folder: &Path) {
    let weights = goldens("qwen/plain/transformer/diffusion_pytorch_model.safetensors");
    let weights: HashMap<_, _> = candle_core::safetensors::load(weights, &Device::Cpu).unwrap();
    let coded: Vec<(String, QTensor)> = weights
        .into_iter()
        .map(|(name, tensor)| {
            let dtype = match tensor.dims() {
                [_, columns] if columns % 32 == 0 => GgmlDType::Q8_0,
                _ => GgmlDType::F32,
            };
            (name, QTensor::quantize(&tensor, dtype).unwrap())
        })
        .collect();
    let tensors: Vec<(&str, &QTensor)> = coded.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let about = gguf_file::Value::String("qwen_image".into());
    let about = [("general.architecture", &about)];
    let mut file = File::create(folder.join("denoiser.gguf")).unwrap();
    gguf_file::write(&mut file, &about, &tensors).unwrap();
}

fn candidate() -> Candidate {
    Candidate {
        prompt: "a red circle".into(),
        seed: Seed(7),
        settings: Settings {
            model: "pocket".into(),
            negative_prompt: None,
            steps: 25,
            guidance: 5.0,
            width: 64,
            height: 64,
        },
    }
}

fn make_records(folder: &Path) {
    let store = Store::open(folder).unwrap();
    for n in 0..40 {
        let mut one = candidate();
        one.seed = Seed(n);
        let handle = one.handle("weights");
        store.remember("weights", &[(handle.clone(), one)]).unwrap();
        store.keep_score(&handle, "rating", 0.5).unwrap();
    }
}

/// Opened twice: first as one that nobody writes to.
fn records(folder: &Path) -> Result<()> {
    let handle = candidate().handle("weights");
    let read = |store: Store| -> Result<()> {
        store.recall(&handle)?;
        store.recall(&Handle("fs_'; DROP TABLE candidates".into()))?;
        store.renders_after(None, 10)?;
        store.scored("weights", "rating")?;
        store.prompts_like("a", 10).map(drop)
    };
    let in_memory = Store::in_memory(folder).and_then(read);
    in_memory.and(Store::open(folder).and_then(read))
}

fn probe(folder: &Path) -> Result<()> {
    let bytes = fs::read(folder.join("probe")).map_err(foreseed::Error::file(folder))?;
    Probe::from_bytes(&bytes).map(drop)
}

fn make_probe(folder: &Path) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pocket/probes");
    let file = fs::read_dir(shipped).unwrap().next().unwrap().unwrap();
    fs::copy(file.path(), folder.join("probe")).unwrap();
}

/// The same files under another folder, by links as long as nobody changes them.
pub fn link(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let there = to.join(path.file_name().unwrap());
        if path.is_dir() {
            link(&path, &there);
        } else if fs::hard_link(&path, &there).is_err() {
            fs::copy(&path, &there).unwrap();
        }
    }
}

/// The files in a folder and below it, in an order that does not depend on the disk.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}
