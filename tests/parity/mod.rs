//! `foreseed trace` beside what diffusers gave for the same calls.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Where `make_<family>.py` wrote to.
pub fn goldens(family: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    tests.join(family)
}

/// Runs `foreseed trace` on the model in `folder`.
pub fn trace(folder: &Path, arguments: &[&str], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foreseed"))
        .arg("trace")
        .arg("--model")
        .arg(folder)
        .args(arguments)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap()
}

fn traced(folder: &Path, case: &Case, golden: &Path, out: &Path) -> HashMap<String, Tensor> {
    let numbers = [
        ("--steps", case.steps.to_string()),
        ("--guidance", case.guidance.to_string()),
        ("--height", case.height.to_string()),
        ("--width", case.width.to_string()),
        ("--latents", golden.display().to_string()),
    ];
    let mut arguments = vec!["--prompt", &case.prompt];
    arguments.extend(numbers.iter().flat_map(|(name, value)| [*name, value]));
    if let Some(negative) = &case.negative_prompt {
        arguments.extend(["--negative-prompt", negative]);
    }
    let stop_at = case.stop_at.map(|k| k.to_string());
    if let Some(stop_at) = &stop_at {
        arguments.extend(["--stop-at", stop_at]);
    }
    let tap = case.tap.as_ref().map(|t| t.join(","));
    if let Some(tap) = tap.as_ref().filter(|t| !t.is_empty()) {
        arguments.extend(["--tap", tap]);
    }
    let done = trace(folder, &arguments, out);
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

/// Compares every tensor of every case of a family.
pub fn assert_every_tensor_is_diffusers(family: &str) {
    let goldens = goldens(family);
    let cases = std::fs::read(goldens.join("cases.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_slice(&cases).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for (name, case) in &cases {
        let golden = goldens.join(format!("{name}.safetensors"));
        let out = scratch.path().join("out.safetensors");
        let ours = traced(&goldens.join(&case.model), case, &golden, &out);
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
        let mut worst = (0.0, "");
        for (key, reference) in &reference {
            let difference = relative_difference(&ours[key], reference);
            if difference > worst.0 {
                worst = (difference, key);
            }
            assert!(
                difference <= BAR,
                "{name}: {key} differs from diffusers by {difference:.1e}, more than {BAR:.0e}"
            );
        }
        println!("{name}: {:.1e} at most, in {}", worst.0, worst.1);
    }
}
