//! From what was collected to a probe file: every design from several seeds, then calibration on
//! scenes that none of them was trained or chosen on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde_json::json;

use super::anchor::{Anchor, Anchored};
use super::calibration::{Conformal, Platt, StepCalibration};
use super::file::{self, Header, Member};
use super::fit::{FitOptions, FitProgress, Fitted, Task};
use super::net::Design;
use super::shard::{Collected, Group};
use super::shares::Shares;
use super::split::{Side, side_of};
use super::{Probe, ProbeCard, Raw, stats};
use crate::pictures::write_whole;
use crate::{Error, Result};

/// What to train.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Networks of each design, trained from the seeds `fit.seed`, `fit.seed + 1`, …
    pub networks: usize,
    pub fit: FitOptions,
    /// Between which values the metric lies, where it has bounds.
    pub range: Option<[f64; 2]>,
    /// Where checkpoints are kept, so that a killed run goes on.
    pub checkpoints: Option<PathBuf>,
}

/// What is heard of a training run: epoch by epoch, the fits of all designs side by side.
pub type Report<'a> = &'a (dyn Fn(Design, u64, FitProgress) + Sync);

/// Fits every design and writes the probe file `out`, whole or not at all.
pub fn train(
    collected: &Collected,
    options: &TrainOptions,
    out: &Path,
    report: Report<'_>,
) -> Result<Probe> {
    let manifest = &collected.manifest;
    let layout = collected.layout()?;
    let of = |side: Side| -> Vec<&Group> {
        let groups = collected.groups.iter();
        groups.filter(|g| side_of(&g.scene) == side).collect()
    };
    let (training, validation) = (of(Side::Train), of(Side::Validation));
    let calibration = of(Side::Calibration);
    if calibration.is_empty() {
        return Err(Error::invalid(
            "data",
            format!(
                "{} prompts and none to calibrate on",
                collected.groups.len()
            ),
            "Collect more scenes: a tenth of them calibrates",
        ));
    }
    let scores: Vec<f64> = training.iter().flat_map(|g| g.scores.clone()).collect();
    let scale = (stats::mean(&scores), stats::deviation(&scores).max(1e-3));
    let verdicts: Vec<bool> = training
        .iter()
        .flat_map(|g| g.words_wrong.iter().flatten().flatten().copied())
        .collect();
    let wrong = verdicts.iter().filter(|w| **w).count();

    let jobs: Vec<(Design, usize)> = Design::ALL
        .into_iter()
        .flat_map(|design| (0..options.networks.max(1)).map(move |n| (design, n)))
        .collect();
    let fitted = side_by_side(&jobs, |&(design, number)| {
        let seed = options.fit.seed + number as u64;
        let checkpoint = match &options.checkpoints {
            None => None,
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
                Some(folder.join(format!("{}-{seed}.safetensors", design.name())))
            }
        };
        let task = Task {
            design,
            layout: &layout,
            steps: manifest.steps,
            at_steps: manifest.at_steps.len(),
            good: manifest.good,
            scale,
            train: training.clone(),
            validation: validation.clone(),
            checkpoint,
        };
        let fit = FitOptions {
            seed,
            ..options.fit.clone()
        };
        task.fit(&fit, &|progress| report(design, seed, progress))
    })?;

    let trajectories = |groups: &[&Group]| groups.iter().map(|g| g.scores.len()).sum::<usize>();
    let validated = |design: Design| -> serde_json::Value {
        let own = jobs.iter().zip(&fitted).filter(|(job, _)| job.0 == design);
        let all: Vec<&Fitted> = own.map(|(_, fitted)| fitted).collect();
        json!({
            "pooled_srcc": all.iter().map(|f| round(f.validation.pooled)).collect::<Vec<_>>(),
            "within_srcc": all.iter().map(|f| round(f.validation.within)).collect::<Vec<_>>(),
            "words_auc": all.iter().map(|f| round(f.validation.words)).collect::<Vec<_>>(),
            "epochs": all.iter().map(|f| f.epochs).collect::<Vec<_>>(),
        })
    };
    let mut header = Header {
        format: Header::FORMAT,
        card: ProbeCard {
            id: String::new(),
            model_fingerprint: manifest.model_fingerprint.clone(),
            model_name: manifest.model_name.clone(),
            metric: manifest.metric.clone(),
            steps: manifest.steps,
            at_steps: manifest.at_steps.clone(),
            sampler: manifest.sampler.clone(),
            guidance: manifest.guidance,
            width: manifest.width,
            height: manifest.height,
            good: manifest.good,
            tap: layout.blocks.clone(),
            middle: layout.middle_channels > 0,
            preview: manifest.preview.clone(),
            previews: manifest.previews,
            measured: json!({
                "trained_on": {
                    "prompts": training.len(),
                    "trajectories": trajectories(&training),
                },
                "calibrated_on": {
                    "prompts": calibration.len(),
                    "trajectories": trajectories(&calibration),
                },
                "validation_mean_over_steps": {
                    "probe": validated(Design::Probe),
                    "glimpse": validated(Design::Glimpse),
                    "attention-probe": validated(Design::AttentionProbe),
                    "prompt-only": validated(Design::PromptOnly),
                },
            }),
        },
        layout: layout.clone(),
        scale,
        range: options.range,
        word_base_rate: wrong as f64 / verdicts.len().max(1) as f64,
        members: Design::ALL
            .into_iter()
            .map(|design| Member {
                design,
                networks: options.networks.max(1),
                calibration: Vec::new(),
            })
            .collect(),
    };
    let weights: file::Weights = jobs
        .iter()
        .zip(&fitted)
        .map(|(job, fitted)| (*job, fitted.weights.clone()))
        .collect();
    // Calibrated as it will be read: from the weights that the file holds, in f16.
    let uncalibrated = Probe::from_bytes(&file::write(&header, &weights)?)?;
    for member in &mut header.members {
        for (index, &step) in manifest.at_steps.iter().enumerate() {
            member.calibration.push(calibrate(
                &uncalibrated,
                member.design,
                (&validation, &calibration),
                (index, step),
            )?);
        }
    }
    let bytes = file::write(&header, &weights)?;
    let probe = Probe::from_bytes(&bytes)?;
    write_whole(out, &bytes)?;
    Ok(probe)
}

/// All candidates of some prompts, and what a design's networks say of them.
fn raw_of<'a>(
    probe: &Probe,
    design: Design,
    groups: &[&'a Group],
    index: usize,
) -> Result<Vec<(&'a Group, usize, Raw)>> {
    let rows: Vec<(&Group, usize)> = groups
        .iter()
        .flat_map(|group| (0..group.scores.len()).map(move |seed| (*group, seed)))
        .collect();
    rows.par_iter()
        .map(|&(group, seed)| {
            let raw = probe.raw(design, None, &group.features(seed, index)?)?;
            Ok((group, seed, raw))
        })
        .collect()
}

/// How far the preview stands: chosen, as the epoch was, on the validating scenes.
fn anchor(
    probe: &Probe,
    design: Design,
    validation: &[&Group],
    index: usize,
) -> Result<Option<Anchor>> {
    let rows = raw_of(probe, design, validation, index)?;
    let said: Option<Vec<(f64, f64)>> = rows
        .iter()
        .map(|(_, _, raw)| Some((raw.preview?, probe.quality(raw, None))))
        .collect();
    let Some(mut said) = said.filter(|said| !said.is_empty()) else {
        return Ok(None);
    };
    let groups: Vec<Anchored> = validation
        .iter()
        .map(|group| {
            let rest = said.split_off(group.scores.len());
            let (previews, qualities) = std::mem::replace(&mut said, rest).into_iter().unzip();
            (previews, qualities, group.scores.clone())
        })
        .collect();
    Ok(Some(Anchor::fit(&groups, probe.unit())))
}

fn calibrate(
    probe: &Probe,
    design: Design,
    (validation, groups): (&[&Group], &[&Group]),
    (index, step): (usize, usize),
) -> Result<StepCalibration> {
    let anchor = anchor(probe, design, validation, index)?;
    let rows = raw_of(probe, design, groups, index)?;
    let measured: Vec<f64> = rows.iter().map(|(g, seed, _)| g.scores[*seed]).collect();
    let predicted: Vec<f64> = rows
        .iter()
        .map(|(_, _, raw)| probe.quality(raw, anchor))
        .collect();
    let odds: Vec<f64> = rows
        .iter()
        .map(|(_, _, raw)| raw.good.unwrap_or(raw.quality))
        .collect();
    let good: Vec<bool> = measured.iter().map(|m| *m >= probe.card().good).collect();
    let (mut risks, mut wrong) = (Vec::new(), Vec::new());
    for (group, seed, raw) in &rows {
        let verdicts = group.words_wrong[*seed].iter().zip(&group.text.words);
        for (word, (verdict, tokens)) in verdicts.enumerate() {
            if let (Some(logits), Some(verdict)) = (&raw.words, verdict)
                && !tokens.is_empty()
            {
                risks.push(logits[word]);
                wrong.push(*verdict);
            }
        }
    }
    let mut residuals: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
    let errors: Vec<f64> = measured
        .iter()
        .zip(&predicted)
        .map(|(m, p)| m - p)
        .collect();
    let mut left = errors.as_slice();
    for group in groups {
        let (own, others) = left.split_at(group.scores.len().min(left.len()));
        let scene = residuals.entry(group.scene.as_str()).or_default();
        scene.push(own.to_vec());
        left = others;
    }
    let residuals: Vec<Vec<Vec<f64>>> = residuals.into_values().collect();
    let square = errors.iter().map(|e| e * e).sum::<f64>() / errors.len().max(1) as f64;
    Ok(StepCalibration {
        step,
        anchor,
        shares: Shares::fit(&residuals),
        error: Some(square.sqrt()),
        interval: Conformal::fit(&predicted, &measured),
        good: Platt::fit(&odds, &good),
        words: (!risks.is_empty()).then(|| Platt::fit(&risks, &wrong)),
    })
}

/// Runs jobs on as many threads as the machine has, and gives their results in order. Not rayon's:
/// a job's own matrix products must not pick up another whole job while they wait.
fn side_by_side<J: Sync, R: Send>(
    jobs: &[J],
    run: impl Fn(&J) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let result = run(job);
                    if let Ok(mut results) = results.lock() {
                        results.push((index, result));
                    }
                }
            });
        }
    });
    let mut results = results
        .into_inner()
        .map_err(|_| Error::Internal("a training thread failed".into()))?;
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}
