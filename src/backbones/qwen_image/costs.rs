//! What a Qwen-Image model takes of memory.

use super::config::Config;
use super::{DEFAULT_SAMPLE_SIZE, TAPPED, vae, vae_dtype};
use crate::Result;
use crate::backbones::costs::{Costs, Numbers, Stream, TextPart, decoding, decoding_operations};
use crate::backbones::files::ModelFiles;
use crate::backbones::index::Defaults;
use crate::backbones::layers::patches::PATCH;
use crate::backbones::placement::Placement;

/// Tokens of a long prompt.
const TEXT_TOKENS: usize = 512;

pub fn costs(files: &ModelFiles, placement: &Placement) -> Result<Costs> {
    let (device, dtype) = (&placement.device, placement.dtype);
    let config = Config::read(files)?;
    let vae = vae::Config::read(files)?;
    let defaults = Defaults::read(files)?;
    let decoded_as = vae_dtype(dtype, device);
    let scale = vae.scale();
    let side = DEFAULT_SAMPLE_SIZE * scale;
    let stream = Stream {
        channels: config.inner(),
        heads: config.num_attention_heads,
        text_tokens: TEXT_TOKENS,
        tapped: TAPPED,
        token: scale * PATCH,
    };
    let size = (
        defaults.width.unwrap_or(side),
        defaults.height.unwrap_or(side),
    );
    let pixels = (size.0 * size.1) as f64;
    Ok(Costs {
        operations: [
            stream.operations(config.num_layers, size),
            decoding_operations(&vae.widths(), vae.num_res_blocks + 1, pixels),
        ],
        evaluation: stream.evaluation(Numbers::of(device, dtype)),
        // With a negative prompt.
        evaluations: 2,
        decode: decoding(&vae.widths(), Numbers::of(device, decoded_as)),
        kept: vec![("transformer", dtype), ("vae", decoded_as)],
        texts: vec![TextPart {
            component: "text_encoder",
            dtype,
            by_layer: true,
            without: &["visual.", "model.visual.", "lm_head."],
        }],
        size,
    })
}
