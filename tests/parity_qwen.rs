//! `foreseed trace` gives what diffusers gives, on tiny random pipelines that
//! `tests/goldens/make_qwen.py` made: texts, latents after every step, attention maps, the image.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{Device, Tensor};
use serde::Deserialize;

/// max|ours − reference| / max|reference|
const BAR: f32 = 2e-4;

#[derive(Deserialize)]
struct Case {
    model: String,
    prompt: String,
    negative_prompt: Option<String>,
    steps: usize,
    stop_at: Option<usize>,
    guidance: f64,
    height: usize,
    width: usize,
    tap: Option<Vec<String>>,
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/qwen")
}

fn trace(case: &Case, golden: &Path, out: &Path) -> HashMap<String, Tensor> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreseed"));
    command
        .arg("trace")
        .arg("--model")
        .arg(goldens().join(&case.model))
        .args(["--prompt", &case.prompt])
        .args(["--steps", &case.steps.to_string()])
        .args(["--guidance", &case.guidance.to_string()])
        .args(["--height", &case.height.to_string()])
        .args(["--width", &case.width.to_string()])
        .arg("--latents")
        .arg(golden)
        .arg("--out")
        .arg(out);
    if let Some(negative) = &case.negative_prompt {
        command.args(["--negative-prompt", negative]);
    }
    if let Some(stop_at) = case.stop_at {
        command.args(["--stop-at", &stop_at.to_string()]);
    }
    if let Some(tap) = case.tap.as_ref().filter(|t| !t.is_empty()) {
        command.args(["--tap", &tap.join(",")]);
    }
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "trace failed: {said}");
    candle_core::safetensors::load(out, &Device::Cpu).unwrap()
}

fn relative_difference(ours: &Tensor, reference: &Tensor) -> f32 {
    assert_eq!(ours.dims(), reference.dims());
    let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let value = |t: Tensor| t.to_scalar::<f32>().unwrap();
    value(largest(&(ours - reference).unwrap())) / value(largest(reference)).max(1e-30)
}

#[test]
fn every_tensor_is_diffusers_within_the_bar() {
    let cases = std::fs::read(goldens().join("cases.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_slice(&cases).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for (name, case) in &cases {
        let golden = goldens().join(format!("{name}.safetensors"));
        let ours = trace(case, &golden, &scratch.path().join("out.safetensors"));
        let mut reference = candle_core::safetensors::load(&golden, &Device::Cpu).unwrap();
        reference.remove("latents");
        // Where a case asks for no map, the family's own choice is tapped and not compared.
        let untapped = case.tap.as_ref().is_some_and(Vec::is_empty);
        let compared = |key: &&String| !(untapped && key.starts_with("attn."));
        assert_eq!(
            ours.keys().filter(compared).collect::<BTreeSet<_>>(),
            reference.keys().collect::<BTreeSet<_>>(),
            "{name}: the tensors written"
        );
        for (key, reference) in &reference {
            let difference = relative_difference(&ours[key], reference);
            assert!(
                difference <= BAR,
                "{name}: {key} differs from diffusers by {difference:.1e}, more than {BAR:.0e}"
            );
        }
    }
}
