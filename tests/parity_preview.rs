//! The decoders for previews give what diffusers' AutoencoderTiny and the recipe's SubPixelDecoder give,
//! on tiny random ones that `tests/goldens/make_preview.py` made, beside a tiny random pipeline.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use foreseed::backbones::{ModelFiles, load};

/// max|ours − reference| / max|reference|
const BAR: f32 = 2e-4;

fn goldens(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(part)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
}

fn largest(t: &Tensor) -> f32 {
    let largest = t.abs().and_then(|t| t.flatten_all()?.max(0)).unwrap();
    largest.to_scalar().unwrap()
}

fn decoded(folder: &Path, latents: &Tensor) -> [Tensor; 2] {
    let cpu = &Device::Cpu;
    let model = load(ModelFiles::folder(folder), "golden", cpu, DType::F32).unwrap();
    [
        model.preview(latents).unwrap(),
        model.decode(latents).unwrap(),
    ]
}

/// (latents, image) of a golden decoder.
fn golden(kind: &str) -> (Tensor, Tensor) {
    let path = goldens(kind).join("golden.safetensors");
    let mut golden = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut take = |name| golden.remove(name).unwrap();
    (take("latents"), take("image"))
}

/// A tiny random pipeline, without a decoder for previews.
fn pipeline() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&goldens("sdxl/epsilon"), folder.path());
    folder
}

/// Gives the pipeline a golden decoder.
fn give(kind: &str, pipeline: &Path) {
    copy(
        &goldens(kind).join("preview_vae"),
        &pipeline.join("preview_vae"),
    );
}

fn assert_within_the_bar(preview: &Tensor, image: &Tensor) {
    assert_eq!(preview.dims(), image.dims());
    let difference = largest(&(preview - image).unwrap()) / largest(image);
    assert!(difference < BAR, "{difference:e}");
}

#[test]
fn a_sub_pixel_preview_is_the_recipes_within_the_bar() {
    let (latents, image) = golden("subpixel");
    let folder = pipeline();
    give("subpixel", folder.path());
    let [preview, _] = decoded(folder.path(), &latents);
    assert_within_the_bar(&preview, &image);
}

#[test]
fn a_preview_is_diffusers_within_the_bar_and_the_vaes_where_a_model_has_no_decoder_for_it() {
    let (latents, image) = golden("preview");
    let folder = pipeline();
    let [preview, whole] = decoded(folder.path(), &latents);
    assert_eq!(largest(&(&preview - &whole).unwrap()), 0.0);

    give("preview", folder.path());
    let [preview, again] = decoded(folder.path(), &latents);
    assert_within_the_bar(&preview, &image);
    assert_eq!(largest(&(&again - &whole).unwrap()), 0.0);
}

#[test]
fn a_decoder_for_previews_that_cannot_be_built_is_named() {
    let folder = pipeline();
    let config_path = folder.path().join("preview_vae/config.json");
    for (kind, right, wrong, says) in [
        ("preview", "\"nearest\"", "\"bilinear\"", "bilinear"),
        (
            "preview",
            "\"latent_channels\": 4",
            "\"latent_channels\": 16",
            "16",
        ),
        (
            "preview",
            "\"out_channels\": 3",
            "\"out_channels\": 1",
            "out_channels",
        ),
        (
            "subpixel",
            "\"latent_channels\": 4",
            "\"latent_channels\": 16",
            "16",
        ),
        ("subpixel", "\"pixels\": 4", "\"pixels\": 0", "0 pixels"),
        (
            "subpixel",
            "\"head_channels\": 10",
            "\"head_channels\": 9",
            "head",
        ),
        ("subpixel", "\"blocks\"", "\"blocs\"", "blocs"),
    ] {
        give(kind, folder.path());
        let config = fs::read_to_string(&config_path).unwrap();
        assert!(config.contains(right), "{right}");
        fs::write(&config_path, config.replace(right, wrong)).unwrap();
        let files = ModelFiles::folder(folder.path());
        let refused = load(files, "golden", &Device::Cpu, DType::F32);
        let error = refused.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(says), "{wrong}: {error}");
    }
}
