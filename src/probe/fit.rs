//! Fits one network with one seed: batches of prompts, early stopping on scenes of its own, and a
//! checkpoint after every epoch from which a killed run goes on as if nothing had happened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::features::{Features, Layout};
use super::loss::{Targets, loss};
use super::net::layers::Weights;
use super::net::{Design, Inputs, Net};
use super::optim::AdamW;
use super::random::Random;
use super::shard::Group;
use super::stats;
use super::tensors::{deserialize, serialize};
use crate::pictures::write_whole;
use crate::{Error, Result};

/// How a network is fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitOptions {
    pub seed: u64,
    /// At most.
    pub epochs: usize,
    /// Epochs without a better validation before it stops.
    pub patience: usize,
    /// Prompts in a batch, each with all its seeds at one step.
    pub batch: usize,
    pub rate: f64,
    pub weight_decay: f64,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            epochs: 30,
            patience: 6,
            batch: 12,
            rate: 2e-3,
            weight_decay: 0.05,
        }
    }
}

/// What a network is fitted on.
pub struct Task<'a> {
    pub design: Design,
    pub layout: &'a Layout,
    pub steps: usize,
    pub at_steps: usize,
    pub good: f64,
    /// Mean and deviation of the training scores.
    pub scale: (f64, f64),
    pub train: Vec<&'a Group>,
    pub validation: Vec<&'a Group>,
    /// Where to keep the checkpoint, if anywhere.
    pub checkpoint: Option<PathBuf>,
}

/// A fitted network.
#[derive(Clone, Debug)]
pub struct Fitted {
    pub weights: BTreeMap<String, Tensor>,
    /// Of the epoch that was kept.
    pub validation: Validation,
    pub epochs: usize,
}

/// Figures on the validation scenes, each a mean over the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Spearman's correlation over all candidates.
    pub pooled: f64,
    /// The mean of Spearman's correlation within a prompt.
    pub within: f64,
    /// The area under the curve of the words' risks; 0.5 for a design that has none.
    pub words: f64,
}

impl Validation {
    /// What training stops at the best of.
    fn worth(&self) -> f64 {
        self.pooled + self.within + self.words
    }
}

/// How far a fit has come.
pub struct FitProgress {
    pub epoch: usize,
    pub loss: f64,
    pub validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    options: FitOptions,
    design: Design,
    layout: Layout,
    epoch: usize,
    updates: i32,
    best_epoch: usize,
    best: Validation,
}

/// One prompt at one step.
type Item = (usize, usize);

impl Task<'_> {
    /// Fits the network; `report` hears of every epoch.
    pub fn fit(
        &self,
        options: &FitOptions,
        report: &(dyn Fn(FitProgress) + Sync),
    ) -> Result<Fitted> {
        if self.train.is_empty() || self.validation.is_empty() {
            return Err(Error::invalid(
                "data",
                format!(
                    "{} prompts to train on and {} to validate on",
                    self.train.len(),
                    self.validation.len()
                ),
                "Collect more scenes: a tenth of them validates and a tenth calibrates",
            ));
        }
        let mut weights = Weights::fresh(options.seed);
        let net = Net::new(self.design, self.layout, &mut weights)?;
        let vars = weights.vars().clone();
        let mut optimizer = AdamW::new(&vars, options.weight_decay)?;
        let mut best = optimizer.average().clone();
        let mut state = Checkpoint {
            options: options.clone(),
            design: self.design,
            layout: self.layout.clone(),
            epoch: 0,
            updates: 0,
            best_epoch: 0,
            best: Validation::default(),
        };
        if let Some((kept, tensors)) = self.resume(options)? {
            for (name, var) in &vars {
                let tensor = tensors
                    .get(&format!("var/{name}"))
                    .ok_or_else(|| Error::Internal(format!("the checkpoint lacks {name}")))?;
                var.set(tensor)?;
            }
            optimizer.restore(&tensors, kept.updates)?;
            for (name, tensor) in &mut best {
                if let Some(kept) = tensors.get(&format!("best/{name}")) {
                    *tensor = kept.clone();
                }
            }
            state = kept;
        }
        let layout = self.design.layout(self.layout);
        let items: Vec<Item> = (0..self.train.len())
            .flat_map(|group| (0..self.at_steps).map(move |step| (group, step)))
            .collect();
        let batches = items.len().div_ceil(options.batch);
        while state.epoch < options.epochs && state.epoch - state.best_epoch <= options.patience {
            let mut random = Random::nth(options.seed, 1 + state.epoch as u64);
            let mut items = items.clone();
            random.shuffle(&mut items);
            let mut losses = 0.0;
            for (i, batch) in items.chunks(options.batch).enumerate() {
                let done = (state.epoch * batches + i) as f64;
                let rate = options.rate * pace(done, (options.epochs * batches) as f64);
                let (rows, targets) = self.batch(&self.train, batch)?;
                let inputs = Inputs::stack(&rows, &layout, self.steps)?;
                let loss = loss(self.design, &net.forward(&inputs)?, &targets)?;
                losses += f64::from(loss.to_scalar::<f32>()?);
                optimizer.step(&vars, &loss.backward()?, rate)?;
            }
            let validation = self.validate(optimizer.average())?;
            state.epoch += 1;
            if state.best_epoch == 0 || validation.worth() > state.best.worth() {
                state.best = validation;
                state.best_epoch = state.epoch;
                best = optimizer.average().clone();
            }
            state.updates = optimizer.steps();
            report(FitProgress {
                epoch: state.epoch,
                loss: losses / batches as f64,
                validation,
            });
            if let Some(path) = &self.checkpoint {
                let mut tensors: BTreeMap<String, Tensor> = optimizer.state().into_iter().collect();
                tensors.extend(
                    vars.iter()
                        .map(|(n, v)| (format!("var/{n}"), v.as_tensor().detach())),
                );
                tensors.extend(best.iter().map(|(n, t)| (format!("best/{n}"), t.clone())));
                let json =
                    serde_json::to_string(&state).map_err(|e| Error::Internal(e.to_string()))?;
                write_whole(path, &serialize(&tensors, "foreseed_checkpoint", json)?)?;
            }
        }
        Ok(Fitted {
            weights: best,
            validation: state.best,
            epochs: state.best_epoch,
        })
    }

    /// The checkpoint of this very fit, if there is one.
    fn resume(
        &self,
        options: &FitOptions,
    ) -> Result<Option<(Checkpoint, BTreeMap<String, Tensor>)>> {
        let Some(path) = self.checkpoint.as_ref().filter(|path| path.exists()) else {
            return Ok(None);
        };
        let bytes = std::fs::read(path).map_err(Error::file(path))?;
        let Ok((tensors, json)) = deserialize(&bytes, "foreseed_checkpoint") else {
            return Ok(None);
        };
        Ok(serde_json::from_str::<Checkpoint>(&json)
            .ok()
            .filter(|kept| {
                kept.options == *options
                    && kept.design == self.design
                    && kept.layout == *self.layout
            })
            .map(|kept| (kept, tensors)))
    }

    /// All seeds of some prompts, each at one step.
    fn batch(&self, groups: &[&Group], items: &[Item]) -> Result<(Vec<Features>, Targets)> {
        let (mut rows, mut targets) = (Vec::new(), Targets::default());
        for (number, &(group, step)) in items.iter().enumerate() {
            let group = groups[group];
            for (seed, &score) in group.scores.iter().enumerate() {
                let features = group.features(seed, step)?;
                rows.push(self.design.reads(features, self.layout)?);
                targets
                    .quality
                    .push(((score - self.scale.0) / self.scale.1) as f32);
                targets.good.push(score >= self.good);
                targets.group.push(number);
                targets.words.push(group.words_wrong[seed].clone());
            }
        }
        Ok((rows, targets))
    }

    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Validation> {
        let mut weights = Weights::read(weights.clone());
        let net = Net::new(self.design, self.layout, &mut weights)?;
        let layout = self.design.layout(self.layout);
        let mut sum = Validation::default();
        for step in 0..self.at_steps {
            let (mut predicted, mut measured) = (Vec::new(), Vec::new());
            let (mut risks, mut wrong) = (Vec::new(), Vec::new());
            let items: Vec<Item> = (0..self.validation.len()).map(|g| (g, step)).collect();
            for chunk in items.chunks(16) {
                let (rows, targets) = self.batch(&self.validation, chunk)?;
                let inputs = Inputs::stack(&rows, &layout, self.steps)?;
                let outputs = net.forward(&inputs)?;
                let quality = outputs.quality.to_vec1::<f32>()?;
                let mut quality = quality.into_iter().map(f64::from);
                for &(group, _) in chunk {
                    let scores = &self.validation[group].scores;
                    predicted.push(quality.by_ref().take(scores.len()).collect::<Vec<_>>());
                    measured.push(scores.clone());
                }
                if let Some(words) = outputs.words {
                    for (said, verdicts) in words.to_vec2::<f32>()?.iter().zip(&targets.words) {
                        for (risk, verdict) in said.iter().zip(verdicts) {
                            if let Some(verdict) = verdict {
                                risks.push(f64::from(*risk));
                                wrong.push(*verdict);
                            }
                        }
                    }
                }
            }
            sum.pooled += stats::spearman(&predicted.concat(), &measured.concat());
            sum.words += stats::auc(&risks, &wrong);
            let pairs: Vec<_> = predicted.into_iter().zip(measured).collect();
            sum.within += stats::within(&pairs);
        }
        let steps = self.at_steps.max(1) as f64;
        Ok(Validation {
            pooled: sum.pooled / steps,
            within: sum.within / steps,
            words: sum.words / steps,
        })
    }
}

/// The learning rate's course: a short rise, then down a cosine to a hundredth.
fn pace(done: f64, of: f64) -> f64 {
    let rise = 0.02 * of;
    let x = (done / of.max(1.0)).min(1.0);
    let fall = 0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * x).cos());
    fall * ((done + 1.0) / (rise + 1.0)).min(1.0)
}

/// Features and targets of a batch as the gradient check needs them.
#[cfg(test)]
pub(super) fn whole_batch(
    design: Design,
    groups: &[Group],
    layout: &Layout,
    steps: usize,
) -> Result<(Inputs, Targets)> {
    let refs: Vec<&Group> = groups.iter().collect();
    let task = Task {
        design,
        layout,
        steps,
        at_steps: 2,
        good: 0.5,
        scale: (0.5, 0.3),
        train: refs.clone(),
        validation: Vec::new(),
        checkpoint: None,
    };
    let items: Vec<Item> = (0..groups.len()).map(|g| (g, g % 2)).collect();
    let (rows, targets) = task.batch(&refs, &items)?;
    Ok((
        Inputs::stack(&rows, &design.layout(layout), steps)?,
        targets,
    ))
}

/// The device that probes live on: they are small, and what they read is on the CPU.
pub const DEVICE: Device = Device::Cpu;
