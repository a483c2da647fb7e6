//! The initial noise: the same on every machine and device for a seed.

use candle_core::{Device, Shape, Tensor};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Result;
use crate::candidate::Seed;

/// Standard normal numbers in f32, on the CPU: ChaCha20 with the seed as the first four bytes of
/// its key, read as pairs of 64-bit words through the Box–Muller transform in f64. `libm`'s
/// functions are used, since a platform's own differ in their last bits.
pub fn standard_normal(seed: Seed, shape: impl Into<Shape>) -> Result<Tensor> {
    stream(seed, 0, shape.into())
}

/// The new noise that a seed's run adds in the step with this index, where its sampler adds any: like
/// [`standard_normal`], with the step's number as the next four bytes of the key.
pub(super) fn step_noise(seed: Seed, step: usize, shape: &[usize]) -> Result<Tensor> {
    stream(seed, step as u32 + 1, shape.into())
}

fn stream(seed: Seed, stream: u32, shape: Shape) -> Result<Tensor> {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&seed.0.to_le_bytes());
    key[4..8].copy_from_slice(&stream.to_le_bytes());
    let mut random = ChaCha20Rng::from_seed(key);
    let count = shape.elem_count();
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // In (0, 1], so that the logarithm is finite.
        let u = ((random.next_u64() >> 11) + 1) as f64 * 2f64.powi(-53);
        let v = (random.next_u64() >> 11) as f64 * 2f64.powi(-53);
        let radius = (-2.0 * libm::log(u)).sqrt();
        let angle = std::f64::consts::TAU * v;
        values.push((radius * libm::cos(angle)) as f32);
        values.push((radius * libm::sin(angle)) as f32);
    }
    values.truncate(count);
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_standard_normal() -> Result<()> {
        let values = standard_normal(Seed(7), 100_000)?.to_vec1::<f32>()?;
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.015, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
        Ok(())
    }

    #[test]
    fn more_noise_of_a_seed_begins_with_the_same_numbers_and_seeds_differ() -> Result<()> {
        let few = standard_normal(Seed(3), 5)?.to_vec1::<f32>()?;
        let many = standard_normal(Seed(3), 8)?.to_vec1::<f32>()?;
        assert_eq!(few, many[..5]);
        assert_ne!(few, standard_normal(Seed(4), 5)?.to_vec1::<f32>()?);
        assert_ne!(few, step_noise(Seed(3), 0, &[5])?.to_vec1::<f32>()?);
        Ok(())
    }
}
