//! Latents as tokens of 2×2.

use candle_core::Tensor;

use crate::{Error, Result};

/// Latents of one token along each side: a constant of diffusers' FLUX and Qwen-Image pipelines, in
/// no file.
pub const PATCH: usize = 2;

/// (rows, channels, height, width) → (rows, tokens, channels·4), tokens row by row.
pub fn pack(latents: &Tensor) -> Result<Tensor> {
    let (rows, c, h, w) = latents.dims4()?;
    if h % PATCH != 0 || w % PATCH != 0 {
        return Err(Error::Internal(format!(
            "{h}×{w} latents do not make whole tokens"
        )));
    }
    Ok(latents
        .reshape(&[rows, c, h / PATCH, PATCH, w / PATCH, PATCH])?
        .permute(vec![0, 2, 4, 1, 3, 5])?
        .reshape((rows, h / PATCH * (w / PATCH), c * PATCH * PATCH))?)
}

/// [`pack`] undone, for latents of this height and width.
pub fn unpack(tokens: &Tensor, h: usize, w: usize) -> Result<Tensor> {
    let (rows, _, c) = tokens.dims3()?;
    let c = c / (PATCH * PATCH);
    Ok(tokens
        .reshape(&[rows, h / PATCH, w / PATCH, c, PATCH, PATCH])?
        .permute(vec![0, 3, 1, 4, 2, 5])?
        .reshape((rows, c, h, w))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_token_holds_two_by_two_latents_channel_by_channel() {
        let values: Vec<f32> = (0..2 * 4 * 6).map(|i| i as f32).collect();
        let latents = Tensor::from_vec(values, (1, 2, 4, 6), &Device::Cpu).unwrap();
        let tokens = pack(&latents).unwrap();
        assert_eq!(tokens.dims(), [1, 6, 8]);
        let second = tokens.get(0).unwrap().get(1).unwrap();
        let second = second.to_vec1::<f32>().unwrap();
        assert_eq!(second, [2.0, 3.0, 8.0, 9.0, 26.0, 27.0, 32.0, 33.0]);
        let back = unpack(&tokens, 4, 6).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(&back), flat(&latents));
    }
}
