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
    /// Instead of the model's own.
    scheduler: Option<serde_json::Value>,
    /// LoRAs as `--lora` takes them, their files beside the goldens.
    #[serde(default)]
    lora: Vec<String>,
}

/// Where `make_<family>.py` wrote to.
pub fn goldens(family: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    tests.join(family)
}

/// A copy of a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
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

/// Runs `foreseed trace` on the model in `folder`.
pub fn trace(folder: &Path, arguments: &[&str], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foreseed"))
        .arg("trace")
        .arg("--model")
        .arg(folder)
        .args(arguments)
        .arg("--out")
        .arg(out)
        .env("FORESEED_DATA", out.parent().unwrap())
        .output()
        .unwrap()
}

fn traced(
    folder: &Path,
    case: &Case,
    (golden, out): (&Path, &Path),
    more: &[&str],
) -> HashMap<String, Tensor> {
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
    let beside = golden.parent().unwrap();
    let loras: Vec<String> = case
        .lora
        .iter()
        .map(|lora| beside.join(lora).display().to_string())
        .collect();
    arguments.extend(loras.iter().flat_map(|lora| ["--lora", lora]));
    arguments.extend(more);
    let done = trace(folder, &arguments, out);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "trace failed: {said}");
    candle_core::safetensors::load(out, &Device::Cpu).unwrap()
}

/// max|ours − reference| / max|reference|
pub fn relative_difference(ours: &Tensor, reference: &Tensor) -> f32 {
    assert_eq!(ours.dims(), reference.dims());
    let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let value = |t: Tensor| t.to_scalar::<f32>().unwrap();
    value(largest(&(ours - reference).unwrap())) / value(largest(reference)).max(1e-30)
}

fn cases(family: &str) -> BTreeMap<String, Case> {
    let cases = std::fs::read(goldens(family).join("cases.json")).unwrap();
    serde_json::from_slice(&cases).unwrap()
}

/// Compares one case's picture where weights are computed in another precision, by a bar of its own.
pub fn assert_picture_is_near(family: &str, name: &str, dtype: &str, bar: f32) {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out.safetensors");
    let golden = goldens(family).join(format!("{name}.safetensors"));
    let case = &cases(family)[name];
    let folder = goldens(family).join(&case.model);
    let ours = traced(&folder, case, (&golden, &out), &["--dtype", dtype]);
    let reference = candle_core::safetensors::load(&golden, &Device::Cpu).unwrap();
    let difference = relative_difference(&ours["image"], &reference["image"]);
    println!("{name} in {dtype}: {difference:.1e}");
    // Nothing at all would mean that it was computed in f32.
    assert!(
        difference > 1e-5 && difference < bar,
        "{name} in {dtype}: the picture differs by {difference:.1e}, more than {bar:.0e}"
    );
}

/// Compares every tensor of every case of a family.
pub fn assert_every_tensor_is_diffusers(family: &str) {
    let goldens = goldens(family);
    let cases = cases(family);
    let scratch = tempfile::tempdir().unwrap();
    for (name, case) in &cases {
        let golden = goldens.join(format!("{name}.safetensors"));
        let out = scratch.path().join("out.safetensors");
        let mut folder = goldens.join(&case.model);
        if let Some(scheduler) = &case.scheduler {
            let other = scratch.path().join(name);
            copy(&folder, &other);
            let path = other.join("scheduler/scheduler_config.json");
            std::fs::write(path, scheduler.to_string()).unwrap();
            folder = other;
        }
        let mut ours = traced(&folder, case, (&golden, &out), &[]);
        let mut reference = candle_core::safetensors::load(&golden, &Device::Cpu).unwrap();
        reference.retain(|key, _| key != "latents" && !key.starts_with("noise."));
        if case.scheduler.is_some() {
            ours.retain(|key, _| key.starts_with("latents.") || key == "image");
        }
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
