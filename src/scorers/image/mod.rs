//! A finished picture as the scorers' networks take it: resized, cut or padded to a square, and
//! normalised.

pub mod resize;

use candle_core::{Device, Tensor};
use image::RgbImage;
use serde::Deserialize;
use serde_json::Value;

use self::resize::{Sample, Samples, bicubic};
use crate::backbones::ModelFiles;
use crate::{Error, Result};

/// The mean and deviation of CLIP's training pictures, by which it and its descendants normalise
/// where no file says so.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// How a picture becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The shorter side is brought to `shortest`, and the middle is cut out.
    Crop {
        shortest: usize,
        side: usize,
        rounding: Rounding,
    },
    /// Both sides are brought to the square's, whatever the picture's shape.
    Stretch { side: usize },
    /// The longer side is brought to the square's in floats, and what is missing is black.
    Pad { side: usize },
}

/// Where the middle is when there is no middle pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// transformers: half a pixel further up or left.
    Down,
    /// torchvision, by Python's `round`: to the even one.
    HalfEven,
}

/// What is done to a picture before a network sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preparation {
    fit: Fit,
    mean: [f32; 3],
    deviation: [f32; 3],
    /// What a byte is multiplied by.
    unit: f32,
}

/// `preprocessor_config.json`, as CLIP's image processor writes it.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    do_resize: bool,
    size: Value,
    resample: u32,
    do_center_crop: bool,
    crop_size: Value,
    do_rescale: bool,
    rescale_factor: f32,
    do_normalize: bool,
    image_mean: [f32; 3],
    image_std: [f32; 3],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: 224.into(),
            resample: BICUBIC,
            do_center_crop: true,
            crop_size: 224.into(),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: CLIP_MEAN,
            image_std: CLIP_DEVIATION,
        }
    }
}

/// Pillow's number for bicubic.
const BICUBIC: u32 = 3;

impl Preparation {
    /// `fit`, then CLIP's normalisation.
    pub fn clip(fit: Fit) -> Self {
        Self {
            fit,
            mean: CLIP_MEAN,
            deviation: CLIP_DEVIATION,
            unit: 1.0 / 255.0,
        }
    }

    /// What transformers' CLIP processor does by the `preprocessor_config.json` in `folder`, for a
    /// network that takes squares of `side` pixels.
    pub fn read(files: &ModelFiles, folder: &str, side: usize) -> Result<Self> {
        let path = format!("{folder}/preprocessor_config.json");
        let config: Config = files.json(&path)?;
        let bad = |what: String| files.error(format!("{path}: {what}"));
        if !(config.do_resize && config.do_rescale) || config.resample != BICUBIC {
            return Err(bad(format!(
                "do_resize {}, do_rescale {}, resample {}: only bicubic resizing (3) of rescaled \
                 pictures is supported",
                config.do_resize, config.do_rescale, config.resample
            )));
        }
        let square = |value: &Value| match value {
            Value::Object(sides) => {
                let length = |name: &str| sides.get(name)?.as_u64();
                match (length("height"), length("width")) {
                    (Some(height), Some(width)) if height == width => Some(height as usize),
                    _ => None,
                }
            }
            value => Some(value.as_u64()? as usize),
        };
        let shortest = match &config.size {
            Value::Object(sides) => sides.get("shortest_edge").and_then(Value::as_u64),
            value => value.as_u64(),
        };
        let fit = match (shortest, config.do_center_crop) {
            (Some(shortest), true) => Fit::Crop {
                shortest: shortest as usize,
                side: square(&config.crop_size).unwrap_or(0),
                rounding: Rounding::Down,
            },
            _ => Fit::Stretch {
                side: square(&config.size).unwrap_or(0),
            },
        };
        let too_small = matches!(fit, Fit::Crop { shortest, side, .. } if shortest < side);
        if fit.side() != side || too_small {
            return Err(bad(format!(
                "size {} and crop_size {} do not make the squares of {side} pixels that the network \
                 takes",
                config.size, config.crop_size
            )));
        }
        let plain = ([0.0; 3], [1.0; 3]);
        let (mean, deviation) = match config.do_normalize {
            true => (config.image_mean, config.image_std),
            false => plain,
        };
        Ok(Self {
            fit,
            mean,
            deviation,
            unit: config.rescale_factor,
        })
    }

    /// (1, 3, side, side)
    pub fn apply(&self, image: &RgbImage, device: &Device) -> Result<Tensor> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        if width == 0 || height == 0 {
            return Err(Error::invalid(
                "image",
                format!("{width}×{height} pixels"),
                "A scorer needs a picture with something in it",
            ));
        }
        let bytes = Samples {
            values: image.as_raw().clone(),
            width,
            height,
        };
        let unit = |byte: &u8| f32::from(*byte) * self.unit;
        let values: Vec<f32> = match self.fit {
            Fit::Crop {
                shortest,
                side,
                rounding,
            } => {
                let short = width.min(height);
                let long = |length: usize| match length == short {
                    true => shortest,
                    false => shortest * length / short,
                };
                let resized = bicubic(&bytes, long(width), long(height));
                let cut = middle(&resized, side, rounding);
                cut.values.iter().map(unit).collect()
            }
            Fit::Stretch { side } => {
                let resized = bicubic(&bytes, side, side);
                resized.values.iter().map(unit).collect()
            }
            Fit::Pad { side } => {
                let floats = Samples {
                    values: bytes.values.iter().map(unit).collect(),
                    width,
                    height,
                };
                let scale = side as f64 / width.max(height) as f64;
                let length =
                    |from: usize| (from as f64 * scale).round_ties_even().max(1.0) as usize;
                padded(&bicubic(&floats, length(width), length(height)), side).values
            }
        };
        let normal = values.iter().enumerate().map(|(i, value)| {
            let channel = i % 3;
            (value - self.mean[channel]) / self.deviation[channel]
        });
        let side = self.fit.side();
        let pixels = Tensor::from_iter(normal, &Device::Cpu)?.reshape((1, side, side, 3))?;
        Ok(pixels
            .permute((0, 3, 1, 2))?
            .contiguous()?
            .to_device(device)?)
    }
}

impl Fit {
    fn side(self) -> usize {
        match self {
            Self::Crop { side, .. } | Self::Stretch { side } | Self::Pad { side } => side,
        }
    }
}

/// The middle square of a picture that is at least as large.
fn middle<T: Sample>(picture: &Samples<T>, side: usize, rounding: Rounding) -> Samples<T> {
    let before = |length: usize| {
        let over = length - side;
        match rounding {
            Rounding::Down => over / 2,
            Rounding::HalfEven => (over as f64 / 2.0).round_ties_even() as usize,
        }
    };
    let (left, top) = (before(picture.width), before(picture.height));
    let rows = picture.values.chunks_exact(3 * picture.width);
    let cut = rows
        .skip(top)
        .take(side)
        .flat_map(|row| &row[3 * left..3 * (left + side)]);
    Samples {
        values: cut.copied().collect(),
        width: side,
        height: side,
    }
}

/// In the middle of a black square.
fn padded(picture: &Samples<f32>, side: usize) -> Samples<f32> {
    let mut values = vec![0.0; 3 * side * side];
    let (left, top) = ((side - picture.width) / 2, (side - picture.height) / 2);
    let rows = picture.values.chunks_exact(3 * picture.width);
    for (row, from) in rows.enumerate() {
        let start = 3 * ((top + row) * side + left);
        values[start..start + from.len()].copy_from_slice(from);
    }
    Samples {
        values,
        width: side,
        height: side,
    }
}
