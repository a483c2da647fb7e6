//! The scorers give what their Python references give, on tiny random models in the published files'
//! layout that `tests/goldens/make_scorers.py` made: preparation, tokens, networks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use foreseed::scorers::{self, Scorer};
use image::{Rgb, RgbImage};
use serde::Deserialize;

/// |ours − reference|, of values whose spread is about 1.
const BAR: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    metric: String,
    folders: Vec<String>,
    size: [u32; 2],
    kind: u32,
    prompt: String,
    score: f64,
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/scorers")
}

/// The picture that the script makes by the same formula.
fn picture([width, height]: [u32; 2], kind: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c| {
            let waves = x * (3 + kind) + y * (5 + 2 * c) + x * y / (4 + c);
            let blocks = (x / 7 + y / 5 + kind) % 3 * 60 * (c + 1);
            ((waves + blocks) % 256) as u8
        }))
    })
}

fn load(metric: &str, folders: &[String]) -> foreseed::Result<std::sync::Arc<dyn Scorer>> {
    let folders = folders.iter().map(|f| goldens().join(f)).collect();
    scorers::load(metric, folders, &Device::Cpu)
}

#[test]
fn every_score_is_its_references() {
    let cases = std::fs::read(goldens().join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
    let mut worst: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
    for case in &cases {
        let scorer = load(&case.metric, &case.folders).unwrap();
        assert_eq!(scorer.metric(), case.metric);
        let score = scorer
            .score(&case.prompt, &picture(case.size, case.kind))
            .unwrap();
        let difference = (score.value - case.score).abs();
        let (most, low, high) = worst
            .entry(&case.metric)
            .or_insert((0.0, f64::MAX, f64::MIN));
        (*most, *low, *high) = (
            most.max(difference),
            low.min(case.score),
            high.max(case.score),
        );
        assert!(
            difference <= BAR && score.verdicts.is_empty(),
            "{} of {:?} {} for {:?}: {} and not {}",
            case.metric,
            case.size,
            case.kind,
            case.prompt,
            score.value,
            case.score
        );
    }
    assert_eq!(worst.len(), 5);
    for (metric, (most, low, high)) in worst {
        println!("{metric}: {most:.1e} at most, of values from {low:.3} to {high:.3}");
        assert!(high - low > 1e-2, "{metric}: all scores are alike");
    }
}

#[derive(Deserialize)]
struct Published {
    tensors: BTreeMap<String, Vec<usize>>,
}

/// The tiny files hold what the real ones hold, name by name and rank by rank, so that what loads the
/// ones asks for what is in the others.
#[test]
fn the_published_files_have_the_names_that_are_loaded() {
    let path = goldens().join("published.json");
    let published: BTreeMap<String, Published> =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(published.len(), 5);
    for (metric, real) in published {
        let tiny = match metric.as_str() {
            "clipscore-b32" => "clipscore",
            metric => metric,
        };
        let file = goldens().join(tiny).join("model.safetensors");
        let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        let ranks: BTreeMap<String, usize> = tensors
            .iter()
            .map(|(name, tensor)| (pattern(name), tensor.rank()))
            .collect();
        let real: BTreeMap<String, usize> = real
            .tensors
            .into_iter()
            .map(|(name, shape)| (name, shape.len()))
            .collect();
        assert_eq!(ranks, real, "{metric}");
    }
}

/// Layers' numbers replaced by N, as the script does it.
fn pattern(name: &str) -> String {
    let numbered = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    let parts = name.split('.').map(|part| match numbered(part) {
        true if !name.starts_with("mlp.") => "N",
        _ => part,
    });
    parts.collect::<Vec<_>>().join(".")
}

#[test]
fn a_missing_file_is_named_with_what_fetches_it() {
    for (metric, folders, missing) in [
        ("pickscore", vec!["forged"], "model.safetensors"),
        ("hpsv2.1", vec!["hpsv2.1"], "vocab.json"),
        ("imagereward", vec!["clipscore"], "visual_encoder"),
        ("aesthetic", vec!["clipscore"], ".pth"),
        ("clipscore", vec!["hpsv2.1"], "config.json"),
        ("beauty", vec![], "There are composition, pickscore"),
    ] {
        let folders: Vec<String> = folders.into_iter().map(String::from).collect();
        let error = load(metric, &folders).err().unwrap().to_string();
        assert!(error.contains(missing), "{metric}: {error}");
    }
}

#[test]
fn a_forged_pickle_is_refused_and_never_run() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(
            goldens().join("aesthetic").join(name),
            scratch.path().join(name),
        )
        .unwrap();
    }
    for forged in ["evil.pth", "short.pth"] {
        let head = scratch.path().join("head.pth");
        std::fs::copy(goldens().join("forged").join(forged), head).unwrap();
        let folders = vec![scratch.path().to_path_buf()];
        let refused = scorers::load("aesthetic", folders, &Device::Cpu);
        let error = refused.err().unwrap().to_string();
        assert!(error.contains("head.pth"), "{forged}: {error}");
        assert!(!Path::new("foreseed-ran-a-pickle").exists());
    }
}
