//! CLIP's text encoder.

mod tokenizer;

use candle_core::{D, Device, Tensor};
use serde::Deserialize;

pub use tokenizer::ClipTokenizer;

use super::files::ModelFiles;
use super::layers::activation::Activation;
use super::layers::encoder::{EncoderKind, EncoderLayer, Naming};
use super::layers::linear::Linear;
use super::layers::norm::LayerNorm;
use super::weights::Weights;
use crate::Result;

/// What a text encoder's `config.json` says; the defaults are transformers' `CLIPTextConfig`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    projection_dim: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: Activation,
    layer_norm_eps: f64,
    eos_token_id: Option<u32>,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: Some(49407),
        }
    }
}

impl ClipTextConfig {
    /// With a projection of this width: CLIP's own configuration says it beside both towers'.
    pub fn projected_to(self, projection_dim: usize) -> Self {
        Self {
            projection_dim,
            ..self
        }
    }
}

/// Configurations written before transformers 4.31 say 2 here whatever the vocabulary; the pooled
/// token is then the one with the largest id.
const LEGACY_EOS: u32 = 2;

/// What a text encoder makes of a text.
#[derive(Clone, Debug)]
pub struct ClipOutput {
    /// The input of the last layer, (1, tokens, hidden).
    pub penultimate: Tensor,
    /// The final state at the end token, (1, hidden), or its projection, (1, projection).
    pub pooled: Tensor,
}

/// The text half of CLIP (Radford et al. 2021): a causal transformer.
#[derive(Debug)]
pub struct ClipText {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    final_norm: LayerNorm,
    projection: Option<Linear>,
    config: ClipTextConfig,
    device: Device,
}

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 3] = [
    ("position_ids", "the positions are 0, 1, 2, …"),
    ("vision_model.", "only the text half is needed"),
    ("logit_scale", "only for CLIP's similarity"),
];

impl ClipText {
    /// Reads `component`'s configuration and tensors. `projected` says whether the pooled state goes
    /// through `text_projection`.
    pub fn load(
        files: &ModelFiles,
        component: &str,
        weights: &Weights,
        projected: bool,
    ) -> Result<Self> {
        let path = format!("{component}/config.json");
        let text = Self::with_config(files.json(&path)?, files, &path, weights, projected)?;
        weights.finish(&LEFT_OVER);
        Ok(text)
    }

    /// [`ClipText::load`] by a configuration at hand, which stands in the file `path`; whoever has
    /// it finishes the weights.
    pub fn with_config(
        config: ClipTextConfig,
        files: &ModelFiles,
        path: &str,
        weights: &Weights,
        projected: bool,
    ) -> Result<Self> {
        if config.num_attention_heads == 0
            || !config
                .hidden_size
                .is_multiple_of(config.num_attention_heads)
        {
            return Err(files.error(format!(
                "{path}: hidden_size {} is no multiple of num_attention_heads {}",
                config.hidden_size, config.num_attention_heads
            )));
        }
        if config.num_hidden_layers == 0 {
            return Err(files.error(format!("{path}: num_hidden_layers is 0")));
        }
        let top = weights.root("");
        let root = weights.root("text_model");
        let embeddings = root.at("embeddings");
        let hidden = config.hidden_size;
        let kind = EncoderKind {
            naming: Naming::Transformers,
            width: hidden,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            act: config.hidden_act,
            eps: config.layer_norm_eps,
            causal: true,
        };
        Ok(Self {
            tokens: embeddings
                .at("token_embedding")
                .tensor("weight", &[config.vocab_size, hidden])?,
            positions: embeddings
                .at("position_embedding")
                .tensor("weight", &[config.max_position_embeddings, hidden])?,
            layers: (0..config.num_hidden_layers)
                .map(|i| EncoderLayer::load(&root.at("encoder").at("layers").at(i), kind))
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::load(
                &root.at("final_layer_norm"),
                hidden,
                config.layer_norm_eps,
            )?,
            projection: projected
                .then(|| {
                    Linear::load_no_bias(&top.at("text_projection"), hidden, config.projection_dim)
                })
                .transpose()?,
            device: weights.device().clone(),
            config,
        })
    }

    /// Tokens that fit.
    pub fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// Width of the hidden states.
    pub fn hidden(&self) -> usize {
        self.config.hidden_size
    }

    /// Width of the pooled state.
    pub fn pooled_width(&self) -> usize {
        match self.projection {
            Some(_) => self.config.projection_dim,
            None => self.config.hidden_size,
        }
    }

    /// Ids in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    /// Encodes token ids, at most [`ClipText::max_tokens`] of them, each below
    /// [`ClipText::vocabulary`].
    pub fn forward(&self, ids: &[u32]) -> Result<ClipOutput> {
        let index = Tensor::new(ids, &self.device)?;
        let mut x = self
            .tokens
            .index_select(&index, 0)?
            .add(&self.positions.narrow(0, 0, ids.len())?)?
            .unsqueeze(0)?;
        let mut penultimate = x.clone();
        for layer in &self.layers {
            penultimate = x.clone();
            x = layer.forward(&x)?;
        }
        let end = self
            .final_norm
            .forward(&x)?
            .narrow(1, self.pooled_position(ids), 1)?;
        let end = end.squeeze(1)?;
        let pooled = match &self.projection {
            Some(projection) => projection.forward(&end)?,
            None => end,
        };
        Ok(ClipOutput {
            penultimate,
            pooled,
        })
    }

    /// The pooled state of a text, (1, hidden) or (1, projection). What comes after the end token is
    /// not run: in a causal network it has no say.
    pub fn pooled(&self, ids: &[u32]) -> Result<Tensor> {
        Ok(self.forward(&ids[..=self.pooled_position(ids)])?.pooled)
    }

    /// The first end token or, where none is (or the configuration is a legacy one), what
    /// transformers takes then: the first of the largest id, or position 0.
    fn pooled_position(&self, ids: &[u32]) -> usize {
        let wanted = match self.config.eos_token_id {
            Some(LEGACY_EOS) => ids.iter().max().copied(),
            other => other,
        };
        ids.iter()
            .position(|id| Some(*id) == wanted)
            .unwrap_or_default()
    }
}

/// Both encoders' states side by side, (1, tokens, sum of widths).
pub fn concatenated(outputs: &[ClipOutput]) -> Result<Tensor> {
    let states: Vec<&Tensor> = outputs.iter().map(|o| &o.penultimate).collect();
    Ok(Tensor::cat(&states, D::Minus1)?)
}
