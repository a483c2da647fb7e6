//! AdamW whose state can be saved and taken up again, and an average of the weights over time.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::{Error, Result};

/// AdamW (Loshchilov and Hutter 2019) with gradients clipped to a norm of 1 and an exponential
/// average of the weights, which is what is kept in the end.
pub struct AdamW {
    weight_decay: f64,
    steps: i32,
    first: BTreeMap<String, Tensor>,
    second: BTreeMap<String, Tensor>,
    average: BTreeMap<String, Tensor>,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const CLIP: f64 = 1.0;
const AVERAGE: f64 = 0.99;

impl AdamW {
    pub fn new(vars: &BTreeMap<String, Var>, weight_decay: f64) -> Result<Self> {
        let zeros = |_: &str, var: &Var| var.zeros_like();
        let copy = |_: &str, var: &Var| var.as_tensor().detach().copy();
        let each = |make: &dyn Fn(&str, &Var) -> candle_core::Result<Tensor>| {
            vars.iter()
                .map(|(name, var)| Ok((name.clone(), make(name, var)?)))
                .collect::<Result<BTreeMap<_, _>>>()
        };
        Ok(Self {
            weight_decay,
            steps: 0,
            first: each(&zeros)?,
            second: each(&zeros)?,
            average: each(&copy)?,
        })
    }

    /// The weights' average so far.
    pub fn average(&self) -> &BTreeMap<String, Tensor> {
        &self.average
    }

    /// One update. A weight without a gradient is a bug in the network and an error here, since
    /// candle loses gradients without a word.
    pub fn step(
        &mut self,
        vars: &BTreeMap<String, Var>,
        grads: &GradStore,
        rate: f64,
    ) -> Result<()> {
        let mut gradients = BTreeMap::new();
        let mut square = 0f64;
        for (name, var) in vars {
            let gradient = grads
                .get(var.as_tensor())
                .ok_or_else(|| Error::Internal(format!("{name} got no gradient")))?
                .detach();
            square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            gradients.insert(name, gradient);
        }
        if !square.is_finite() {
            return Err(Error::Internal(
                "the loss has no finite gradient; a smaller learning rate may help".into(),
            ));
        }
        let clip = (CLIP / square.sqrt().max(1e-12)).min(1.0);
        self.steps += 1;
        let (correct1, correct2) = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
        // The average follows quickly at first, so that early epochs are judged fairly.
        let steps = f64::from(self.steps);
        let keep = AVERAGE.min((1.0 + steps) / (10.0 + steps));
        for (name, gradient) in gradients {
            let var = &vars[name];
            let gradient = (gradient * clip)?;
            let first = ((&self.first[name] * BETA1)? + (&gradient * (1.0 - BETA1))?)?;
            let second = ((&self.second[name] * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
            let step = ((&first / correct1)? / ((&second / correct2)?.sqrt()? + 1e-8)?)?;
            let old = var.as_tensor().detach();
            // Biases and scales are few and must be free.
            let decay = match old.rank() {
                1 => 0.0,
                _ => rate * self.weight_decay,
            };
            let new = ((old * (1.0 - decay))? - (step * rate)?)?;
            let average = ((&self.average[name] * keep)? + (&new * (1.0 - keep))?)?;
            var.set(&new)?;
            self.first.insert(name.clone(), first);
            self.second.insert(name.clone(), second);
            self.average.insert(name.clone(), average);
        }
        Ok(())
    }

    /// Everything needed to go on, under names of its own; [`AdamW::restore`] takes it back.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        [
            ("first", &self.first),
            ("second", &self.second),
            ("average", &self.average),
        ]
        .into_iter()
        .flat_map(|(kind, tensors)| {
            tensors
                .iter()
                .map(move |(name, tensor)| (format!("{kind}/{name}"), tensor.clone()))
        })
        .collect()
    }

    pub fn steps(&self) -> i32 {
        self.steps
    }

    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>, steps: i32) -> Result<()> {
        self.steps = steps;
        for (kind, own) in [
            ("first", &mut self.first),
            ("second", &mut self.second),
            ("average", &mut self.average),
        ] {
            for (name, tensor) in own.iter_mut() {
                *tensor = tensors
                    .get(&format!("{kind}/{name}"))
                    .ok_or_else(|| Error::Internal(format!("the checkpoint lacks {kind}/{name}")))?
                    .clone();
            }
        }
        Ok(())
    }
}
