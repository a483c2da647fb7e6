//! From what the VAE gives to a picture.

use candle_core::{DType, Tensor};
use image::RgbImage;

use crate::{Error, Result};

/// (1, 3, height, width) in 0–1 → RGB, rounded as diffusers rounds.
pub(crate) fn picture_of(image: &Tensor) -> Result<RgbImage> {
    let image = image.squeeze(0)?.to_dtype(DType::F32)?;
    let (_, height, width) = image.dims3()?;
    let pixels = image.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?;
    if pixels.iter().any(|p| p.is_nan()) {
        return Err(Error::Internal("the decoded picture holds NaN".into()));
    }
    let bytes = pixels
        .iter()
        .map(|p| (p.clamp(0.0, 1.0) * 255.0).round() as u8)
        .collect();
    RgbImage::from_raw(width as u32, height as u32, bytes)
        .ok_or_else(|| Error::Internal("a decoded picture of the wrong size".into()))
}
