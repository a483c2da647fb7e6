//! What local renders say of a probe. A history is part of the probe that it corrects: the same
//! candidate is the same prediction for as long as no picture is rendered or rated in between, and
//! within one call always.

use std::collections::{BTreeMap, HashMap};

use crate::Result;
use crate::candidate::Settings;
use crate::probe::recalibration::{Correction, Prior};
use crate::probe::{Prediction, ProbeCard};
use crate::store::{Asked, Pair, Store};

/// The latest so many pictures count, so that a correction follows what is drawn here now.
const RECENT: usize = 300;
/// So many pictures of one prompt count: what the probe misjudges about a prompt is no reason to
/// doubt it about others.
const OF_A_PROMPT: usize = 4;

/// By step, what the renders of these settings make of the probe.
pub(super) fn corrections(
    store: &Store,
    card: &ProbeCard,
    settings: &Settings,
    at_steps: &[usize],
    range: Option<[f64; 2]>,
    prior: Prior,
) -> Result<BTreeMap<usize, Correction>> {
    let mut corrections = BTreeMap::new();
    for &step in at_steps {
        let asked = Asked {
            at_step: Some(step),
            ..asked_of(card, settings)
        };
        let pairs = store.pairs(asked, RECENT * OF_A_PROMPT)?;
        let counted = spread_over_prompts(&pairs);
        if let Some(correction) = Correction::fit(&counted, card.good, range, prior) {
            corrections.insert(step, correction);
        }
    }
    Ok(corrections)
}

/// How many local renders the probe is corrected by, under the settings that it was trained for.
pub(super) fn renders_behind(store: &Store, card: &ProbeCard) -> Result<usize> {
    let settings = Settings {
        model: card.model_name.clone(),
        negative_prompt: None,
        steps: card.steps,
        guidance: card.guidance,
        width: card.width,
        height: card.height,
    };
    store.paired(asked_of(card, &settings))
}

fn asked_of<'a>(card: &'a ProbeCard, settings: &'a Settings) -> Asked<'a> {
    Asked {
        fingerprint: None,
        probe: Some(&card.id),
        metric: Some(&card.metric),
        at_step: None,
        settings: Some(settings),
    }
}

/// The latest pairs, few of each prompt.
fn spread_over_prompts(pairs: &[Pair]) -> Vec<(&Prediction, f64)> {
    let mut of_prompt: HashMap<&str, usize> = HashMap::new();
    pairs
        .iter()
        .filter(|pair| {
            let seen = of_prompt.entry(&pair.candidate.prompt).or_default();
            *seen += 1;
            *seen <= OF_A_PROMPT
        })
        .take(RECENT)
        .map(|pair| (&pair.predicted.prediction, pair.measured))
        .collect()
}
