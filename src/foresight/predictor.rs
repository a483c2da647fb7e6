//! Who predicts: the probe that fits these settings or, where none does, a scorer that judges the early
//! preview, or the attention maps alone.

use std::sync::Arc;

use super::race::{self, Moment, Stop};
use super::{advice, local, measure, validate};
use crate::Result;
use crate::backbones::{Backbone, Facts, TapRequest, Word, apart};
use crate::candidate::Settings;
use crate::models::Models;
use crate::probe::recalibration::Prior;
use crate::probe::shares::{Shares, Trust};
use crate::probe::{
    Look, Misfit, Prediction, Probe, attention_only, preview::Decoding, preview_only,
};
use crate::sampling::Observation;
use crate::store::{GLIMPSE, RATING, Store};

/// The metric of a prediction that no probe stands behind.
pub const ATTENTION: &str = "attention";

/// The share of the steps after which a prediction is made, where nothing else is asked for: the
/// paper's step 5 of 25.
const RECOMMENDED_SHARE: f64 = 0.2;

/// What is predicted from.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub prompt: &'a str,
    pub observation: &'a Observation,
    pub words: &'a [Word],
}

/// Who says what will become of a candidate.
#[derive(Clone)]
enum Judge {
    Probe(Arc<Probe>),
    /// The scorer of the metric, of what the picture looks like so far.
    Preview,
    /// How concentrated the words' attention is.
    Attention,
}

/// One metric, one way to predict it, and the steps at which that can be done.
#[derive(Clone)]
pub struct Predictor {
    judge: Judge,
    /// Gives the scorers of previews.
    models: Arc<Models>,
    pub metric: String,
    /// Steps done before the prediction.
    pub at_step: usize,
    /// Every step at which it predicts under these settings, ascending, `at_step` among them.
    pub at_steps: Vec<usize>,
    /// Every step at which the probe predicts, calibrated there or not: what a render is held
    /// against.
    pub watched: Vec<usize>,
    /// Why the probe, or that there is none, does not hold for these settings.
    pub no_probe_because: Option<String>,
    /// By step: what local renders say of the probe. Fixed when the call begins.
    corrections: local::Corrections,
}

impl Predictor {
    /// Picks out of a model's probes the first that fits or, where none does, one that fits but for
    /// the guidance. An unknown metric is an error; a known one that no probe can predict under
    /// these settings falls back to its scorer's word on the preview or, in pocket's world and where
    /// no scorer is here, to the attention maps.
    pub fn choose(
        models: &Arc<Models>,
        facts: &Facts,
        settings: &Settings,
        metric: Option<&str>,
        at_step: Option<u32>,
    ) -> Result<Self> {
        let probes = &models.probes(&facts.fingerprint)?;
        let scored = match models.draws_shapes_only(&settings.model)? {
            true => Vec::new(),
            false => models.measurable(&settings.model)?,
        };
        let metrics = metrics(probes, &scored);
        if let Some(metric) = metric {
            let how = "Pull another's scorer with `foreseed models pull`, or train a probe for it";
            validate::one_of("metric", metric, &metrics, how)?;
        }
        let asked = metric;
        let metric = metric.unwrap_or(&metrics[0]).to_string();
        let mut reasons = Vec::new();
        for with_other_guidance in [false, true] {
            for probe in probes.iter().filter(|p| p.card().metric == metric) {
                let mut because = None;
                let mut at_steps = probe.card().at_steps.clone();
                at_steps.sort_unstable();
                at_steps.retain(|&step| match probe.fits(facts, settings, step) {
                    Ok(()) => true,
                    Err(Misfit::Guidance(reason)) if with_other_guidance => {
                        because = Some(reason);
                        true
                    }
                    Err(misfit) => {
                        reasons.push(misfit.to_string());
                        false
                    }
                });
                let wanted = match at_step {
                    Some(step) => at_steps.iter().copied().find(|&s| s == step as usize),
                    None => nearest(&at_steps, recommended(settings.steps)),
                };
                if let Some(at_step) = wanted {
                    return Ok(Self {
                        judge: Judge::Probe(probe.clone()),
                        models: models.clone(),
                        metric,
                        at_step,
                        watched: at_steps.clone(),
                        at_steps,
                        no_probe_because: because,
                        corrections: Arc::default(),
                    });
                }
                if let Some(step) = at_step
                    && let Err(misfit) = probe.fits(facts, settings, step as usize)
                {
                    reasons.insert(0, misfit.to_string());
                }
            }
        }
        let reason = match (metric.as_str(), reasons.into_iter().next()) {
            (_, Some(reason)) => reason,
            (ATTENTION, None) if !probes.is_empty() => "the metric `attention` needs none".into(),
            (metric, None) if !probes.is_empty() => format!("none was trained for {metric}"),
            _ => "none was trained for this model".into(),
        };
        let at_step = at_step.map_or(recommended(settings.steps), |s| s as usize);
        // The metric's own scorer where it is here; another's only where none was asked for.
        let own = scored.iter().find(|own| **own == metric);
        let preview = own.or_else(|| scored.first().filter(|_| asked.is_none()));
        Ok(Self {
            judge: preview.map_or(Judge::Attention, |_| Judge::Preview),
            models: models.clone(),
            metric: preview.cloned().unwrap_or_else(|| ATTENTION.into()),
            at_step,
            at_steps: vec![at_step],
            watched: Vec::new(),
            no_probe_because: Some(reason),
            corrections: Arc::default(),
        })
    }

    /// Corrected by what was rendered under these settings so far. A probe that was calibrated for
    /// another guidance becomes a calibrated one here, at the steps at which there is enough.
    pub fn learning_from(
        mut self,
        learned: &local::Learned,
        store: &Store,
        settings: &Settings,
        asked_step: Option<u32>,
    ) -> Result<Self> {
        let Some(probe) = self.probe() else {
            return Ok(self);
        };
        let prior = match self.no_probe_because {
            None => Prior::Calibrated,
            Some(_) => Prior::Foreign,
        };
        let corrections = learned.corrections(
            store,
            probe.card(),
            settings,
            &self.watched,
            self.range(),
            prior,
        )?;
        if prior == Prior::Foreign {
            let here: Vec<usize> = corrections.keys().copied().collect();
            let wanted = match asked_step {
                Some(step) => here.iter().copied().find(|&s| s == step as usize),
                None => nearest(&here, self.at_step),
            };
            let Some(at_step) = wanted else {
                // Not where it was asked for: all stays as uncertain as it was.
                return Ok(self);
            };
            (self.at_step, self.at_steps, self.no_probe_because) = (at_step, here, None);
        }
        self.corrections = corrections;
        Ok(self)
    }

    /// Whether the predictions carry intervals and chances.
    pub fn is_calibrated(&self) -> bool {
        self.no_probe_because.is_none()
    }

    /// What is to be said of predictions that are not calibrated.
    pub fn caveat(&self, model: &str) -> Option<String> {
        let because = self.no_probe_because.as_deref()?;
        Some(match self.judge {
            Judge::Probe(_) => advice::uncalibrated_here(because, model),
            Judge::Preview => advice::preview_only(because, &self.metric, model),
            Judge::Attention => advice::uncalibrated(because, model),
        })
    }

    /// What the probe said after `at_step` steps, as it is to be understood here.
    pub fn understood(&self, own: &Prediction, at_step: usize) -> Prediction {
        if !self.is_calibrated() {
            return Prediction {
                interval: None,
                p_good: None,
                ..own.clone()
            };
        }
        match self.corrections.get(&at_step) {
            Some(correction) => correction.apply(own).rounded(),
            None => own.clone(),
        }
    }

    fn probe(&self) -> Option<&Arc<Probe>> {
        match &self.judge {
            Judge::Probe(probe) => Some(probe),
            Judge::Preview | Judge::Attention => None,
        }
    }

    /// How the error of its predictions is shared among the seeds of a prompt.
    pub fn shares(&self) -> Shares {
        let probe = self.probe();
        probe.map_or(Shares::USUAL, |p| p.trust(self.at_step, false).shares)
    }

    /// The first step at which it predicts, where that is so early on the way to the one that was asked for
    /// that it knows the prompt and next to nothing of a seed. What is not calibrated says too little
    /// there.
    pub fn earlier(&self) -> Option<usize> {
        let first = self.at_steps.iter().copied().min()?;
        (self.is_calibrated() && EARLY * first <= self.at_step).then_some(first)
    }

    /// What the metric can take, where it is bounded.
    pub fn range(&self) -> Option<[f64; 2]> {
        measure::range(&self.metric)
    }

    /// The name under which predictions are kept: another probe's prediction is another prediction.
    pub fn id(&self) -> &str {
        match &self.judge {
            Judge::Probe(probe) => &probe.card().id,
            Judge::Preview => "preview 1",
            Judge::Attention => "attention 1",
        }
    }

    /// [`Self::id`] at `moment`: what is said of a glimpse is not what is said of the whole step.
    pub fn id_at(&self, moment: Moment) -> String {
        match moment.glimpse {
            true => format!("{}{GLIMPSE}", self.id()),
            false => self.id().to_string(),
        }
    }

    /// Where a race can judge its seeds, up to `last` steps done.
    pub fn stops(&self, last: Option<usize>, evaluations_a_step: u64) -> Vec<Stop> {
        let steps = self.at_steps.iter().copied();
        let steps: Vec<usize> = steps
            .filter(|s| last.is_none_or(|last| *s <= last))
            .collect();
        let glimpses = self.probe().is_some_and(|p| p.judges_glimpses());
        race::stops(&steps, glimpses, evaluations_a_step, |step, glimpse| {
            let probe = self.probe();
            probe.map_or(Trust::USUAL, |p| p.trust(step, glimpse))
        })
    }

    /// What must be read in the denoiser.
    pub fn tap(&self, facts: &Facts) -> TapRequest {
        match self.probe() {
            Some(probe) => TapRequest {
                blocks: probe.card().tap.clone(),
                middle: probe.card().middle,
            },
            None => TapRequest {
                blocks: facts.default_tap.clone(),
                middle: false,
            },
        }
    }

    /// One prediction an observation: the predictor's own, as it is kept; what is answered is
    /// [`Self::understood`]. Previews are decoded and scored where the probe reads them.
    pub fn predict(&self, backbone: &dyn Backbone, seen: &[Seen<'_>]) -> Result<Vec<Prediction>> {
        let predictions: Vec<Prediction> = match &self.judge {
            Judge::Probe(probe) => {
                let judge = probe.card().preview.as_deref();
                let decoding = probe.card().previews;
                let scorer = judge.map(|metric| self.models.scorer(metric)).transpose()?;
                apart::each(backbone, seen, |seen| {
                    let observation = seen.observation;
                    let scored = match &scorer {
                        Some(scorer) if observation.steps_done > 0 => Some(decoding.score(
                            backbone,
                            scorer.as_ref(),
                            seen.prompt,
                            (&decoding.shown(observation)?, observation.steps_done),
                        )?),
                        _ => None,
                    };
                    let look = Look {
                        observation,
                        words: seen.words,
                        preview: scored.as_ref(),
                    };
                    probe.predict(&[look])
                })?
                .concat()
            }
            Judge::Preview => {
                let scorer = self.models.scorer(&self.metric)?;
                apart::each(backbone, seen, |seen| {
                    let shown = (&seen.observation.x0, seen.observation.steps_done);
                    let score =
                        Decoding::default().score(backbone, scorer.as_ref(), seen.prompt, shown)?;
                    preview_only(&score, seen.observation, seen.words)
                })?
            }
            Judge::Attention => seen
                .iter()
                .map(|seen| attention_only(seen.observation, seen.words))
                .collect::<Result<_>>()?,
        };
        Ok(predictions.into_iter().map(Prediction::rounded).collect())
    }
}

/// A look after one step is early where so many are done when it counts.
const EARLY: usize = 5;

/// What the probes, the scorers and the maps predict, the default first. A rating is somebody's taste:
/// it is predicted where it is asked for.
fn metrics(probes: &[Arc<Probe>], scored: &[String]) -> Vec<String> {
    let mut metrics: Vec<String> = Vec::new();
    for metric in probes
        .iter()
        .map(|p| p.card().metric.as_str())
        .chain(scored.iter().map(String::as_str))
        .chain([ATTENTION])
    {
        if !metrics.iter().any(|m| m == metric) {
            metrics.push(metric.to_string());
        }
    }
    metrics.sort_by_key(|metric| metric == RATING);
    metrics
}

/// The step that is `RECOMMENDED_SHARE` of the way, at least one done and one left.
fn recommended(steps: usize) -> usize {
    let step = (steps as f64 * RECOMMENDED_SHARE).round() as usize;
    step.clamp(1, steps.saturating_sub(1).max(1))
}

fn nearest(steps: &[usize], to: usize) -> Option<usize> {
    steps.iter().copied().min_by_key(|s| s.abs_diff(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_steps_is_recommended() {
        assert_eq!(recommended(25), 5);
        assert_eq!(recommended(50), 10);
        assert_eq!(recommended(4), 1);
        assert_eq!(recommended(2), 1);
        assert_eq!(nearest(&[1, 5, 10, 15], 5), Some(5));
        assert_eq!(nearest(&[2, 4], 9), Some(4));
        assert_eq!(nearest(&[], 9), None);
    }
}
