//! A picture small enough to stand in an answer.

use std::borrow::Cow;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, RgbImage};

use crate::{Error, Result};

/// A picture smaller than this is enlarged, so that a person sees more than a stamp.
const COMFORTABLE: u32 = 384;

/// JPEG bytes of at most `side` pixels a side whose base64 is at most `base64_bytes`.
pub fn thumbnail(picture: &RgbImage, side: u32, base64_bytes: usize) -> Result<Vec<u8>> {
    let mut picture = fit(picture, side.max(1));
    let limit = base64_bytes / 4 * 3;
    loop {
        for quality in [92, 85, 75, 60] {
            let jpeg = encode(&picture, quality)?;
            if jpeg.len() <= limit {
                return Ok(jpeg);
            }
        }
        let (width, height) = picture.dimensions();
        if width.max(height) < 16 {
            return Err(Error::Internal(format!(
                "no thumbnail fits into {base64_bytes} bytes of base64"
            )));
        }
        let (width, height) = ((width * 3 / 4).max(1), (height * 3 / 4).max(1));
        picture = Cow::Owned(imageops::resize(
            picture.as_ref(),
            width,
            height,
            FilterType::Lanczos3,
        ));
    }
}

/// `picture` shrunk to `side`, or enlarged by a whole factor towards a comfortable size within it.
pub(super) fn fit(picture: &RgbImage, side: u32) -> Cow<'_, RgbImage> {
    let (width, height) = picture.dimensions();
    let long = width.max(height).max(1);
    if long > side {
        let shrink = |n: u32| ((u64::from(n) * u64::from(side) / u64::from(long)) as u32).max(1);
        return Cow::Owned(imageops::resize(
            picture,
            shrink(width),
            shrink(height),
            FilterType::Lanczos3,
        ));
    }
    match side.min(COMFORTABLE) / long {
        0 | 1 => Cow::Borrowed(picture),
        factor => Cow::Owned(imageops::resize(
            picture,
            width * factor,
            height * factor,
            FilterType::CatmullRom,
        )),
    }
}

fn encode(picture: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, quality)
        .encode(
            picture.as_raw(),
            picture.width(),
            picture.height(),
            ExtendedColorType::Rgb8,
        )
        .map_err(|error| Error::Internal(format!("a thumbnail could not be encoded: {error}")))?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn noise(width: u32, height: u32) -> RgbImage {
        let mut state = 1_u32;
        RgbImage::from_fn(width, height, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        })
    }

    fn size(jpeg: &[u8]) -> (u32, u32) {
        let picture = image::load_from_memory(jpeg).unwrap();
        (picture.width(), picture.height())
    }

    #[test]
    fn small_pictures_are_enlarged_by_a_whole_factor_and_big_ones_shrunk() {
        let made = |width, height| size(&thumbnail(&noise(width, height), 512, 1 << 20).unwrap());
        assert_eq!(made(64, 64), (384, 384));
        assert_eq!(made(96, 64), (384, 256));
        assert_eq!(made(1024, 768), (512, 384));
        assert_eq!(made(2048, 2), (512, 1));
        assert_eq!(made(512, 512), (512, 512));
    }

    #[test]
    fn the_limit_of_base64_is_kept_even_by_noise() {
        for limit in [100_000, 10_000, 2_000] {
            let jpeg = thumbnail(&noise(1024, 1024), 512, limit).unwrap();
            assert!(jpeg.len().div_ceil(3) * 4 <= limit);
        }
        assert!(thumbnail(&noise(8, 8), 512, 10).is_err());
    }
}
