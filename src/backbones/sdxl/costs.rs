//! What an SDXL model takes of memory.

use super::config::UnetConfig;
use super::{DEFAULT_SAMPLE_SIZE, tiny, vae};
use crate::Result;
use crate::backbones::costs::{Cost, Costs, Numbers, TextPart, decoding};
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
    if files.has(&format!("{}/config.json", tiny::COMPONENT)) {
        kept.push((tiny::COMPONENT, dtype));
    }
    let texts = ["text_encoder", "text_encoder_2"];
    let texts = texts.into_iter().filter(|name| index.class(name).is_some());
    Ok(Costs {
        evaluation: evaluation(&unet, scale, Numbers::of(device, dtype)),
        evaluations: 2,
        decode: decode(&vae, Numbers::of(device, vae_dtype)),
        kept,
        texts: texts
            .map(|component| TextPart {
                component,
                dtype,
                by_layer: false,
                without: &["vision_model."],
            })
            .collect(),
        size: (
            defaults.width.unwrap_or(width * scale),
            defaults.height.unwrap_or(height * scale),
        ),
    })
}

/// Of a KL autoencoder's decoder.
pub fn decode(vae: &vae::Config, numbers: Numbers) -> Cost {
    let widths: Vec<usize> = vae.block_out_channels.iter().rev().copied().collect();
    decoding(&widths, numbers)
}

/// Of the UNet: what is kept for the way up, and the widest block.
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
    let bytes =
        (skips + widest) * numbers.kept + wide * (numbers.normalised + AREA * numbers.unrolled);
    Cost {
        per_pixel: bytes / (scale * scale) as f64,
        fixed: numbers.scores,
    }
}
