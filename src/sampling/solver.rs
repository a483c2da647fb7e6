//! From one noise level to the next.

use candle_core::Tensor;

use super::{Prediction, Schedule};
use crate::{Error, Result};

/// How a sampler goes from one noise level to the next, and how it scales its latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// Euler's method. Latents are data + σ·noise, or (1 − σ)·data + σ·noise where the denoiser
    /// predicts a flow.
    Euler,
    /// Euler's method to below the next level, and new noise up to it. Latents are data + σ·noise.
    EulerAncestral,
    /// DPM-Solver++. Latents are α·(data + σ·noise) with α = 1 / √(σ² + 1).
    DpmPlusPlus(DpmPlusPlus),
}

/// DPM-Solver++ for data predictions (Lu et al. 2022, algorithm 2), in diffusers' variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DpmPlusPlus {
    /// Whether a step looks back at the prediction of the one before.
    pub second_order: bool,
    /// Whether the last step does not, which is steadier where few are made.
    pub last_is_first_order: bool,
    /// Heun's form of the second-order term, else the midpoint's.
    pub heun: bool,
    /// Whether a step ends below the next level and goes up to it with new noise (appendix of the
    /// same paper: SDE-DPM-Solver++).
    pub stochastic: bool,
}

impl Schedule {
    /// The latents as the denoiser takes them at this step.
    pub(super) fn denoiser_input(&self, latents: &Tensor, step: usize) -> Result<Tensor> {
        let scaled =
            self.prediction != Prediction::Flow && !matches!(self.solver, Solver::DpmPlusPlus(_));
        if !scaled {
            return Ok(latents.clone());
        }
        let sigma = self.sigmas[step];
        divided(latents, (sigma * sigma + 1.0).sqrt())
    }

    /// The finished latents that the denoiser's output at this step predicts.
    pub(super) fn data(&self, latents: &Tensor, output: &Tensor, step: usize) -> Result<Tensor> {
        let sigma = self.sigmas[step];
        if let Solver::DpmPlusPlus(_) = self.solver {
            let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
            let noise = f64::from(sigma * alpha);
            return match self.prediction {
                Prediction::Epsilon => divided(&(latents - (output * noise)?)?, alpha),
                Prediction::V => Ok(((latents * f64::from(alpha))? - (output * noise)?)?),
                Prediction::Sample => Ok(output.clone()),
                Prediction::Flow => Err(Error::Internal("DPM-Solver++ of a flow".into())),
            };
        }
        Ok(match self.prediction {
            Prediction::Epsilon | Prediction::Flow => (latents - (output * f64::from(sigma))?)?,
            Prediction::V => {
                let square = sigma * sigma + 1.0;
                ((output * f64::from(-sigma / square.sqrt()))? + divided(latents, square)?)?
            }
            Prediction::Sample => output.clone(),
        })
    }

    /// The latents after this step. `data` is what the step predicts and `previous` what the one
    /// before it did; `noise` gives new standard normal numbers of their shape, and is asked for
    /// them only where they are needed.
    pub(super) fn next(
        &self,
        latents: &Tensor,
        output: &Tensor,
        (data, previous): (&Tensor, Option<&Tensor>),
        step: usize,
        noise: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (sigma, next) = (self.sigmas[step], self.sigmas[step + 1]);
        if let Solver::DpmPlusPlus(solver) = self.solver {
            let last = step + 1 == self.timesteps.len();
            let previous = previous.filter(|_| {
                step > 0 && solver.second_order && !(last && solver.last_is_first_order)
            });
            let before = previous.map(|data| (data, self.sigmas[step - 1]));
            return solver.step(latents, data, before, (sigma, next), noise);
        }
        let slope = match self.prediction {
            Prediction::Flow => output.clone(),
            _ => divided(&(latents - data)?, sigma)?,
        };
        let (down, up) = match self.solver {
            Solver::EulerAncestral => ancestral(sigma, next),
            _ => (next, 0.0),
        };
        let latents = (latents + (slope * f64::from(down - sigma))?)?;
        match up > 0.0 {
            true => Ok((latents + (noise()? * f64::from(up))?)?),
            false => Ok(latents),
        }
    }
}

/// The level to step down to and the noise to add, whose squares make the next level's; in f32, as the
/// reference rounds.
fn ancestral(sigma: f32, next: f32) -> (f32, f32) {
    let (square, next) = (sigma * sigma, next * next);
    let up = (next * (square - next) / square).max(0.0).sqrt();
    ((next - up * up).max(0.0).sqrt(), up)
}

impl DpmPlusPlus {
    /// A step from the level `sigma` to `next`. `before` is the step before's prediction with its
    /// level, where this one looks back.
    fn step(
        &self,
        latents: &Tensor,
        data: &Tensor,
        before: Option<(&Tensor, f32)>,
        (sigma, next): (f32, f32),
        noise: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        if sigma == next {
            // Where a spacing ends at the level that is kept to the end.
            return Ok(latents.clone());
        }
        let (sigma, next) = (f64::from(sigma), f64::from(next));
        let alpha = |sigma: f64| 1.0 / (sigma * sigma + 1.0).sqrt();
        // λ = ln(α / (α·σ))
        let h = sigma.ln() - next.ln();
        // How much of the data's part is new: 1 − e^(−h), doubled in the exponent with noise.
        let rate = if self.stochastic { 2.0 * h } else { h };
        let fresh = 1.0 - (-rate).exp();
        let kept = (next * alpha(next)) / (sigma * alpha(sigma));
        let kept = if self.stochastic {
            kept * (-h).exp()
        } else {
            kept
        };
        let mut sum = ((latents * kept)? + (data * (alpha(next) * fresh))?)?;
        if let Some((previous, level)) = before {
            let ratio = h / (f64::from(level).ln() - sigma.ln());
            let weight = match self.heun {
                true => 1.0 - fresh / rate,
                false => 0.5 * fresh,
            };
            let change = ((data - previous)? * ratio)?;
            sum = (sum + (change * (alpha(next) * weight))?)?;
        }
        let up = next * alpha(next) * fresh.max(0.0).sqrt();
        match self.stochastic && up > 0.0 {
            true => Ok((sum + (noise()? * up)?)?),
            false => Ok(sum),
        }
    }
}

/// A true division: dividing a tensor by a number multiplies it by the reciprocal, and at the
/// highest noise levels that rounding alone is more than the reference differs by.
fn divided(x: &Tensor, by: f32) -> Result<Tensor> {
    Ok(x.broadcast_div(&Tensor::new(by, x.device())?)?)
}
