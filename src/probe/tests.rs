//! What the probe promises, on synthetic observations.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::fit::{FitOptions, Task, whole_batch};
use super::loss::loss;
use super::net::layers::Weights;
use super::net::{Design, Inputs, Net};
use super::shard::{Collected, Group};
use super::split::{Side, side_of};
use super::synthetic;
use super::train::{TrainOptions, calibrate_anew, train};
use super::*;

fn collected(prompts: usize) -> Collected {
    let folder = tempfile::tempdir().unwrap();
    synthetic::collect(folder.path(), prompts).unwrap();
    Collected::read(&[folder.path().to_path_buf()]).unwrap()
}

/// The loss's change along each parameter group's gradient against the gradient's norm: what candle
/// loses or overwrites on the way back shows here.
#[test]
fn every_parameter_group_has_the_gradient_of_finite_differences() {
    let collected = collected(3);
    let layout = collected.layout().unwrap();
    for design in Design::ALL {
        let (inputs, targets) = whole_batch(design, &collected.groups, &layout, 25).unwrap();
        let mut weights = Weights::fresh(11);
        let net = Net::new(design, &layout, &mut weights).unwrap();
        let cost = || loss(design, &net.forward(&inputs).unwrap(), &targets).unwrap();
        let value = || f64::from(cost().to_scalar::<f32>().unwrap());
        let grads = cost().backward().unwrap();
        for (name, var) in weights.vars() {
            let gradient = grads
                .get(var.as_tensor())
                .unwrap_or_else(|| panic!("{design:?}: {name} got no gradient"));
            let norm = gradient
                .sqr()
                .and_then(|g| g.sum_all()?.sqrt()?.to_scalar::<f32>())
                .unwrap();
            let norm = f64::from(norm);
            assert!(norm > 1e-5, "{design:?}: {name} has gradient {norm}");
            let kept = var.as_tensor().copy().unwrap();
            let step = 0.004 / norm.max(0.2);
            let along = |by: f64| {
                let moved = (&kept + (gradient * (by / norm)).unwrap()).unwrap();
                var.set(&moved).unwrap();
                let value = value();
                var.set(&kept).unwrap();
                value
            };
            // Fourth-order central difference.
            let slope = (8.0 * (along(step) - along(-step))
                - (along(2.0 * step) - along(-2.0 * step)))
                / (12.0 * step);
            // Below this a switch of a maximum within the step weighs more than the slope.
            let gap = (slope - norm).abs() / norm.max(0.04);
            assert!(
                gap < 0.03,
                "{design:?}: {name} has slope {slope}, gradient {norm}"
            );
        }
    }
}

fn options(epochs: usize) -> FitOptions {
    FitOptions {
        epochs,
        batch: 8,
        rate: 5e-3,
        ..FitOptions::default()
    }
}

fn task<'a>(collected: &'a Collected, layout: &'a Layout, design: Design) -> Task<'a> {
    let of = |side: Side| -> Vec<&Group> {
        let groups = collected.groups.iter();
        groups.filter(|g| side_of(&g.scene) == side).collect()
    };
    Task {
        design,
        layout,
        steps: 25,
        at_steps: 2,
        good: 0.5,
        scale: (0.5, 0.3),
        train: of(Side::Train),
        validation: of(Side::Validation),
        checkpoint: None,
    }
}

use super::features::Layout;

#[test]
fn attention_is_learnt_from_and_text_alone_is_not() {
    let collected = collected(80);
    let layout = collected.layout().unwrap();
    let fit = |design| {
        task(&collected, &layout, design)
            .fit(&options(8), &|_| ())
            .unwrap()
    };
    for design in [Design::Probe, Design::AttentionProbe] {
        let fitted = fit(design);
        assert!(fitted.validation.within > 0.7, "{design:?}: {fitted:?}");
    }
    let blind = fit(Design::PromptOnly);
    assert!(blind.validation.within.abs() < 1e-6, "{blind:?}");
}

fn same(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> bool {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    a.len() == b.len() && a.iter().all(|(name, t)| flat(t) == flat(&b[name]))
}

#[test]
fn a_killed_fit_goes_on_to_the_same_bits() {
    let collected = collected(60);
    let layout = collected.layout().unwrap();
    let straight = task(&collected, &layout, Design::AttentionProbe)
        .fit(&options(4), &|_| ())
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broken = || Task {
        checkpoint: Some(folder.path().join("fit.safetensors")),
        ..task(&collected, &layout, Design::AttentionProbe)
    };
    // Killed in its third epoch: the second one's checkpoint is what is left.
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        broken().fit(&options(4), &|p| {
            assert!(p.epoch < 3, "killed");
        })
    }));
    assert!(killed.is_err());
    let seen = std::sync::Mutex::new(Vec::new());
    let resumed = broken()
        .fit(&options(4), &|p| seen.lock().unwrap().push(p.epoch))
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [3, 4]);
    assert!(same(&straight.weights, &resumed.weights));
}

fn trained(collected: &Collected, epochs: usize) -> (Probe, tempfile::TempDir) {
    trained_by(collected, epochs, 1)
}

fn trained_by(collected: &Collected, epochs: usize, networks: usize) -> (Probe, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = TrainOptions {
        networks,
        fit: options(epochs),
        range: Some([0.0, 1.0]),
        checkpoints: None,
    };
    let out = folder.path().join("composition.safetensors");
    let probe = train(collected, &options, &out, &|_, _, _| ()).unwrap();
    (probe, folder)
}

#[test]
fn a_probe_file_predicts_as_the_probe_that_wrote_it() {
    let collected = collected(80);
    let (probe, folder) = trained(&collected, 4);
    let bytes = std::fs::read(folder.path().join("composition.safetensors")).unwrap();
    let again = Probe::from_bytes(&bytes).unwrap();
    assert_eq!(probe.card(), again.card());
    assert_eq!(again.card().id.len(), 64);
    let mut inside = 0;
    let mut all = 0;
    for group in &collected.groups {
        for seed in 0..4 {
            let features = group.features(seed, 1).unwrap();
            let prediction = probe.predict_by(Design::Probe, &features).unwrap();
            assert_eq!(
                prediction,
                again.predict_by(Design::Probe, &features).unwrap()
            );
            let [low, high] = prediction.interval.unwrap();
            assert!(0.0 <= low && low <= prediction.quality);
            assert!(prediction.quality <= high && high <= 1.0);
            assert!((0.0..=1.0).contains(&prediction.p_good.unwrap()));
            assert_eq!(prediction.word_risks.len(), 3);
            all += 1;
            inside += usize::from((low..=high).contains(&group.scores[seed]));
        }
    }
    let coverage = inside as f64 / all as f64;
    assert!(coverage > 0.75, "{coverage}");
    let mut torn = bytes.clone();
    torn.truncate(bytes.len() / 2);
    assert!(Probe::from_bytes(&torn).is_err());
    assert!(Probe::from_bytes(b"").is_err());
}

#[test]
fn networks_are_calibrated_anew_as_they_were_and_only_on_what_they_can_read() {
    let mut collected = collected(80);
    let (probe, folder) = trained_by(&collected, 2, 2);
    let bytes = std::fs::read(folder.path().join("composition.safetensors")).unwrap();
    let out = folder.path().join("again.safetensors");
    let again = calibrate_anew(&collected, &bytes, &out).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    assert_eq!(again.card(), probe.card());
    collected.manifest.previews.ahead = 1.0;
    let other = calibrate_anew(&collected, &bytes, &out).unwrap();
    assert_eq!(other.card().previews.ahead, 1.0);
    collected.manifest.guidance += 1.0;
    let Err(refused) = calibrate_anew(&collected, &bytes, &out) else {
        panic!("another guidance");
    };
    assert!(refused.to_string().contains("the settings"), "{refused}");
}

#[test]
fn only_as_many_networks_are_asked_as_a_step_needs() {
    let collected = collected(80);
    let (_, folder) = trained_by(&collected, 2, 2);
    let bytes = std::fs::read(folder.path().join("composition.safetensors")).unwrap();
    let (mut header, weights) = file::read(&bytes).unwrap();
    let quality = |asked: Option<usize>, header: &mut file::Header| {
        for member in &mut header.members {
            for calibration in &mut member.calibration {
                calibration.networks = asked;
            }
        }
        let probe = Probe::from_bytes(&file::write(header, &weights).unwrap()).unwrap();
        let features = collected.groups[0].features(0, 1).unwrap();
        let first = probe.quality_by(Design::Probe, 0, &features).unwrap();
        let said = probe.predict_by(Design::Probe, &features).unwrap().quality;
        (said, first)
    };
    let (all, first) = quality(None, &mut header);
    assert_ne!(all, first);
    assert_eq!(quality(Some(9), &mut header), (all, first));
    assert_eq!(quality(Some(1), &mut header), (first, first));
}

#[test]
fn the_word_whose_object_fails_is_the_risky_one() {
    let collected = collected(160);
    let (probe, _folder) = trained(&collected, 20);
    let (mut risks, mut wrong) = (Vec::new(), Vec::new());
    for group in &collected.groups {
        for seed in 0..4 {
            let features = group.features(seed, 0).unwrap();
            let own = probe.predict_by(Design::Probe, &features).unwrap();
            risks.push(own.word_risks[1]);
            wrong.push(group.words_wrong[seed][1] == Some(true));
        }
    }
    let auc = stats::auc(&risks, &wrong);
    assert!(auc > 0.8, "{auc}");
}

#[test]
fn a_row_says_the_same_alone_as_in_company() {
    let collected = collected(12);
    let layout = collected.layout().unwrap();
    let net = Net::new(Design::Probe, &layout, &mut Weights::fresh(2)).unwrap();
    let rows: Vec<_> = collected
        .groups
        .iter()
        .map(|g| g.features(0, 0).unwrap())
        .collect();
    let say = |rows: &[Features]| {
        let inputs = Inputs::stack(rows, &layout, 25).unwrap();
        net.forward(&inputs)
            .unwrap()
            .quality
            .to_vec1::<f32>()
            .unwrap()
    };
    for (row, together) in rows.iter().zip(say(&rows)) {
        let alone = say(std::slice::from_ref(row))[0];
        assert!((alone - together).abs() < 1e-5, "{alone} and {together}");
    }
}

#[test]
fn a_manifest_refuses_other_settings() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = synthetic::manifest();
    manifest.claim(folder.path()).unwrap();
    manifest.claim(folder.path()).unwrap();
    let other = shard::Manifest {
        guidance: 7.5,
        ..manifest
    };
    let error = other.claim(folder.path()).unwrap_err().to_string();
    assert!(error.contains("guidance 5.0, not 7.5"), "{error}");
}

/// What was collected before there could be several metrics says nothing of others.
#[test]
fn a_manifest_of_one_metric_is_read_as_it_ever_was() {
    let manifest = synthetic::manifest();
    let text = serde_json::to_string(&manifest).unwrap();
    assert!(!text.contains("also"), "{text}");
    let again: shard::Manifest = serde_json::from_str(&text).unwrap();
    assert_eq!(again, manifest);
    assert_eq!(again.by("composition").unwrap(), manifest);
    let error = again.by("pickscore").unwrap_err().to_string();
    assert!(error.contains("They were by composition"), "{error}");
}

#[test]
fn a_set_is_one_of_each_metric_that_it_was_scored_by() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = shard::Manifest {
        also: vec![shard::Measure {
            metric: "pickscore".into(),
            good: 21.5,
        }],
        ..synthetic::manifest()
    };
    manifest.claim(folder.path()).unwrap();
    let own = manifest.by("pickscore").unwrap();
    assert_eq!((own.metric.as_str(), own.good), ("pickscore", 21.5));
    assert_eq!(own.preview.as_deref(), Some("pickscore"));
    assert_eq!(manifest.by("composition").unwrap(), synthetic::manifest());
    // Neither is mixed with what the other is.
    let error = synthetic::manifest().claim(folder.path()).unwrap_err();
    assert!(error.to_string().contains("also"), "{error}");
}

#[test]
fn a_previews_value_is_normalised_where_its_metric_has_no_bounds_and_blanks_stay() {
    let plain = preview::Preview {
        whole: vec![22.0, 1.0, 0.0, 0.0, 1.0],
        words: Vec::new(),
    };
    assert_eq!(plain.normalised(None)[0], 22.0);
    assert_eq!(plain.normalised(Some((20.0, 4.0)))[0], 0.5);
    let blank = preview::Preview::blank(0);
    assert_eq!(blank.normalised(Some((20.0, 4.0))), blank.whole);
}
