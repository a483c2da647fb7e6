//! What local renders say of a probe. A history is part of the probe that it corrects: the same
//! candidate is the same prediction for as long as no picture is rendered or rated in between, and
//! within one call always.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Result;
use crate::candidate::Settings;
use crate::probe::recalibration::{Correction, Prior};
use crate::probe::{Prediction, ProbeCard};
use crate::store::{Asked, Pair, Store, Version};

/// The latest so many pictures count, so that a correction follows what is drawn here now.
const RECENT: usize = 300;
/// So many pictures of one prompt count: what the probe misjudges about a prompt is no reason to
/// doubt it about others.
const OF_A_PROMPT: usize = 4;

/// Of so many probes and settings the corrections are kept at hand.
const AT_HAND: usize = 16;

/// By step, what the renders of some settings make of a probe.
pub(super) type Corrections = Arc<BTreeMap<usize, Correction>>;

/// Corrections as they were found, for as long as the history gives the same ones: reading hundreds of
/// pairs takes longer than answering what was predicted before.
#[derive(Default)]
pub struct Learned(Mutex<VecDeque<Known>>);

struct Known {
    probe: String,
    settings: Settings,
    prior: Prior,
    version: Version,
    corrections: Corrections,
}

impl Learned {
    /// By step, what the renders of these settings make of the probe.
    pub(super) fn corrections(
        &self,
        store: &Store,
        card: &ProbeCard,
        settings: &Settings,
        at_steps: &[usize],
        range: Option<[f64; 2]>,
        prior: Prior,
    ) -> Result<Corrections> {
        let version = store.pairs_version()?;
        let same = |known: &Known| {
            known.probe == card.id && known.settings == *settings && known.prior == prior
        };
        let found = |known: &&Known| same(known) && known.version == version;
        if let Some(known) = self.known().iter().find(found) {
            return Ok(Arc::clone(&known.corrections));
        }
        let read = corrections(store, card, settings, at_steps, range, prior)?;
        let corrections = Arc::new(read);
        let mut known = self.known();
        known.retain(|known| !same(known));
        known.truncate(AT_HAND - 1);
        known.push_front(Known {
            probe: card.id.clone(),
            settings: settings.clone(),
            prior,
            version,
            corrections: Arc::clone(&corrections),
        });
        Ok(corrections)
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn corrections(
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
