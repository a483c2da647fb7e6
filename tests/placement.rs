//! Where a model's parts are put changes no number: pictures decoded in tiles are diffusers' with
//! `enable_tiling`, and text encoders that are dropped after use give what those give that stay.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use foreseed::backbones::{Adapter, Backbone, ModelFiles, Placement, Residence, load_at, needs};

/// max|ours − reference| / max|reference|
const BAR: f32 = 2e-4;

fn goldens(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(part)
}

fn placement() -> Placement {
    Placement::new(&Device::Cpu, DType::F32)
}

fn loaded(model: &str, placement: &Placement) -> Box<dyn Backbone> {
    load_at(ModelFiles::folder(goldens(model)), model, placement).unwrap()
}

fn largest(t: &Tensor) -> f32 {
    let largest = t.abs().and_then(|t| t.flatten_all()?.max(0)).unwrap();
    largest.to_scalar().unwrap()
}

#[test]
fn a_picture_in_tiles_is_diffusers_of_every_family() {
    for (model, side) in [
        ("sdxl/epsilon", 32),
        ("sdxl/velocity", 24),
        ("flux/dev", 32),
        ("qwen/published", 32),
    ] {
        let golden = format!("tiled/{}-{side}.safetensors", model.replace('/', "-"));
        let golden = candle_core::safetensors::load(goldens(&golden), &Device::Cpu).unwrap();
        let (latents, image) = (&golden["latents"], &golden["image"]);
        let tiled = Placement {
            tile: Some(side),
            ..placement()
        };
        let ours = loaded(model, &tiled).decode(latents).unwrap();
        assert_eq!(ours.dims(), image.dims(), "{model}");
        let off = largest(&(&ours - image).unwrap()) / largest(image);
        assert!(off <= BAR, "{model}: {off}");
        // Tiles see less than the whole: the two are not the same picture.
        let whole = loaded(model, &placement()).decode(latents).unwrap();
        assert!(largest(&(&whole - image).unwrap()) > 1e-3, "{model}");
    }
}

#[test]
fn dropped_text_encoders_give_the_texts_of_kept_ones_to_the_bit() {
    for (model, guidance) in [
        ("sdxl/epsilon", 5.0),
        ("flux/dev", 3.5),
        ("qwen/published", 4.0),
    ] {
        let dropping = Placement {
            texts: Residence::Dropped,
            ..placement()
        };
        let (kept, dropped) = (loaded(model, &placement()), loaded(model, &dropping));
        assert_eq!(kept.facts().weight_bytes, dropped.facts().weight_bytes);
        let negative = (!model.starts_with("flux")).then_some("blurry");
        let of = |model: &dyn Backbone| model.encode("a red circle", negative, guidance).unwrap();
        for _ in 0..2 {
            let (one, other) = (of(kept.as_ref()), of(dropped.as_ref()));
            let states = |c: &foreseed::backbones::Conditioning| {
                let halves = std::iter::once(&c.positive).chain(&c.negative);
                let tensors = halves.flat_map(|s| std::iter::once(&s.embeds).chain(&s.pooled));
                tensors.cloned().collect::<Vec<_>>()
            };
            let (one, other) = (states(&one), states(&other));
            assert_eq!(one.len(), other.len());
            for (one, other) in one.iter().zip(&other) {
                assert_eq!(largest(&(one - other).unwrap()), 0.0, "{model}");
            }
        }
    }
}

#[test]
fn text_encoders_that_are_dropped_still_miss_a_tensor_at_load() {
    for (model, component) in [
        ("flux/dev", "text_encoder_2"),
        ("sdxl/epsilon", "text_encoder"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        copy(&goldens(model), folder.path());
        let path = folder.path().join(component).join("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let last = tensors
            .keys()
            .filter(|name| name.contains("layer"))
            .max()
            .cloned()
            .unwrap();
        tensors.remove(&last);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let dropping = Placement {
            texts: Residence::Dropped,
            ..placement()
        };
        let error = load_at(ModelFiles::folder(folder.path()), "cut", &dropping)
            .err()
            .unwrap();
        assert!(error.to_string().contains("is missing"), "{error}");
    }
}

#[test]
fn what_is_needed_is_what_is_loaded() {
    for model in ["sdxl/epsilon", "flux/dev", "flux/schnell", "qwen/published"] {
        let needs = needs(ModelFiles::folder(goldens(model)), model, &placement()).unwrap();
        let loaded = loaded(model, &placement()).facts().weight_bytes;
        let told = needs.resident_bytes() + needs.texts_weight_bytes();
        // A few tensors that nothing reads are told as well.
        assert!(
            told >= loaded && (told as f64) < 1.1 * loaded as f64,
            "{model}: {told}, {loaded}"
        );
        assert!(needs.text_bytes <= needs.texts_weight_bytes());
        assert!(needs.least() <= needs.whole());
    }
}

#[test]
fn loras_of_dropped_text_encoders_are_merged() {
    let adapter = Adapter {
        file: goldens("owned/lora-kohya.safetensors"),
        weight: 0.7,
    };
    let encode = |texts| {
        let files = ModelFiles::folder(goldens("sdxl/epsilon"))
            .adapted(std::slice::from_ref(&adapter))
            .unwrap();
        let placement = Placement {
            texts,
            ..placement()
        };
        let loaded = load_at(files, "adapted", &placement).unwrap();
        loaded
            .encode("a red circle", None, 5.0)
            .unwrap()
            .positive
            .embeds
    };
    let (kept, dropped) = (encode(Residence::Kept), encode(Residence::Dropped));
    assert_eq!(largest(&(&kept - &dropped).unwrap()), 0.0);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}
