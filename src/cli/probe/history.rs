//! What was rendered here, as trajectories to learn from.

use std::collections::HashMap;
use std::path::PathBuf;

use super::super::Globals;
use super::bar;
use crate::backbones::Backbone;
use crate::candidate::Settings;
use crate::models::Models;
use crate::probe::collect::early_of;
use crate::probe::revisit::{Known, Revisit, by_side};
use crate::probe::shard::{Collected, Manifest};
use crate::scorers;
use crate::store::{Scored, Store};
use crate::{Error, Result};

/// A rating at or above this is good.
const GOOD_RATING: f64 = 0.8;
/// At which steps of 25 it is looked where neither a folder nor a probe says so.
const LOOKED_AT: [usize; 4] = [1, 5, 10, 15];

/// Looks again at the default model's candidates that have a score by `metric`, under the settings
/// of what is in `besides` or, where that is nothing, those that most of them share. Gives the
/// folder with their shards.
pub fn revisited(metric: &str, besides: &[PathBuf], globals: &Globals) -> Result<PathBuf> {
    let models = globals.models()?;
    let name = models.default_name();
    let backbone = models.load(name)?;
    let fingerprint = &backbone.facts().fingerprint;
    let store = Store::open(&globals.data_folder()?)?;
    let scored = store.scored(fingerprint, metric)?;

    let beside = match besides {
        [] => None,
        folders => Some(Collected::read_by(folders, Some(metric))?),
    };
    let manifest = match &beside {
        Some(beside) => Manifest {
            prompts: "history".into(),
            seeds: 0,
            ..beside.manifest.clone()
        },
        None => manifest(metric, &models, backbone.as_ref(), &scored)?,
    };
    if manifest.metric != metric || manifest.model_fingerprint != *fingerprint {
        return Err(Error::invalid(
            "--from",
            format!(
                "it holds trajectories of {} scored by {}, not of {name} by {metric}",
                manifest.model_name, manifest.metric
            ),
            "Name the same --model and --metric, or leave --from out",
        ));
    }
    let settings = Settings {
        model: name.to_string(),
        negative_prompt: None,
        steps: manifest.steps,
        guidance: manifest.guidance,
        width: manifest.width,
        height: manifest.height,
    };
    let known = scored
        .into_iter()
        .filter(|s| group(&s.candidate.settings) == group(&settings))
        .map(|s| {
            Ok(Known {
                picture: store.render_of(&s.handle)?.map(|render| render.path),
                prompt: s.candidate.prompt,
                seed: s.candidate.seed,
                score: s.score,
            })
        })
        .collect::<Result<Vec<_>>>()?;

    let kind = serde_json::to_string(&manifest).map_err(|e| Error::Internal(e.to_string()))?;
    let folder = globals
        .data_folder()?
        .join("history")
        .join(format!("{metric}-{}", short_digest(&kind)));
    let groups = beside.iter().flat_map(|beside| &beside.groups);
    let revisit = Revisit {
        backbone: backbone.as_ref(),
        settings: &settings,
        manifest: &manifest,
        scorer: &|metric| models.scorer(metric),
        besides: by_side(groups.map(|g| (g.scene.as_str(), g.scores.len()))),
    };
    revisit.is_enough(&known)?;
    let prompts: std::collections::HashSet<&str> =
        known.iter().map(|k| k.prompt.as_str()).collect();
    let bar = bar(prompts.len(), "prompts looked at again");
    revisit.collect(&known, &folder, &|| bar.inc(1))?;
    bar.finish_and_clear();
    Ok(folder)
}

/// What is looked at where no folder says so: what the model's probe reads, under the settings that
/// most of the scored candidates share.
fn manifest(
    metric: &str,
    models: &Models,
    backbone: &dyn Backbone,
    scored: &[Scored],
) -> Result<Manifest> {
    let facts = backbone.facts();
    let mut counts: HashMap<_, usize> = HashMap::new();
    let plain = |s: &&Scored| s.candidate.settings.negative_prompt.is_none();
    for scored in scored.iter().filter(plain) {
        *counts.entry(group(&scored.candidate.settings)).or_default() += 1;
    }
    let most = counts
        .into_iter()
        .max_by_key(|(group, count)| (*count, *group));
    let (steps, guidance, width, height) = most.map_or(
        (
            facts.default_steps,
            facts.default_guidance,
            facts.default_width,
            facts.default_height,
        ),
        |((_, steps, guidance, width, height), _)| (steps, f64::from_bits(guidance), width, height),
    );
    let probes = models.probes(&facts.fingerprint)?;
    let card = probes.iter().map(|p| p.card()).find(|c| c.steps == steps);
    let at_steps = match card {
        Some(card) => card.at_steps.clone(),
        None => {
            let mut at_steps: Vec<usize> = LOOKED_AT
                .iter()
                .map(|at| (at * steps / 25).max(1))
                .filter(|at| *at < steps)
                .collect();
            at_steps.dedup();
            at_steps
        }
    };
    let tap = card.map_or_else(|| facts.default_tap.clone(), |card| card.tap.clone());
    let measurable = models.measurable(models.default_name())?;
    Ok(Manifest {
        model_name: models.default_name().to_string(),
        model_fingerprint: facts.fingerprint.clone(),
        metric: metric.to_string(),
        good: scorers::metric(metric).map_or(GOOD_RATING, |known| known.good),
        steps,
        at_steps,
        sampler: facts.sampler.clone(),
        guidance,
        width,
        height,
        early: early_of(&tap, facts),
        tap,
        middle: true,
        // Previews are judged by the metric itself where it can be measured here and now, else by
        // the world's own where the world is one that has it.
        preview: match measurable.iter().any(|own| own == metric) {
            true => Some(metric.to_string()),
            false => measurable.into_iter().find(|own| own == "composition"),
        },
        previews: card.map(|card| card.previews).unwrap_or_default(),
        seeds: 0,
        prompts: "history".into(),
        also: Vec::new(),
    })
}

/// Settings that can be learned from together, whatever the model is called.
fn group(s: &Settings) -> (Option<&str>, usize, u64, usize, usize) {
    (
        s.negative_prompt.as_deref(),
        s.steps,
        s.guidance.to_bits(),
        s.width,
        s.height,
    )
}

fn short_digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text.as_bytes());
    digest[..6].iter().map(|b| format!("{b:02x}")).collect()
}
