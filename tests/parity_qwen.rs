//! `foreseed trace` gives what diffusers gives, on tiny random pipelines that
//! `tests/goldens/make_qwen.py` made: texts, latents after every step, attention maps, the image.
//! And what Qwen-Image's loader cannot do is refused in words.

#[allow(dead_code)]
mod parity;

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use foreseed::backbones::{self, Backbone, ModelFiles};

#[test]
fn every_tensor_is_diffusers_within_the_bar() {
    parity::assert_every_tensor_is_diffusers("qwen");
}

fn load(folder: &Path) -> foreseed::Result<Box<dyn Backbone>> {
    let files = ModelFiles::folder(folder);
    backbones::load(files, "tiny", &Device::Cpu, DType::F32)
}

fn golden(model: &str) -> Box<dyn Backbone> {
    load(&parity::goldens("qwen").join(model)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

/// What is said of the golden model `plain` when `from` in one of its files is made `to`.
fn refusal(path: &str, from: &str, to: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    copy(&parity::goldens("qwen").join("plain"), folder.path());
    let path = folder.path().join(path);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{} lacks {from}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
    match load(folder.path()) {
        Ok(_) => panic!("a changed model was loaded"),
        Err(error) => error.to_string(),
    }
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn other_pipelines_of_the_name_are_refused_with_what_is_supported() {
    for other in ["QwenImageEditPlusPipeline", "QwenImage21Pipeline"] {
        let text = refusal("model_index.json", "QwenImagePipeline", other);
        assert_says(
            &text,
            &[other, "QwenImagePipeline", "StableDiffusionXLPipeline"],
        );
    }
    let (own, other) = ("QwenImageTransformer2DModel", "QwenImage21Transformer");
    let text = refusal("model_index.json", own, other);
    assert_says(&text, &["transformer", own, other]);
    let (own, other) = (
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
    );
    let text = refusal("model_index.json", own, other);
    assert_says(&text, &["text_encoder", own, other]);
}

#[test]
fn another_architecture_under_the_same_classes_is_refused_by_what_makes_it_one() {
    let config = "transformer/config.json";
    for (from, to, name) in [
        (
            "\"use_layer3d_rope\": false",
            "\"use_layer3d_rope\": true",
            "use_layer3d_rope",
        ),
        (
            "\"guidance_embeds\": false",
            "\"guidance_embeds\": true",
            "guidance_embeds",
        ),
        (
            "\"zero_cond_t\"",
            "\"refiner_layers\": 2, \"zero_cond_t\"",
            "refiner_layers",
        ),
    ] {
        let text = refusal(config, from, to);
        assert_says(&text, &[config, name, "Qwen-Image-2512"]);
    }
}

#[test]
fn what_the_files_and_the_configuration_do_not_agree_on_is_named() {
    let text = refusal(
        "transformer/config.json",
        "\"num_layers\": 2",
        "\"num_layers\": 3",
    );
    assert_says(&text, &["transformer_blocks.2.", "missing", "transformer/"]);
    let text = refusal("vae/config.json", "\"base_dim\": 4", "\"base_dim\": 8");
    assert_says(&text, &["decoder.", "shape", "vae/"]);
    let text = refusal(
        "transformer/config.json",
        "\"joint_attention_dim\": 8",
        "\"joint_attention_dim\": 16",
    );
    assert_says(&text, &["joint_attention_dim is 16", "gives 8"]);
    let text = refusal(
        "text_encoder/config.json",
        "\"rope_type\": \"default\"",
        "\"rope_type\": \"yarn\"",
    );
    assert_says(&text, &["yarn", "mrope"]);
}

#[test]
fn words_are_where_the_denoiser_reads_them() {
    let model = golden("published");
    let prompt = "Two  small stars, don't!";
    let words = model.words(prompt).unwrap();
    let seen: Vec<&str> = words.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(seen, ["Two", "small", "stars", "don", "t"]);
    let tokens = model.encode(prompt, None, 4.0).unwrap().positive;
    let tokens = tokens.embeds.dim(1).unwrap();
    for word in &words {
        assert_eq!(&prompt[word.span.clone()], word.text);
        assert!(!word.tokens.is_empty() && word.tokens.end < tokens);
    }
    // A prompt's first word stands behind the template, wherever that was cut.
    let first = words[0].tokens.start;
    assert_eq!(model.words("Two").unwrap()[0].tokens.start, first);
    assert!(
        words
            .windows(2)
            .all(|w| w[0].tokens.start < w[1].tokens.end)
    );
    let long = model.words(&"red circle ".repeat(400)).unwrap();
    assert!(long.len() > 100 && long.len() < 700, "{}", long.len());
    assert!(long.iter().all(|w| w.tokens.end <= 512));
}

#[test]
fn guidance_runs_where_there_is_something_to_guide_away_from() {
    let model = golden("plain");
    for (negative, guidance, evaluations) in [
        (None, 4.0, 1),
        (Some(""), 4.0, 2),
        (Some("blurry"), 1.0, 1),
        (Some("blurry"), 1.5, 2),
    ] {
        assert_eq!(
            model.evaluations_per_step(negative, guidance),
            evaluations,
            "{negative:?} at {guidance}"
        );
        let conditioning = model.encode("a", negative, guidance).unwrap();
        assert_eq!(conditioning.negative.is_some(), evaluations == 2);
    }
}
