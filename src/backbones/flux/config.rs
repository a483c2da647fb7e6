//! What `transformer/config.json` says.

use serde::Deserialize;

use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::layers::patches::PATCH;

const PATH: &str = "transformer/config.json";

/// The denoiser's shape; the defaults are diffusers' `FluxTransformer2DModel`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    pub patch_size: usize,
    /// Channels of a token: of the latents, times four.
    pub in_channels: usize,
    pub out_channels: Option<usize>,
    /// Blocks in which text and image have weights of their own.
    pub num_layers: usize,
    /// Blocks in which they share them.
    pub num_single_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    /// Width of the text.
    pub joint_attention_dim: usize,
    pub pooled_projection_dim: usize,
    /// Whether the denoiser is told the strength of guidance.
    pub guidance_embeds: bool,
    /// Channels of a head that turn with each of a token's three coordinates.
    pub axes_dims_rope: Vec<usize>,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            patch_size: 1,
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: vec![16, 56, 56],
        }
    }
}

impl TransformerConfig {
    /// Reads and checks the file.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let config: Self = files.json(PATH)?;
        let bad = |problem: String| Err(files.error(format!("{PATH}: {problem}")));
        if config.patch_size != 1 {
            return bad(format!(
                "patch_size = {} is not supported: 1 is",
                config.patch_size
            ));
        }
        let outputs = config.out_channels.unwrap_or(config.in_channels);
        if outputs != config.in_channels {
            return bad(format!(
                "in_channels {} and out_channels {outputs} differ: filling, editing and control \
                 models are not supported",
                config.in_channels
            ));
        }
        if config.in_channels == 0 || !config.in_channels.is_multiple_of(PATCH * PATCH) {
            return bad(format!(
                "in_channels is {}, and must be a multiple of {}",
                config.in_channels,
                PATCH * PATCH
            ));
        }
        if config.num_attention_heads == 0 || config.num_layers + config.num_single_layers == 0 {
            return bad(format!(
                "there are {} heads in {} and {} layers",
                config.num_attention_heads, config.num_layers, config.num_single_layers
            ));
        }
        let axes = &config.axes_dims_rope;
        if axes.len() != 3
            || axes.iter().any(|a| !a.is_multiple_of(2))
            || axes.iter().sum::<usize>() != config.attention_head_dim
            || config.attention_head_dim == 0
        {
            return bad(format!(
                "axes_dims_rope {axes:?} must be three even numbers that add up to \
                 attention_head_dim {}",
                config.attention_head_dim
            ));
        }
        Ok(config)
    }

    /// Channels inside of the blocks.
    pub fn inner(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    pub fn latent_channels(&self) -> usize {
        self.in_channels / (PATCH * PATCH)
    }
}
