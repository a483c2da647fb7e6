//! `list_models`, and which model a call means.

use std::collections::BTreeMap;

use super::replies::{ModelListing, ModelsReply, ProbeListing};
use super::{Foresight, local, validate};
use crate::models::{ScorerCard, needs_said};
use crate::probe::ProbeCard;
use crate::probe::net::Design;
use crate::{Result, device};

impl Foresight {
    /// What is installed, what each needs and whether it fits, and what its probes hold for.
    pub fn list_models(&self) -> Result<ModelsReply> {
        let default = self.models.default_name();
        let models = self
            .models
            .list()
            .into_iter()
            .map(|card| {
                let probes = self.models.probes_of(&card.name)?;
                Ok(ModelListing {
                    default: card.name == default,
                    probes: probes
                        .iter()
                        .map(|p| self.listing(p.card()))
                        .collect::<Result<_>>()?,
                    name: card.name,
                    family: card.family,
                    installed: card.installed,
                    needs_gb: gigabytes(card.needs_bytes),
                    needs: card.needs.as_ref().map(needs_said).unwrap_or_default(),
                    fits: card.fits,
                    about: card.about,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let scorers = self.models.scorers().into_iter();
        Ok(ModelsReply {
            device: device::name_of(self.models.device()),
            models,
            scorers: scorers.map(|card| scorer_line(&card)).collect(),
        })
    }

    /// The name of the model that is meant, once it is known that there is one and that it can draw
    /// this prompt.
    pub(super) fn model_for(&self, prompt: &str, asked: Option<&str>) -> Result<String> {
        if let Some(name) = asked {
            let names: Vec<String> = self.models.list().into_iter().map(|c| c.name).collect();
            validate::one_of("model", name, &names, "list_models says what each needs")?;
        }
        let name = asked.unwrap_or(self.models.default_name());
        self.models.vocabulary_check(name, prompt)?;
        Ok(name.to_string())
    }

    fn listing(&self, card: &ProbeCard) -> Result<ProbeListing> {
        Ok(ProbeListing {
            metric: card.metric.clone(),
            steps: card.steps as u32,
            at_steps: card.at_steps.iter().map(|s| *s as u32).collect(),
            width: card.width as u32,
            height: card.height as u32,
            measured: figures(&card.measured),
            local_renders: local::renders_behind(&self.store, card)? as u32,
        })
    }
}

/// What a scorer needs, and whether it is here and fits.
fn scorer_line(card: &ScorerCard) -> String {
    let state = match (card.installed, card.fits) {
        (true, true) => "installed".to_owned(),
        (false, true) => format!("foreseed models pull {}", card.metric),
        (_, false) => "too large for this memory".to_owned(),
    };
    format!(
        "{}: {} GB, {state}",
        card.metric,
        gigabytes(card.needs_bytes)
    )
}

/// To the megabyte.
fn gigabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e9 * 1000.0).round() / 1000.0
}

/// The figures out of what a probe says of how good it was measured to be: its own numbers and, of what
/// `probe train` validated, the mean over the networks of the shipped design.
fn figures(measured: &serde_json::Value) -> BTreeMap<String, f64> {
    let numbers = |of: &serde_json::Value| -> BTreeMap<String, f64> {
        let fields = of.as_object().into_iter().flatten();
        fields
            .filter_map(|(name, value)| Some((name.clone(), number(value)?)))
            .collect()
    };
    let mut figures = numbers(measured);
    let validated = &measured["validation_mean_over_steps"][Design::Probe.name()];
    figures.extend(numbers(validated));
    for of in ["trained_on", "calibrated_on"] {
        if let Some(trajectories) = number(&measured[of]["trajectories"]) {
            figures.insert(format!("trajectories_{of}"), trajectories);
        }
    }
    figures
}

/// A number, or the mean of several, to four decimals.
fn number(value: &serde_json::Value) -> Option<f64> {
    let values = match value.as_array() {
        Some(values) => values.iter().map(|v| v.as_f64()).collect::<Option<_>>()?,
        None => vec![value.as_f64()?],
    };
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    mean.is_finite().then(|| (mean * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trained_probe_says_what_it_was_validated_to_be_worth() {
        let measured = json!({
            "trained_on": {"prompts": 3, "trajectories": 24},
            "validation_mean_over_steps": {
                "probe": {"pooled_srcc": [0.8, 0.7], "epochs": [1, 2]},
                "prompt-only": {"pooled_srcc": [0.4]},
            },
            "auc": 0.9, "note": "by hand",
        });
        let figures = figures(&measured);
        let expected = [
            ("auc", 0.9),
            ("epochs", 1.5),
            ("pooled_srcc", 0.75),
            ("trajectories_trained_on", 24.0),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(figures, BTreeMap::from(expected));
    }
}
