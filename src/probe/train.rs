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
use super::features::Layout;
use super::file::{self, Header, Member};
use super::fit::{FitOptions, FitProgress, Fitted, Task};
use super::net::Design;
use super::shard::{Collected, Group};
use super::shares::Shares;
use super::split::Side;
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
    let of = |side: Side| collected.on(side);
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
    let header = Header {
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
                "trained_on": counted(&training),
                "calibrated_on": counted(&calibration),
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
    finish(header, &weights, (&validation, &calibration), out)
}

/// Fits only what the networks of a probe file mean: how many of them are asked after which step, and the
/// calibration of what they say. For previews that are made in another way than those they were trained on,
/// or more scenes to calibrate on.
pub fn calibrate_anew(collected: &Collected, bytes: &[u8], out: &Path) -> Result<Probe> {
    let (mut header, weights) = file::read(bytes)?;
    let manifest = &collected.manifest;
    let layout = collected.layout()?;
    let card = &header.card;
    // All but how previews are made, and what only these prompts decide.
    let asked = [
        (
            "the model",
            format!("{:?}", (&card.model_name, &card.model_fingerprint)),
        ),
        ("the metric", format!("{:?}", (&card.metric, &card.preview))),
        (
            "the steps",
            format!("{:?} of {}", card.at_steps, card.steps),
        ),
        (
            "the settings",
            format!(
                "{:?}",
                (&card.sampler, card.guidance, card.width, card.height)
            ),
        ),
        ("what is tapped", format!("{:?}", tapped(&header.layout))),
    ];
    let given = [
        format!("{:?}", (&manifest.model_name, &manifest.model_fingerprint)),
        format!("{:?}", (&manifest.metric, &manifest.preview)),
        format!("{:?} of {}", manifest.at_steps, manifest.steps),
        format!(
            "{:?}",
            (
                &manifest.sampler,
                manifest.guidance,
                manifest.width,
                manifest.height
            )
        ),
        format!("{:?}", tapped(&layout)),
    ];
    for ((name, asked), given) in asked.iter().zip(&given) {
        if asked != given {
            return Err(Error::invalid(
                "networks_of",
                format!("the probe has {asked} for {name}, what was collected {given}"),
                "Collect under the settings that the probe was trained for",
            ));
        }
    }
    let of = |side: Side| collected.on(side);
    let (validation, calibration) = (of(Side::Validation), of(Side::Calibration));
    if validation.is_empty() || calibration.is_empty() {
        return Err(Error::invalid(
            "data",
            format!(
                "{} prompts to choose by and {} to calibrate on",
                validation.len(),
                calibration.len()
            ),
            "Collect more scenes: a tenth of them each is for that",
        ));
    }
    header.card.previews = manifest.previews;
    if let Some(measured) = header.card.measured.as_object_mut() {
        measured.insert("calibrated_on".into(), counted(&calibration));
    }
    finish(header, &weights, (&validation, &calibration), out)
}

/// What of a layout the networks' shapes depend on; the keys beyond a probe's are cut off.
fn tapped(layout: &Layout) -> (&[String], [usize; 5], bool) {
    let widths = [
        layout.text_dim,
        layout.pooled_dim,
        layout.x0_channels,
        layout.middle_channels,
        layout.early,
    ];
    (&layout.blocks, widths, layout.preview)
}

/// How much some groups are.
fn counted(groups: &[&Group]) -> serde_json::Value {
    json!({
        "prompts": groups.len(),
        "trajectories": groups.iter().map(|g| g.scores.len()).sum::<usize>(),
    })
}

/// Calibrates, and writes the file.
fn finish(
    mut header: Header,
    weights: &file::Weights,
    (validation, calibration): (&[&Group], &[&Group]),
    out: &Path,
) -> Result<Probe> {
    for member in &mut header.members {
        member.calibration.clear();
    }
    // Calibrated as it will be read: from the weights that the file holds, in f16.
    let uncalibrated = Probe::from_bytes(&file::write(&header, weights)?)?;
    let at_steps = header.card.at_steps.clone();
    for member in &mut header.members {
        for (index, &step) in at_steps.iter().enumerate() {
            member.calibration.push(calibrate(
                &uncalibrated,
                member,
                (validation, calibration),
                (index, step),
            )?);
        }
    }
    let bytes = file::write(&header, weights)?;
    let probe = Probe::from_bytes(&bytes)?;
    write_whole(out, &bytes)?;
    Ok(probe)
}

/// All candidates of some prompts, and what the first `asked` of a design's networks say of them.
fn raw_of<'a>(
    probe: &Probe,
    (design, asked): (Design, usize),
    groups: &[&'a Group],
    index: usize,
) -> Result<Vec<(&'a Group, usize, Raw)>> {
    let rows: Vec<(&Group, usize)> = groups
        .iter()
        .flat_map(|group| (0..group.scores.len()).map(move |seed| (*group, seed)))
        .collect();
    rows.par_iter()
        .map(|&(group, seed)| {
            let raw = probe.raw(design, 0..asked, &group.features(seed, index)?)?;
            Ok((group, seed, raw))
        })
        .collect()
}

/// What is said of a prompt's seeds, and what was measured.
struct Answers {
    previews: Vec<Option<f64>>,
    said: Vec<f64>,
    measured: Vec<f64>,
}

/// What the networks and the previews say of some groups.
fn anchored(
    probe: &Probe,
    member: (Design, usize),
    groups: &[&Group],
    index: usize,
) -> Result<Vec<Answers>> {
    let mut rows = raw_of(probe, member, groups, index)?.into_iter();
    let each = groups.iter().map(|group| {
        let own = rows.by_ref().take(group.scores.len());
        let (previews, said) = own
            .map(|(_, _, raw)| (raw.preview, probe.quality(&raw, None)))
            .unzip();
        Answers {
            previews,
            said,
            measured: group.scores.clone(),
        }
    });
    Ok(each.collect())
}

/// How far the preview stands, where there is one, and how well the networks so held order: chosen, as the
/// epoch was, on the validating scenes.
fn anchor(
    probe: &Probe,
    member: (Design, usize),
    validation: &[&Group],
    index: usize,
) -> Result<(Option<Anchor>, f64)> {
    let groups = anchored(probe, member, validation, index)?;
    let seen: Option<Vec<Anchored>> = groups
        .iter()
        .map(|one| {
            let previews: Option<Vec<f64>> = one.previews.iter().copied().collect();
            Some((previews?, one.said.clone(), one.measured.clone()))
        })
        .collect();
    let anchor = seen
        .filter(|seen| !seen.is_empty())
        .map(|seen| Anchor::fit(&seen, probe.unit()));
    let pairs: Vec<(Vec<f64>, Vec<f64>)> = groups
        .into_iter()
        .map(|one| {
            let held = one.previews.iter().zip(one.said);
            let held = held.map(|(preview, said)| match (anchor, preview) {
                (Some(anchor), Some(preview)) => anchor.apply(*preview, said),
                _ => said,
            });
            (held.collect(), one.measured)
        })
        .collect();
    let (said, measured): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
    let worth = stats::spearman(&said.concat(), &measured.concat()) + stats::within(&pairs);
    Ok((anchor, worth))
}

/// Fewer networks are asked where that costs no more of the two correlations' sum: about what another training
/// seed does to it.
const AS_GOOD: f64 = 0.005;

fn calibrate(
    probe: &Probe,
    member: &Member,
    (validation, groups): (&[&Group], &[&Group]),
    (index, step): (usize, usize),
) -> Result<StepCalibration> {
    let design = member.design;
    let mut asked = member.networks;
    let (mut anchor, all) = self::anchor(probe, (design, asked), validation, index)?;
    // The baselines keep all of theirs: they are not what has to be quick.
    let fewer = 1..if design.learns_all() { asked } else { 1 };
    for number in fewer {
        let (own, worth) = self::anchor(probe, (design, number), validation, index)?;
        tracing::debug!(
            "{} at step {step}: {worth:.4} by {number} of {asked}, {all:.4} by all",
            design.name()
        );
        if worth >= all - AS_GOOD {
            (asked, anchor) = (number, own);
            break;
        }
    }
    let rows = raw_of(probe, (design, asked), groups, index)?;
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
        networks: (asked < member.networks).then_some(asked),
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
