//! What `text_encoder/config.json` says of the language half of Qwen2.5-VL.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::layers::activation::Activation;

/// The language model's shape; the defaults are transformers' `Qwen2_5_VLTextConfig`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: Option<usize>,
    pub hidden_act: Activation,
    pub rms_norm_eps: f64,
    use_sliding_window: Option<bool>,
    sliding_window: Option<usize>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
}

/// The rotary embedding, which older and newer files write in different places.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Rope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    older_type: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 152_064,
            hidden_size: 8192,
            intermediate_size: 29_568,
            num_hidden_layers: 80,
            num_attention_heads: 64,
            num_key_value_heads: Some(8),
            hidden_act: Activation::Silu,
            rms_norm_eps: 1e-5,
            use_sliding_window: None,
            sliding_window: Some(4096),
            rope_theta: None,
            rope_scaling: None,
            rope_parameters: None,
        }
    }
}

/// transformers' default base of the rotary frequencies.
const DEFAULT_THETA: f64 = 1_000_000.0;

impl Config {
    /// Reads and checks `component`'s configuration for texts of at most `length` tokens. Published
    /// files write the language model's values beside the vision tower's; newer libraries write them
    /// under `text_config`.
    pub fn read(files: &ModelFiles, component: &str, length: usize) -> Result<Self> {
        let path = format!("{component}/config.json");
        let bad = |problem: String| files.error(format!("{path}: {problem}"));
        let mut json: Map<String, Value> = files.json(&path)?;
        let own = match json.remove("text_config") {
            Some(own @ Value::Object(_)) => own,
            _ => Value::Object(json),
        };
        let config: Self = serde_json::from_value(own).map_err(|e| bad(e.to_string()))?;
        let (heads, shared) = (config.num_attention_heads, config.key_heads());
        if heads == 0
            || !config.hidden_size.is_multiple_of(heads)
            || !config.head().is_multiple_of(2)
        {
            return Err(bad(format!(
                "hidden_size {} does not split into num_attention_heads {heads} of an even width",
                config.hidden_size
            )));
        }
        if shared == 0 || !heads.is_multiple_of(shared) {
            return Err(bad(format!(
                "num_attention_heads {heads} is no multiple of num_key_value_heads {shared}"
            )));
        }
        if config.num_hidden_layers == 0 {
            return Err(bad("num_hidden_layers is 0".into()));
        }
        if config.use_sliding_window == Some(true)
            && let Some(window) = config.sliding_window
            && window < length
        {
            return Err(bad(format!(
                "sliding_window {window} is shorter than the {length} tokens of the longest prompt, \
                 which is not supported"
            )));
        }
        let rope = config.rope();
        let kind = rope.rope_type.as_deref().or(rope.older_type.as_deref());
        // "mrope" gives a token three positions, which are one and the same in a text.
        if let Some(kind) = kind.filter(|kind| !["default", "mrope"].contains(kind)) {
            return Err(bad(format!(
                "the rotary embedding {kind} is not supported: default and mrope are"
            )));
        }
        Ok(config)
    }

    pub fn key_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Channels of one head.
    pub fn head(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Base of the rotary frequencies.
    pub fn theta(&self) -> f64 {
        let named = self.rope().rope_theta.or(self.rope_theta);
        named.unwrap_or(DEFAULT_THETA)
    }

    fn rope(&self) -> Rope {
        let written = self.rope_scaling.as_ref().or(self.rope_parameters.as_ref());
        written.cloned().unwrap_or_default()
    }
}
