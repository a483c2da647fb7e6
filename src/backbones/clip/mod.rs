//! CLIP's text encoder.

mod tokenizer;

use candle_core::{D, Device, Tensor};
use serde::Deserialize;

pub use tokenizer::ClipTokenizer;

use super::files::ModelFiles;
use super::layers::activation::Activation;
use super::layers::attention::{Context, attend_causal};
use super::layers::linear::Linear;
use super::layers::norm::LayerNorm;
use super::weights::{Scope, Weights};
use crate::Result;

/// What a text encoder's `config.json` says; the defaults are transformers' `CLIPTextConfig`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
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

impl Default for Config {
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
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    projection: Option<Linear>,
    config: Config,
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
        let config: Config = files.json(&path)?;
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
        let text = Self {
            tokens: embeddings
                .at("token_embedding")
                .tensor("weight", &[config.vocab_size, hidden])?,
            positions: embeddings
                .at("position_embedding")
                .tensor("weight", &[config.max_position_embeddings, hidden])?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::load(&root.at("encoder").at("layers").at(i), &config))
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
        };
        weights.finish(&LEFT_OVER);
        Ok(text)
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

#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    heads: usize,
    act: Activation,
}

impl Layer {
    fn load(scope: &Scope<'_>, config: &Config) -> Result<Self> {
        let hidden = config.hidden_size;
        let attention = scope.at("self_attn");
        let project = |name| Linear::load(&attention.at(name), hidden, hidden);
        let norm = |name| LayerNorm::load(&scope.at(name), hidden, config.layer_norm_eps);
        let mlp = scope.at("mlp");
        Ok(Self {
            norm1: norm("layer_norm1")?,
            q: project("q_proj")?,
            k: project("k_proj")?,
            v: project("v_proj")?,
            out: project("out_proj")?,
            norm2: norm("layer_norm2")?,
            widen: Linear::load(&mlp.at("fc1"), hidden, config.intermediate_size)?,
            narrow: Linear::load(&mlp.at("fc2"), config.intermediate_size, hidden)?,
            heads: config.num_attention_heads,
            act: config.hidden_act,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.norm1.forward(x)?;
        let (q, k, v) = (
            self.q.forward(&y)?,
            self.k.forward(&y)?,
            self.v.forward(&y)?,
        );
        let x = (x + self.out.forward(&attend_causal(
            &q,
            &Context::new(&k, &v, self.heads)?,
            self.heads,
        )?)?)?;
        let y = self.widen.forward(&self.norm2.forward(&x)?)?;
        Ok((x + self.narrow.forward(&self.act.forward(&y)?)?)?)
    }
}

/// Both encoders' states side by side, (1, tokens, sum of widths).
pub fn concatenated(outputs: &[ClipOutput]) -> Result<Tensor> {
    let states: Vec<&Tensor> = outputs.iter().map(|o| &o.penultimate).collect();
    Ok(Tensor::cat(&states, D::Minus1)?)
}
