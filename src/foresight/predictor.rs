//! Who predicts: the probe that fits these settings or, where none does, the attention maps alone.

use std::sync::Arc;

use super::{measure, validate};
use crate::Result;
use crate::backbones::{Facts, TapRequest, Word};
use crate::candidate::Settings;
use crate::probe::{Prediction, Probe, attention_only};
use crate::sampling::Observation;

/// The metric of a prediction that no probe stands behind.
pub const ATTENTION: &str = "attention";

/// The share of the steps after which a prediction is made, where nothing else is asked for: the
/// paper's step 5 of 25.
const RECOMMENDED_SHARE: f64 = 0.2;

/// One metric, one way to predict it, and the steps at which that can be done.
#[derive(Clone)]
pub struct Predictor {
    probe: Option<Arc<Probe>>,
    pub metric: String,
    /// Steps done before the prediction.
    pub at_step: usize,
    /// Every step at which it predicts under these settings, ascending, `at_step` among them.
    pub at_steps: Vec<usize>,
    /// Why no probe fits, where none does.
    pub no_probe_because: Option<String>,
}

impl Predictor {
    /// Picks out of a model's probes the first that fits. An unknown metric is an error; a known one
    /// that no probe can predict under these settings falls back to the attention maps.
    pub fn choose(
        probes: &[Arc<Probe>],
        facts: &Facts,
        settings: &Settings,
        metric: Option<&str>,
        at_step: Option<u32>,
    ) -> Result<Self> {
        let mut metrics: Vec<String> = Vec::new();
        for metric in probes
            .iter()
            .map(|p| p.card().metric.as_str())
            .chain([ATTENTION])
        {
            if !metrics.iter().any(|m| m == metric) {
                metrics.push(metric.to_string());
            }
        }
        if let Some(metric) = metric {
            let how = "Train a probe for another with `foreseed probe train`";
            validate::one_of("metric", metric, &metrics, how)?;
        }
        let metric = metric.unwrap_or(&metrics[0]).to_string();
        let mut reasons = Vec::new();
        for probe in probes.iter().filter(|p| p.card().metric == metric) {
            let mut at_steps = probe.card().at_steps.clone();
            at_steps.sort_unstable();
            at_steps.retain(|&step| match probe.fits(facts, settings, step) {
                Ok(()) => true,
                Err(reason) => {
                    reasons.push(reason);
                    false
                }
            });
            let wanted = match at_step {
                Some(step) => at_steps.iter().copied().find(|&s| s == step as usize),
                None => nearest(&at_steps, recommended(settings.steps)),
            };
            if let Some(at_step) = wanted {
                return Ok(Self {
                    probe: Some(probe.clone()),
                    metric,
                    at_step,
                    at_steps,
                    no_probe_because: None,
                });
            }
            if let Some(step) = at_step
                && let Err(reason) = probe.fits(facts, settings, step as usize)
            {
                reasons.insert(0, reason);
            }
        }
        let reason = match (metric.as_str(), reasons.into_iter().next()) {
            (_, Some(reason)) => reason,
            (ATTENTION, None) if !probes.is_empty() => "the metric `attention` needs none".into(),
            _ => "none was trained for this model".into(),
        };
        let at_step = at_step.map_or(recommended(settings.steps), |s| s as usize);
        Ok(Self {
            probe: None,
            metric: ATTENTION.into(),
            at_step,
            at_steps: vec![at_step],
            no_probe_because: Some(reason),
        })
    }

    /// Whether the predictions carry intervals and chances.
    pub fn is_calibrated(&self) -> bool {
        self.probe.is_some()
    }

    /// What the metric can take, where it is bounded.
    pub fn range(&self) -> Option<[f64; 2]> {
        measure::range(&self.metric)
    }

    /// The name under which predictions are kept: another probe's prediction is another prediction.
    pub fn id(&self) -> &str {
        self.probe.as_ref().map_or("attention 1", |p| &p.card().id)
    }

    /// What must be read in the denoiser.
    pub fn tap(&self, facts: &Facts) -> TapRequest {
        match &self.probe {
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

    /// One prediction an observation.
    pub fn predict(&self, seen: &[(&Observation, &[Word])]) -> Result<Vec<Prediction>> {
        let predictions: Vec<Prediction> = match &self.probe {
            Some(probe) => probe.predict(seen)?,
            None => seen
                .iter()
                .map(|(observation, words)| {
                    let mut prediction = attention_only(observation, words)?;
                    // Nothing stands behind them.
                    prediction.interval = None;
                    prediction.p_good = None;
                    Ok(prediction)
                })
                .collect::<Result<_>>()?,
        };
        Ok(predictions.into_iter().map(Prediction::rounded).collect())
    }
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
