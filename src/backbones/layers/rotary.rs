//! Rotary position embedding (Su et al. 2021) of neighbouring channels.

use candle_core::{DType, Device, Tensor};

use super::cpu;
use crate::{Error, Result};

/// The angles of a sequence of tokens. Turning is computed in f32 whatever the weights are: in bf16
/// far positions would fall together.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// Cosine and sine, a token and a pair of channels each.
    turns: Vec<(f32, f32)>,
    /// Pairs of channels of one head.
    pairs: usize,
    /// The cosines and the sines, (tokens, pairs), for devices other than the CPU.
    tensors: Option<(Tensor, Tensor)>,
}

impl Rotary {
    /// `angles`: (tokens, pairs), row by row.
    pub fn new(angles: &[f64], pairs: usize, device: &Device) -> Result<Self> {
        let turns: Vec<(f32, f32)> = angles
            .iter()
            .map(|angle| (libm::cos(*angle) as f32, libm::sin(*angle) as f32))
            .collect();
        let tensors = if device.is_cpu() {
            None
        } else {
            Some(tables(&turns, pairs, device)?)
        };
        Ok(Self {
            turns,
            pairs,
            tensors,
        })
    }

    /// Turns each pair of neighbouring channels by its token's angle. `x`: (rows, tokens, heads,
    /// channels of a head).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, tokens, heads, channels) = x.dims4()?;
        if channels != 2 * self.pairs || tokens * self.pairs != self.turns.len() {
            return Err(Error::Internal(format!(
                "angles of {} tokens and {} pairs cannot turn {:?}",
                self.turns.len() / self.pairs.max(1),
                self.pairs,
                x.dims()
            )));
        }
        if cpu::applies_to(x) {
            return cpu::with_values(x, |values| {
                cpu::tensor(x.dims(), |out| self.turn(values, heads, out))
            })?;
        }
        let (cos, sin) = match &self.tensors {
            Some(tensors) => tensors.clone(),
            None => tables(&self.turns, self.pairs, x.device())?,
        };
        let by_head = x.to_dtype(DType::F32)?.transpose(1, 2)?.contiguous()?;
        let turned = candle_nn::rotary_emb::rope_i(&by_head, &cos, &sin)?;
        Ok(turned.to_dtype(x.dtype())?.transpose(1, 2)?.contiguous()?)
    }

    fn turn(&self, x: &[f32], heads: usize, out: &mut [f32]) {
        let size = heads * 2 * self.pairs;
        let turns = self.turns.chunks_exact(self.pairs).cycle();
        let tokens = x.chunks_exact(size).zip(out.chunks_exact_mut(size));
        for ((x, out), turns) in tokens.zip(turns) {
            let pairs = x.chunks_exact(2).zip(out.chunks_exact_mut(2));
            for ((x, out), (cos, sin)) in pairs.zip(turns.iter().cycle()) {
                out[0] = x[0] * cos - x[1] * sin;
                out[1] = x[0] * sin + x[1] * cos;
            }
        }
    }
}

fn tables(turns: &[(f32, f32)], pairs: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let shape = (turns.len() / pairs, pairs);
    let (cos, sin): (Vec<f32>, Vec<f32>) = turns.iter().copied().unzip();
    Ok((
        Tensor::from_vec(cos, shape, device)?,
        Tensor::from_vec(sin, shape, device)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_channels_turn_by_their_tokens_angles_and_both_ways_agree() {
        let quarter = std::f64::consts::FRAC_PI_2;
        let angles = [0.0, 0.0, quarter, 0.25];
        let rotary = Rotary::new(&angles, 2, &Device::Cpu).unwrap();
        let values: Vec<f32> = (0..32).map(|i| i as f32 - 9.0).collect();
        let x = Tensor::from_vec(values, (2, 2, 2, 4), &Device::Cpu).unwrap();
        let turned = rotary.forward(&x).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (before, after) = (flat(&x), flat(&turned));
        assert_eq!(after[..8], before[..8]);
        assert!((after[8] + before[9]).abs() < 1e-5 && (after[9] - before[8]).abs() < 1e-5);
        let double = rotary.forward(&x.to_dtype(DType::F64).unwrap()).unwrap();
        let double = flat(&double.to_dtype(DType::F32).unwrap());
        assert!(double.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
