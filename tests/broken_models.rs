//! A model folder that cannot be used is refused with words that name the file and the tensor,
//! never with a panic.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use foreseed::backbones::{self, ModelFiles};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What is said of a copy of a golden model after `damage` was done to it.
fn refusal(damage: impl FnOnce(&Path)) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("model");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sdxl/epsilon");
    copy(&golden, &folder);
    damage(&folder);
    match backbones::load(
        ModelFiles::folder(&folder),
        "tiny",
        &Device::Cpu,
        DType::F32,
    ) {
        Ok(_) => panic!("a damaged model was loaded"),
        Err(error) => error.to_string(),
    }
}

fn weights(folder: &Path) -> PathBuf {
    folder.join("unet/diffusion_pytorch_model.safetensors")
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} lacks {from}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_missing_tensor_is_named() {
    let said = refusal(|folder| {
        let path = weights(folder);
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        tensors.remove("mid_block.resnets.1.conv2.weight").unwrap();
        candle_core::safetensors::save(&tensors, &path).unwrap();
    });
    assert!(
        said.contains("mid_block.resnets.1.conv2.weight is missing"),
        "{said}"
    );
    assert!(said.contains("unet/"), "{said}");
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let said = refusal(|folder| {
        let path = weights(folder);
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let other = Tensor::zeros((3, 3), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("conv_in.weight".into(), other);
        candle_core::safetensors::save(&tensors, &path).unwrap();
    });
    assert!(said.contains("conv_in.weight"), "{said}");
    assert!(
        said.contains("[3, 3]") && said.contains("[8, 4, 3, 3]"),
        "{said}"
    );
}

#[test]
fn files_that_are_cut_short_empty_or_something_else_are_named() {
    let whole = fs::read(weights(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sdxl/epsilon"),
    ))
    .unwrap();
    let mut huge_header = whole.clone();
    huge_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let contents = [
        ("cut short", whole[..whole.len() - 1].to_vec()),
        ("cut in the header", whole[..100].to_vec()),
        ("empty", Vec::new()),
        (
            "something else",
            b"this is no safetensors file at all".to_vec(),
        ),
        ("a header without end", huge_header),
    ];
    for (what, bytes) in contents {
        let said = refusal(|folder| fs::write(weights(folder), bytes).unwrap());
        assert!(
            said.contains(
                "unet/diffusion_pytorch_model.safetensors is not a whole safetensors file"
            ),
            "{what}: {said}"
        );
    }
}

#[test]
fn classes_that_are_not_supported_are_refused_by_name_with_what_is() {
    let said = refusal(|folder| {
        edit(
            &folder.join("model_index.json"),
            "StableDiffusionXLPipeline",
            "Flux2Pipeline",
        );
    });
    assert!(
        said.contains("Flux2Pipeline") && said.contains("StableDiffusionXLPipeline"),
        "{said}"
    );
    let said = refusal(|folder| {
        let path = folder.join("scheduler/scheduler_config.json");
        edit(&path, "EulerDiscreteScheduler", "LMSDiscreteScheduler");
    });
    assert!(said.contains("LMSDiscreteScheduler"), "{said}");
    assert!(said.contains("EulerDiscreteScheduler, "), "{said}");
    let said = refusal(|folder| {
        edit(
            &folder.join("unet/config.json"),
            "\"DownBlock2D\"",
            "\"KDownBlock2D\"",
        );
    });
    assert!(
        said.contains("KDownBlock2D") && said.contains("unet/config.json"),
        "{said}"
    );
}

#[test]
fn settings_of_the_unet_that_would_be_ignored_are_refused_by_name() {
    let said = refusal(|folder| {
        let path = folder.join("unet/config.json");
        edit(
            &path,
            "\"dual_cross_attention\": false",
            "\"dual_cross_attention\": true",
        );
    });
    assert!(
        said.contains("dual_cross_attention = true is not supported"),
        "{said}"
    );
}

#[test]
fn a_missing_folder_file_or_component_is_named() {
    let said = refusal(|folder| fs::remove_file(folder.join("model_index.json")).unwrap());
    assert!(said.contains("there is no file model_index.json"), "{said}");
    let said = refusal(|folder| fs::remove_dir_all(folder.join("vae")).unwrap());
    assert!(said.contains("vae/config.json"), "{said}");
    let said = refusal(|folder| fs::remove_file(weights(folder)).unwrap());
    assert!(said.contains("no weights in unet/"), "{said}");
    let said = refusal(|folder| fs::remove_file(folder.join("tokenizer/merges.txt")).unwrap());
    assert!(said.contains("tokenizer/ has neither"), "{said}");
}
