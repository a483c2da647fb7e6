//! What a FLUX.1 model takes of memory.

use super::config::TransformerConfig;
use super::text::t5_dtype;
use super::{DEFAULT_SAMPLE_SIZE, TAPPED_BLOCKS, TEXT_TOKENS, vae};
use crate::Result;
use crate::backbones::costs::{Costs, Numbers, Stream, TextPart, decoding, decoding_operations};
use crate::backbones::files::ModelFiles;
use crate::backbones::index::Defaults;
use crate::backbones::layers::patches::PATCH;
use crate::backbones::placement::Placement;

pub fn costs(files: &ModelFiles, placement: &Placement) -> Result<Costs> {
    let (device, dtype) = (&placement.device, placement.dtype);
    let config = TransformerConfig::read(files)?;
    let vae = vae::Config::read(files)?;
    let defaults = Defaults::read(files)?;
    let vae_dtype = vae.dtype(dtype, device);
    let widths: Vec<usize> = vae.block_out_channels.iter().rev().copied().collect();
    let scale = vae.scale();
    let side = DEFAULT_SAMPLE_SIZE * scale;
    let text = |component, dtype, by_layer| TextPart {
        component,
        dtype,
        by_layer,
        without: &["vision_model.", "decoder.", "lm_head."],
    };
    let stream = Stream {
        channels: config.inner(),
        heads: config.num_attention_heads,
        text_tokens: defaults.max_sequence_length.unwrap_or(TEXT_TOKENS),
        tapped: TAPPED_BLOCKS,
        token: scale * PATCH,
    };
    let size = (
        defaults.width.unwrap_or(side),
        defaults.height.unwrap_or(side),
    );
    let blocks = config.num_layers + config.num_single_layers;
    let pixels = (size.0 * size.1) as f64;
    Ok(Costs {
        operations: [
            stream.operations(blocks, size),
            decoding_operations(&widths, vae.layers_per_block + 1, pixels),
        ],
        evaluation: stream.evaluation(Numbers::of(device, dtype)),
        evaluations: 1,
        decode: decoding(&widths, Numbers::of(device, vae_dtype)),
        kept: vec![("transformer", dtype), ("vae", vae_dtype)],
        texts: vec![
            text("text_encoder", dtype, false),
            text("text_encoder_2", t5_dtype(dtype), true),
        ],
        size,
    })
}
