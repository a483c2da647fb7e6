//! `foreseed trace` gives what diffusers gives for SDXL as people own it: one file in the original key
//! layout, and LoRAs of every layout in use, on tiny random pipelines that
//! `tests/goldens/make_owned.py` made. And what is not such a file is refused in words.

#[allow(dead_code)]
mod parity;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use foreseed::backbones::{Adapter, ModelFiles, load};

#[test]
fn every_tensor_is_diffusers_within_the_bar() {
    parity::assert_every_tensor_is_diffusers("owned");
}

fn owned(name: &str) -> PathBuf {
    parity::goldens("owned").join(name)
}

/// What `trace` says of this model when it refuses.
fn refusal(model: &Path, more: &[&str]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out.safetensors");
    let mut arguments = vec![
        "--prompt", "a", "--steps", "1", "--seed", "1", "--width", "16", "--height", "16",
    ];
    arguments.extend(more);
    let done = parity::trace(model, &arguments, &out);
    assert!(!done.status.success() && !out.exists());
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn fingerprint(adapters: &[(&str, f64)]) -> String {
    let adapters: Vec<Adapter> = adapters
        .iter()
        .map(|(file, weight)| Adapter {
            file: owned(file),
            weight: *weight,
        })
        .collect();
    let files = ModelFiles::folder(parity::goldens("sdxl").join("epsilon"));
    let files = files.adapted(&adapters).unwrap();
    let model = load(files, "golden", &Device::Cpu, DType::F32).unwrap();
    model.facts().fingerprint.clone()
}

#[test]
fn a_lora_and_its_weight_make_another_model() {
    let prints = [
        fingerprint(&[]),
        fingerprint(&[("lora-peft.safetensors", 1.0)]),
        fingerprint(&[("lora-peft.safetensors", 0.5)]),
        fingerprint(&[("lora-noted.safetensors", 1.0)]),
        fingerprint(&[
            ("lora-peft.safetensors", 1.0),
            ("lora-noted.safetensors", 1.0),
        ]),
    ];
    for (i, print) in prints.iter().enumerate() {
        assert!(!prints[..i].contains(print), "{i}");
    }
    assert_eq!(prints[1], fingerprint(&[("lora-peft.safetensors", 1.0)]));
}

#[test]
fn a_folder_brings_its_own_loras_along() {
    let folder = tempfile::tempdir().unwrap();
    parity::copy(&parity::goldens("sdxl").join("epsilon"), folder.path());
    std::fs::copy(
        owned("lora-peft.safetensors"),
        folder.path().join("style.safetensors"),
    )
    .unwrap();
    let own = r#"{"loras": [{"file": "style.safetensors", "weight": 0.5}]}"#;
    std::fs::write(folder.path().join("foreseed.json"), own).unwrap();
    let files = ModelFiles::folder(folder.path());
    let model = load(files, "golden", &Device::Cpu, DType::F32).unwrap();
    assert_eq!(
        model.facts().fingerprint,
        fingerprint(&[("lora-peft.safetensors", 0.5)])
    );
    let outside = r#"{"loras": [{"file": "../style.safetensors"}]}"#;
    std::fs::write(folder.path().join("foreseed.json"), outside).unwrap();
    assert_says(&refusal(folder.path(), &[]), &["outside of its folder"]);
}

#[test]
fn a_lora_of_another_model_or_kind_is_refused() {
    let epsilon = parity::goldens("sdxl").join("epsilon");
    let scratch = tempfile::tempdir().unwrap();
    let lora = scratch.path().join("lora.safetensors");
    let refused = |tensors: &[(&str, &[usize])]| {
        let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let named = tensors.iter().map(|(name, shape)| (*name, tensor(shape)));
        let named: HashMap<&str, Tensor> = named.collect();
        candle_core::safetensors::save(&named, &lora).unwrap();
        refusal(&epsilon, &["--lora", &lora.display().to_string()])
    };
    let foreign = "lora_unet_down_blocks_9_attentions_0_proj_in";
    let (down, up) = (
        format!("{foreign}.lora_down.weight"),
        format!("{foreign}.lora_up.weight"),
    );
    let said = refused(&[(&down, &[2, 16]), (&up, &[16, 2])]);
    assert_says(
        &said,
        &["down_blocks_9_attentions_0_proj_in", "another model"],
    );
    let said = refused(&[(&down, &[2, 16])]);
    assert_says(&said, &["one matrix of two"]);
    let said = refused(&[("lora_unet_conv_in.hada_w1_a", &[2, 2])]);
    assert_says(&said, &["hada_w1_a", "LoHa"]);
    let module = "unet.mid_block.attentions.0.proj_in";
    let (down, up) = (
        format!("{module}.lora_A.weight"),
        format!("{module}.lora_B.weight"),
    );
    let said = refused(&[(&down, &[2, 5]), (&up, &[16, 2])]);
    assert_says(&said, &["[2, 5]", "mid_block.attentions.0.proj_in.weight"]);
    assert_says(
        &refusal(&epsilon, &["--lora", "nowhere.safetensors"]),
        &["nowhere.safetensors", "FILE=0.8"],
    );
    assert_says(&refusal(&epsilon, &["--lora", "x=y"]), &["is no weight"]);
}

#[test]
fn a_single_file_without_a_tokenizer_says_where_to_get_one() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("mine.safetensors");
    std::fs::copy(owned("single.safetensors"), &file).unwrap();
    // Whatever the machine's own cache has is out of the way with an empty folder that is named.
    let empty = scratch.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = refusal(&file, &["--model-config", &empty.display().to_string()]);
    assert_says(&said, &["tokenizer", "--model-config", "hf download"]);
    let config = owned("single").display().to_string();
    let out = scratch.path().join("out.safetensors");
    let arguments = [
        "--prompt",
        "a",
        "--steps",
        "1",
        "--seed",
        "1",
        "--width",
        "16",
        "--height",
        "16",
        "--model-config",
        &config,
    ];
    let done = parity::trace(&file, &arguments, &out);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(out.exists());
}

#[test]
fn other_single_files_are_refused_by_what_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, what) in [
        ("cond_stage_model.transformer.x", "Stable Diffusion 1 or 2"),
        ("conditioner.embedders.0.model.ln_final.weight", "refiner"),
        ("double_blocks.0.img_attn.qkv.weight", "FLUX"),
        ("lora_unet_conv_in.alpha", "--lora"),
        ("model.diffusion_model.out.2.weight", "it has no vae"),
    ] {
        let file = scratch.path().join("other.safetensors");
        let tensor = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
        let tensors = HashMap::from([(name, tensor)]);
        candle_core::safetensors::save(&tensors, &file).unwrap();
        assert_says(&refusal(&file, &[]), &[what]);
    }
    let file = scratch.path().join("model.ckpt");
    std::fs::write(&file, b"x").unwrap();
    assert_says(&refusal(&file, &[]), &[".safetensors"]);
}
