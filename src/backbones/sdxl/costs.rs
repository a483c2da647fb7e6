//! What an SDXL model takes of memory.

use super::config::{BlockConfig, MidKind, UnetConfig};
use super::{DEFAULT_SAMPLE_SIZE, vae};
use crate::Result;
use crate::backbones::costs::{
    Cost, Costs, Numbers, TextPart, decoding, decoding_operations, residual,
};
use crate::backbones::files::ModelFiles;
use crate::backbones::index::{Defaults, PipelineIndex};
use crate::backbones::placement::Placement;

/// Copies of a residual block's input, and of its output, that are alive at once.
const INPUTS: f64 = 3.0;
const OUTPUTS: f64 = 2.0;
/// Numbers to a token's channel that are alive in a transformer block: the gated feed-forward's
/// eight and four, the shortcut, and queries, keys and values twice.
const IN_A_BLOCK: f64 = 22.0;
/// Of a 3×3 kernel.
const AREA: f64 = 9.0;
/// Keys of a text.
const TEXT: f64 = 77.0;

/// Reads the configurations; `index` says which text encoders there are.
pub fn costs(files: &ModelFiles, index: &PipelineIndex, placement: &Placement) -> Result<Costs> {
    let (device, dtype) = (&placement.device, placement.dtype);
    let unet = UnetConfig::read(files)?;
    let vae = vae::Config::read(files)?;
    let defaults = Defaults::read(files)?;
    let scale = vae.scale();
    let square = (DEFAULT_SAMPLE_SIZE, DEFAULT_SAMPLE_SIZE);
    let (height, width) = unet.sample_size.unwrap_or(square);
    let vae_dtype = vae.dtype(dtype, device);
    let mut kept = vec![("unet", dtype), ("vae", vae_dtype)];
    if files.has(&format!("{}/config.json", vae::preview::COMPONENT)) {
        kept.push((vae::preview::COMPONENT, dtype));
    }
    let texts = ["text_encoder", "text_encoder_2"];
    let texts = texts.into_iter().filter(|name| index.class(name).is_some());
    let size = (
        defaults.width.unwrap_or(width * scale),
        defaults.height.unwrap_or(height * scale),
    );
    let pixels = (size.0 * size.1) as f64;
    let widths: Vec<usize> = vae.block_out_channels.iter().rev().copied().collect();
    Ok(Costs {
        operations: [
            operations(&unet, pixels / (scale * scale) as f64),
            decoding_operations(&widths, vae.layers_per_block + 1, pixels),
        ],
        evaluation: evaluation(&unet, scale, Numbers::of(device, dtype)),
        evaluations: 2,
        decode: decoding(&widths, Numbers::of(device, vae_dtype)),
        kept,
        texts: texts
            .map(|component| TextPart {
                component,
                dtype,
                by_layer: false,
                without: &["vision_model."],
            })
            .collect(),
        size,
    })
}

/// Floating-point operations of an evaluation over so many latents.
fn operations(unet: &UnetConfig, latents: f64) -> f64 {
    let at = |level: usize| latents * 0.25f64.powi(level as i32);
    let transformer = |block: &BlockConfig, layers: usize, pixels: f64| {
        let c = block.channels as f64;
        let text = block.text_channels as f64;
        // Four projections of the self-attention, two of the other and twelve of the feed-forward.
        let products = 2.0 * 18.0 * c * c * pixels + 4.0 * text * c * TEXT;
        let attended = 4.0 * c * pixels * (pixels + TEXT);
        layers as f64 * (products + attended) + 4.0 * c * c * pixels
    };
    let attentions = |block: &BlockConfig, pixels: f64| -> f64 {
        let layers = block.transformers.iter().flatten().take(block.resnets);
        layers
            .map(|layers| transformer(block, *layers, pixels))
            .sum()
    };
    let first = unet.first_channels() as f64;
    let mut sum = 2.0 * 2.0 * 9.0 * first * unet.channels as f64 * latents;
    let mut skips = vec![first];
    let mut inputs = first;
    let last = unet.down.len().saturating_sub(1);
    for (level, block) in unet.down.iter().enumerate() {
        let own = block.channels as f64;
        for _ in 0..block.resnets {
            sum += residual(inputs, own, at(level));
            inputs = own;
            skips.push(own);
        }
        sum += attentions(block, at(level));
        if level < last {
            sum += 2.0 * 9.0 * own * own * at(level + 1);
            skips.push(own);
        }
    }
    if let (MidKind::Attention(layers), Some(block)) = (unet.mid, unet.down.last()) {
        sum += 2.0 * residual(inputs, inputs, at(last)) + transformer(block, layers, at(last));
    }
    for (place, block) in unet.up.iter().enumerate() {
        let (level, own) = (last.saturating_sub(place), block.channels as f64);
        for _ in 0..block.resnets {
            sum += residual(inputs + skips.pop().unwrap_or(0.0), own, at(level));
            inputs = own;
        }
        sum += attentions(block, at(level));
        if level > 0 {
            sum += 2.0 * 9.0 * own * own * at(level - 1);
        }
    }
    sum
}

/// Of the UNet: what is kept for the way up, the widest block, and the maps of the default tap, those of
/// the middle.
fn evaluation(unet: &UnetConfig, scale: usize, numbers: Numbers) -> Cost {
    let share = |level: usize| 0.25f64.powi(level as i32);
    let mut skips = unet.first_channels() as f64;
    let (mut widest, mut wide) = (0f64, 0f64);
    for (level, block) in unet.down.iter().enumerate() {
        let own = block.channels as f64;
        skips += own * (block.resnets as f64 * share(level) + share(level + 1));
        let below = unet.down.get(level + 1).map_or(own, |b| b.channels as f64);
        // On the way up a block takes what comes from below beside what was kept.
        let inputs = (below.max(own) + own) * share(level);
        let resnet = INPUTS * inputs + OUTPUTS * own * share(level);
        let transformer = match block.transformers {
            Some(_) => IN_A_BLOCK * own * share(level),
            None => 0.0,
        };
        widest = widest.max(resnet).max(transformer);
        wide = wide.max(inputs);
    }
    let maps = match (unet.mid, unet.down.last()) {
        (MidKind::Attention(layers), Some(block)) => {
            (layers * block.heads) as f64 * TEXT * share(unet.down.len() - 1)
        }
        _ => 0.0,
    };
    let bytes = (skips + widest) * numbers.kept
        + wide * (numbers.normalised + AREA * numbers.unrolled)
        + maps * numbers.map;
    Cost {
        per_pixel: bytes / (scale * scale) as f64,
        fixed: numbers.scores,
    }
}
