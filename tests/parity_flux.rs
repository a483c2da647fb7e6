//! `foreseed trace` gives what diffusers gives, on tiny random pipelines that
//! `tests/goldens/make_flux.py` made: texts, latents after every step, attention maps, the image.
//! And what FLUX.1 cannot do is refused in words.

#[allow(dead_code)]
mod parity;

use std::path::Path;

use candle_core::{DType, Device};
use foreseed::backbones::{self, ModelFiles};

#[test]
fn every_tensor_is_diffusers_within_the_bar() {
    parity::assert_every_tensor_is_diffusers("flux");
}

/// What `trace` says of the model in `folder` when it refuses.
fn refusal(folder: &Path, more: &[&str]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out.safetensors");
    let mut arguments = vec![
        "--prompt", "a", "--steps", "1", "--seed", "1", "--width", "8", "--height", "8",
    ];
    arguments.extend(more);
    let done = parity::trace(folder, &arguments, &out);
    assert!(!done.status.success());
    assert!(!out.exists());
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// A copy of a golden model in which `path` was changed by `edit`.
fn changed(model: &str, path: &str, edit: impl Fn(&str) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    parity::copy(&parity::goldens("flux").join(model), folder.path());
    let path = folder.path().join(path);
    let text = std::fs::read_to_string(&path).unwrap();
    let edited = edit(&text);
    assert_ne!(edited, text);
    std::fs::write(path, edited).unwrap();
    folder
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn a_negative_prompt_is_refused_and_an_empty_one_is_none() {
    let model = parity::goldens("flux").join("schnell");
    let text = refusal(&model, &["--negative-prompt", "blurry"]);
    assert_says(&text, &["negative_prompt", "blurry", "true_cfg_scale"]);
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out.safetensors");
    let arguments = [
        "--prompt",
        "a",
        "--negative-prompt",
        "",
        "--steps",
        "1",
        "--seed",
        "1",
        "--width",
        "8",
        "--height",
        "8",
    ];
    assert!(parity::trace(&model, &arguments, &out).status.success());
}

#[test]
fn a_size_that_does_not_fit_two_by_two_latents_is_refused() {
    let model = parity::goldens("flux").join("schnell");
    let text = refusal(&model, &["--stop-at", "1", "--width", "12"]);
    assert_says(&text, &["width"]);
}

#[test]
fn other_pipelines_and_parts_are_refused_by_name_with_what_is_supported() {
    let folder = changed("schnell", "model_index.json", |text| {
        text.replace("FluxPipeline", "Flux2Pipeline")
    });
    let text = refusal(folder.path(), &[]);
    assert_says(
        &text,
        &["Flux2Pipeline", "FluxPipeline", "StableDiffusionXLPipeline"],
    );
    let folder = changed("schnell", "model_index.json", |text| {
        text.replace("FluxTransformer2DModel", "Flux2Transformer2DModel")
    });
    let text = refusal(folder.path(), &[]);
    assert_says(
        &text,
        &[
            "transformer",
            "Flux2Transformer2DModel",
            "FluxTransformer2DModel",
        ],
    );
}

#[test]
fn what_the_files_and_the_configuration_do_not_agree_on_is_named() {
    let folder = changed("schnell", "transformer/config.json", |text| {
        text.replace("\"num_layers\": 3", "\"num_layers\": 4")
    });
    let text = refusal(folder.path(), &[]);
    assert_says(&text, &["transformer_blocks.3.", "missing"]);
    let folder = changed("schnell", "transformer/config.json", |text| {
        text.replace("\"out_channels\": null", "\"out_channels\": 8")
    });
    assert_says(
        &refusal(folder.path(), &[]),
        &["in_channels 32", "out_channels 8"],
    );
    let folder = changed("schnell", "scheduler/scheduler_config.json", |text| {
        text.replace("FlowMatchEulerDiscrete", "DPMSolverMultistep")
    });
    assert_says(
        &refusal(folder.path(), &[]),
        &["DPMSolverMultistepScheduler"],
    );
}

#[test]
fn a_tokenizer_without_its_vocabulary_says_what_is_missing_or_broken() {
    let folder = changed("schnell", "tokenizer_2/tokenizer_config.json", |_| {
        "{}".into()
    });
    let json = folder.path().join("tokenizer_2/tokenizer.json");
    let pieces = folder.path().join("tokenizer_2/spiece.model");
    std::fs::rename(json, &pieces).unwrap();
    assert_says(
        &refusal(folder.path(), &[]),
        &["tokenizer_2/spiece.model", "no whole SentencePiece model"],
    );
    std::fs::remove_file(pieces).unwrap();
    assert_says(
        &refusal(folder.path(), &[]),
        &["tokenizer_2/", "tokenizer.json", "spiece.model"],
    );
}

#[test]
fn words_know_the_tokens_of_t5_that_carry_them_and_what_is_cut_off_is_no_word() {
    let files = ModelFiles::folder(parity::goldens("flux").join("schnell"));
    let model = backbones::load(files, "tiny", &Device::Cpu, DType::F32).unwrap();
    let prompt = "a réd, BLUE circle";
    let words = model.words(prompt).unwrap();
    let texts: Vec<&str> = words.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(texts, ["a", "réd", "BLUE", "circle"]);
    assert_eq!(words[0].tokens.start, 0, "T5 begins without a start token");
    for pair in words.windows(2) {
        assert!(pair[0].tokens.end <= pair[1].tokens.start, "{words:?}");
    }
    let long = model.words(&"circle ".repeat(99)).unwrap();
    assert!(long.len() < 24, "{} words in 24 tokens", long.len());
    // The last token is the end's.
    assert!(long.iter().all(|w| w.tokens.end <= 23), "{long:?}");
}
