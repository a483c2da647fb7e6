//! What a model takes of memory, told from its configurations and its files' headers before any weight
//! is read.
//!
//! Weights are counted tensor by tensor. Activations are estimated: the numbers that are alive at
//! once where the most are, times their size; a benchmark (`examples/peak_memory`) prints the estimate
//! beside what was measured.

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use super::files::ModelFiles;
use super::layers::attention::SCORES;
use super::placement::Placement;
use super::weights::Weights;
use crate::Result;

/// Bytes that grow with a picture's pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    pub per_pixel: f64,
    pub fixed: f64,
}

impl Cost {
    /// For a picture of so many pixels.
    pub fn bytes(&self, width: usize, height: usize) -> u64 {
        (self.per_pixel * width as f64 * height as f64 + self.fixed) as u64
    }
}

/// How many bytes a number takes on its way through the layers.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// Of one that is kept.
    pub kept: f64,
    /// More for each that is normalised, which is done in f32.
    pub normalised: f64,
    /// Times its kernel's area: a number that goes into a convolution, where that is unrolled.
    pub unrolled: f64,
    /// Of the attention's scores that are held at once.
    pub scores: f64,
    /// Of one in a tapped map: as it is computed, and in f32 for who looks at it.
    pub map: f64,
}

impl Numbers {
    pub fn of(device: &Device, dtype: DType) -> Self {
        let size = dtype.size_in_bytes() as f64;
        if device.is_cpu() && dtype == DType::F32 {
            // The kernels written for it make no copies, and hold the scores of few queries.
            return Self {
                kept: size,
                normalised: 0.0,
                unrolled: 0.0,
                scores: 0.0,
                map: size,
            };
        }
        Self {
            kept: size,
            normalised: 12.0,
            unrolled: match device.is_cuda() && cfg!(feature = "cudnn") {
                true => 0.0,
                false => size,
            },
            scores: SCORES as f64 * (2.0 * size + 8.0),
            map: size + 4.0,
        }
    }
}

/// What one family's model takes besides its weights.
#[derive(Clone, Debug)]
pub struct Costs {
    /// One evaluation of the denoiser, the default tap included.
    pub evaluation: Cost,
    /// Evaluations of a candidate's guided step.
    pub evaluations: u64,
    /// One picture's decoding.
    pub decode: Cost,
    /// Floating-point operations of an evaluation and of decoding, of a picture of `size`.
    pub operations: [f64; 2],
    /// The components that stay in memory, and what each is computed in.
    pub kept: Vec<(&'static str, DType)>,
    pub texts: Vec<TextPart>,
    /// Of the picture that it is made for.
    pub size: (usize, usize),
}

/// A text encoder.
#[derive(Clone, Copy, Debug)]
pub struct TextPart {
    pub component: &'static str,
    pub dtype: DType,
    /// Whether its layers can be read one by one.
    pub by_layer: bool,
    /// How names begin of tensors that are not loaded.
    pub without: &'static [&'static str],
}

/// Numbers that are alive in a decoder of a VAE for each pixel of the picture: `widths` are the
/// channels of its blocks in the order in which they run, each at twice the resolution.
pub fn decoding(widths: &[usize], numbers: Numbers) -> Cost {
    /// What goes into a block, normalised, padded, and what comes out.
    const COPIES: f64 = 4.0;
    const AREA: f64 = 9.0;
    let levels = widths.len();
    let per_pixel = widths.iter().enumerate().map(|(i, own)| {
        let before = widths[i.saturating_sub(1)];
        let channels = before.max(*own) as f64;
        let share = 0.25f64.powi((levels - 1 - i) as i32);
        let bytes = COPIES * numbers.kept + numbers.normalised + AREA * numbers.unrolled;
        channels * share * bytes
    });
    Cost {
        per_pixel: per_pixel.fold(0.0, f64::max),
        fixed: numbers.scores,
    }
}

/// A transformer over the tokens of text and picture.
pub struct Stream {
    pub channels: usize,
    pub heads: usize,
    pub text_tokens: usize,
    /// Blocks whose maps are kept.
    pub tapped: usize,
    /// Pixels of a token along each side.
    pub token: usize,
}

impl Stream {
    /// Numbers to a token's channel that are alive in a block: the shortcut, what is normalised,
    /// queries, keys and values three times, the feed-forward's four twice, and both joined.
    const IN_A_BLOCK: f64 = 24.0;

    /// Floating-point operations of an evaluation of so many blocks at so many pixels: of a token's
    /// projections (four of them) and feed-forward (eight), and of the attention.
    pub fn operations(&self, blocks: usize, (width, height): (usize, usize)) -> f64 {
        let channels = self.channels as f64;
        let tokens = (width * height / (self.token * self.token) + self.text_tokens) as f64;
        let products = 2.0 * 12.0 * channels * channels * tokens;
        blocks as f64 * (products + 4.0 * tokens * tokens * channels)
    }

    pub fn evaluation(&self, numbers: Numbers) -> Cost {
        let per_token =
            self.channels as f64 * (Self::IN_A_BLOCK * numbers.kept + numbers.normalised);
        let map = (self.tapped * self.heads * self.text_tokens) as f64 * numbers.map;
        // A quantized matrix is made numbers of when it is multiplied with: the feed-forward's.
        let matrix = 4.0 * (self.channels * self.channels) as f64 * (numbers.kept + 4.0);
        Cost {
            per_pixel: (per_token + map) / (self.token * self.token) as f64,
            fixed: per_token * self.text_tokens as f64 + matrix + numbers.scores,
        }
    }
}

/// Floating-point operations of a residual block over so many pixels: two 3×3 convolutions, and a 1×1
/// one where the channels change.
pub fn residual(inputs: f64, outputs: f64, pixels: f64) -> f64 {
    let shortcut = if inputs == outputs { 0.0 } else { inputs };
    2.0 * outputs * (9.0 * (inputs + outputs) + shortcut) * pixels
}

/// Floating-point operations of a VAE's decoder: blocks of `widths` channels with `residuals` residual
/// blocks each, in the order in which they run, and two more at the start.
pub fn decoding_operations(widths: &[usize], residuals: usize, pixels: f64) -> f64 {
    let share = |level: usize| pixels * 0.25f64.powi((widths.len() - 1 - level) as i32);
    let mut sum = 2.0 * residual(widths[0] as f64, widths[0] as f64, share(0));
    for (level, own) in widths.iter().enumerate() {
        let (own, before) = (*own as f64, widths[level.saturating_sub(1)] as f64);
        sum += residual(before, own, share(level));
        sum += (residuals - 1) as f64 * residual(own, own, share(level));
        if level + 1 < widths.len() {
            sum += 2.0 * 9.0 * own * own * share(level + 1);
        }
    }
    sum
}

/// What a model takes of memory, and of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Needs {
    /// Bytes of each part's weights as loaded, text encoders first.
    pub weights: Vec<Part>,
    /// Bytes that a candidate's step takes besides, guidance and the default tap included.
    pub step_bytes: u64,
    /// Bytes that decoding a picture takes, whole and in tiles of 512 pixels.
    pub decode_bytes: u64,
    pub tiled_decode_bytes: u64,
    /// Bytes that encoding a text takes where its encoders are read for it and dropped.
    pub text_bytes: u64,
    /// 10¹² floating-point operations of one evaluation of the denoiser (a guided step is two), and of
    /// decoding a picture.
    pub evaluation_tflop: f64,
    pub decode_tflop: f64,
    /// Pixels of the picture.
    pub width: usize,
    pub height: usize,
}

/// A part of a published model.
#[derive(Clone, Copy, Debug)]
pub struct PublishedPart {
    pub component: &'static str,
    /// Numbers that are loaded.
    pub parameters: u64,
    /// Those that are in memory at once where it is read for a text and dropped.
    pub at_once: u64,
}

/// A component and the bytes of its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub component: String,
    pub bytes: u64,
    pub is_text: bool,
}

/// Pixels of the tiles that [`Needs::tiled_decode_bytes`] is told for.
const TILE: usize = 512;

impl Needs {
    /// Reads the headers of the files; a tensor that is not loaded (an encoder of pictures, a vision
    /// tower) is not counted.
    pub(super) fn of(files: &ModelFiles, costs: &Costs, placement: &Placement) -> Result<Self> {
        let mut weights = Vec::new();
        let mut text_bytes = 0;
        for text in &costs.texts {
            let opened = Weights::open(files, text.component, &placement.device, text.dtype)?;
            let sizes: Vec<(&str, u64)> = opened
                .sizes()
                .filter(|(name, _)| !text.without.iter().any(|part| name.starts_with(part)))
                .collect();
            let bytes = sizes.iter().map(|(_, bytes)| bytes).sum();
            weights.push(Part {
                component: text.component.into(),
                bytes,
                is_text: true,
            });
            let at_once = if text.by_layer {
                one_layer(&sizes)
            } else {
                bytes
            };
            text_bytes = at_once.max(text_bytes);
        }
        for (component, dtype) in &costs.kept {
            let opened = Weights::open(files, component, &placement.device, *dtype)?;
            let decoded = opened
                .sizes()
                .filter(|(name, _)| !name.starts_with("encoder."));
            weights.push(Part {
                component: (*component).into(),
                bytes: decoded.map(|(_, bytes)| bytes).sum(),
                is_text: false,
            });
        }
        Ok(Self {
            text_bytes,
            ..Self::sized(costs, weights)
        })
    }

    /// Of a model whose files are not here.
    pub(super) fn published(costs: &Costs, parts: &[PublishedPart]) -> Self {
        let part = |component: &str| parts.iter().find(|part| part.component == component);
        let bytes = |count: u64, dtype: DType| count * dtype.size_in_bytes() as u64;
        let kept = costs
            .kept
            .iter()
            .map(|(name, dtype)| (*name, *dtype, false));
        let texts = costs
            .texts
            .iter()
            .map(|text| (text.component, text.dtype, true));
        let weights = texts.chain(kept).filter_map(|(component, dtype, is_text)| {
            Some(Part {
                component: component.to_owned(),
                bytes: bytes(part(component)?.parameters, dtype),
                is_text,
            })
        });
        let texts = costs.texts.iter().filter_map(|text| {
            let at_once = part(text.component)?.at_once;
            Some(bytes(at_once, text.dtype))
        });
        Self {
            text_bytes: texts.max().unwrap_or_default(),
            ..Self::sized(costs, weights.collect())
        }
    }

    fn sized(costs: &Costs, weights: Vec<Part>) -> Self {
        let (width, height) = costs.size;
        Self {
            weights,
            step_bytes: costs.evaluations * costs.evaluation.bytes(width, height),
            decode_bytes: costs.decode.bytes(width, height),
            tiled_decode_bytes: costs.decode.bytes(width.min(TILE), height.min(TILE)),
            text_bytes: 0,
            evaluation_tflop: costs.operations[0] / 1e12,
            decode_tflop: costs.operations[1] / 1e12,
            width,
            height,
        }
    }

    fn sum(&self, is_text: bool) -> u64 {
        let parts = self.weights.iter().filter(|part| part.is_text == is_text);
        parts.map(|part| part.bytes).sum()
    }

    /// Bytes of the denoiser's and the VAE's weights.
    pub fn resident_bytes(&self) -> u64 {
        self.sum(false)
    }

    /// Bytes of the text encoders' weights.
    pub fn texts_weight_bytes(&self) -> u64 {
        self.sum(true)
    }

    /// The peak where text encoders are dropped after use and pictures are decoded in tiles.
    pub fn least(&self) -> u64 {
        let most = self.text_bytes.max(self.step_bytes);
        self.resident_bytes() + most.max(self.tiled_decode_bytes)
    }

    /// The peak where all weights stay and pictures are decoded whole.
    pub fn whole(&self) -> u64 {
        let most = self.step_bytes.max(self.decode_bytes);
        self.resident_bytes() + self.texts_weight_bytes() + most
    }
}

/// The bytes of what is in no layer, and of the largest layer: a layer's names begin alike, up to the
/// first number.
fn one_layer(sizes: &[(&str, u64)]) -> u64 {
    let mut layers = std::collections::BTreeMap::<&str, u64>::new();
    let mut beside = 0;
    for (name, bytes) in sizes {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let mut end = 0;
        let numbered = name.split('.').find(|part| {
            end += part.len() + 1;
            is_number(part)
        });
        match numbered {
            Some(_) => *layers.entry(&name[..end - 1]).or_default() += bytes,
            None => beside += bytes,
        }
    }
    beside + layers.values().max().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_what_begins_alike_up_to_the_first_number() {
        let sizes = [
            ("shared.weight", 100),
            ("encoder.block.0.layer.0.q.weight", 5),
            ("encoder.block.0.layer.1.wi.weight", 7),
            ("encoder.block.10.layer.0.q.weight", 11),
            ("encoder.final_layer_norm.weight", 1),
        ];
        assert_eq!(one_layer(&sizes), 101 + 12);
    }

    #[test]
    fn a_picture_of_four_times_the_pixels_takes_four_times_the_memory() {
        let numbers = Numbers::of(&Device::Cpu, DType::F32);
        let cost = decoding(&[512, 512, 256, 128], numbers);
        assert_eq!(cost.bytes(1024, 1024), 4 * cost.bytes(512, 512));
        // SDXL's decoder: 256 channels at full size, four times in f32.
        assert_eq!(cost.bytes(1024, 1024), 4 << 30);
        let half = Numbers::of(&Device::Cpu, DType::BF16);
        assert!(decoding(&[512, 512, 256, 128], half).bytes(1024, 1024) > 4 << 30);
    }
}
