//! What `transformer/config.json` says.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::layers::patches::PATCH;

const PATH: &str = "transformer/config.json";

/// The denoiser's shape; the defaults are diffusers' `QwenImageTransformer2DModel`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    patch_size: usize,
    /// Channels of a token: of a square of [`PATCH`]² latents, whatever `patch_size` says.
    pub in_channels: usize,
    out_channels: Option<usize>,
    pub num_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    /// Width of the text.
    pub joint_attention_dim: usize,
    pub axes_dims_rope: [usize; 3],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            patch_size: 2,
            in_channels: 64,
            out_channels: Some(16),
            num_layers: 60,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 3584,
            axes_dims_rope: [16, 56, 56],
        }
    }
}

/// All that the file may say; the last two make no difference for one picture out of one text:
/// `zero_cond_t` is about the pictures that an edit starts from.
const KNOWN: [&str; 10] = [
    "patch_size",
    "in_channels",
    "out_channels",
    "num_layers",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "axes_dims_rope",
    "pooled_projection_dim",
    "zero_cond_t",
];

impl Config {
    /// Reads and checks the file.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let bad = |problem: String| files.error(format!("{PATH}: {problem}"));
        let json: Map<String, Value> = files.json(PATH)?;
        // Whatever is switched on and not known makes this another architecture.
        let on = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        let foreign = json.iter().find(|(name, value)| {
            !name.starts_with('_') && !KNOWN.contains(&name.as_str()) && on(value)
        });
        if let Some((name, value)) = foreign {
            return Err(bad(format!(
                "{name} = {value} is not supported: the architecture of Qwen-Image and \
                 Qwen-Image-2512, which lacks it, is"
            )));
        }
        let config: Self =
            serde_json::from_value(Value::Object(json)).map_err(|e| bad(e.to_string()))?;
        let outputs = config.patch_size.pow(2) * config.out_channels.unwrap_or(config.in_channels);
        if outputs != config.in_channels {
            return Err(bad(format!(
                "patch_size {} and out_channels {:?} make {outputs} channels, and in_channels is {}",
                config.patch_size, config.out_channels, config.in_channels
            )));
        }
        if config.in_channels == 0 || !config.in_channels.is_multiple_of(PATCH * PATCH) {
            return Err(bad(format!(
                "in_channels {} are not those of {PATCH}×{PATCH} latents",
                config.in_channels
            )));
        }
        if config.num_layers == 0 || config.num_attention_heads == 0 {
            return Err(bad(format!(
                "num_layers {} and num_attention_heads {} must be at least 1",
                config.num_layers, config.num_attention_heads
            )));
        }
        let axes = config.axes_dims_rope;
        let sum: usize = axes.iter().sum();
        if sum != config.attention_head_dim || axes.iter().any(|a| a % 2 != 0) {
            return Err(bad(format!(
                "axes_dims_rope {axes:?} must be even and sum up to attention_head_dim {}",
                config.attention_head_dim
            )));
        }
        Ok(config)
    }

    /// Channels of a token inside.
    pub fn inner(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    pub fn latent_channels(&self) -> usize {
        self.in_channels / (PATCH * PATCH)
    }
}
