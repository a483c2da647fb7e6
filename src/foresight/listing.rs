//! `list_models`, and which model a call means.

use std::collections::BTreeMap;

use super::replies::{ModelListing, ModelsReply, ProbeListing};
use super::{Foresight, local, validate};
use crate::models::{ScorerCard, needs_said};
use crate::probe::ProbeCard;
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

/// The numbers out of what a probe says of how good it was measured to be.
fn figures(measured: &serde_json::Value) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    if let Some(object) = measured.as_object() {
        for (name, value) in object {
            if let Some(number) = value.as_f64() {
                figures.insert(name.clone(), number);
            }
        }
    }
    figures
}
