//! The language half of Qwen2.5-VL (Bai et al. 2025), which Qwen-Image reads its prompts with: a
//! causal transformer with rotary positions and shared keys and values.

mod config;
mod tokenizer;

use candle_core::{Device, Tensor};
use candle_nn::rotary_emb::rope_thd;

use self::config::Config;
pub use self::tokenizer::Qwen2Tokenizer;
use super::files::ModelFiles;
use super::layers::activation::Activation;
use super::layers::attention::{Context, attend_causal};
use super::layers::linear::Linear;
use super::layers::norm::RmsNorm;
use super::on_demand::Layers;
use super::placement::Residence;
use super::weights::{Scope, Weights};
use crate::Result;

/// The class, as `model_index.json` names it.
pub const CLASS: &str = "Qwen2_5_VLForConditionalGeneration";

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 3] = [
    ("visual.", "there are no pictures in a prompt"),
    ("model.visual.", "the same, as newer libraries name it"),
    ("lm_head.", "the hidden states are read, and no next token"),
];

/// Token ids to hidden states.
#[derive(Debug)]
pub struct QwenText {
    tokens: Tensor,
    layers: Layers<Layer>,
    norm: RmsNorm,
    config: Config,
    device: Device,
}

impl QwenText {
    /// Reads `component`'s configuration and tensors, those of its layers now or when they run, for
    /// texts of at most `length` tokens.
    pub fn load(
        files: &ModelFiles,
        component: &str,
        weights: &Weights,
        length: usize,
        residence: Residence,
    ) -> Result<Self> {
        let config = Config::read(files, component, length)?;
        let root = root(weights);
        let text = Self {
            tokens: root
                .at("embed_tokens")
                .tensor("weight", &[config.vocab_size, config.hidden_size])?,
            layers: {
                let config = config.clone();
                let count = config.num_hidden_layers;
                Layers::load(weights, residence, count, move |weights, i| {
                    Layer::load(&self::root(weights).at("layers").at(i), &config)
                })?
            },
            norm: RmsNorm::load(&root.at("norm"), config.hidden_size, config.rms_norm_eps)?,
            device: weights.device().clone(),
            config,
        };
        if residence == Residence::Kept {
            weights.finish(&LEFT_OVER);
        }
        Ok(text)
    }

    /// Width of the hidden states.
    pub fn hidden(&self) -> usize {
        self.config.hidden_size
    }

    /// Ids in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    /// Token ids of several texts, each id below [`QwenText::vocabulary`], to each text's last
    /// hidden states after the final norm, (1, tokens, hidden).
    pub fn forward(&self, texts: &[Vec<u32>]) -> Result<Vec<Tensor>> {
        let begun = texts.iter().map(|ids| {
            let index = Tensor::new(ids.as_slice(), &self.device)?;
            let x = self.tokens.index_select(&index, 0)?.unsqueeze(0)?;
            let angles = Angles::new(ids.len(), self.config.head(), self.config.theta(), &x)?;
            Ok((x, angles))
        });
        let mut states = begun.collect::<Result<Vec<_>>>()?;
        self.layers.each(|layer| {
            for (x, angles) in &mut states {
                *x = layer.forward(x, angles)?;
            }
            Ok(())
        })?;
        let states = states.iter().map(|(x, _)| self.norm.forward(x));
        states.collect()
    }
}

/// Where the language model is: published files have it under `model`, newer libraries one level
/// further down.
fn root(weights: &Weights) -> Scope<'_> {
    match weights.has_under("model.language_model") {
        true => weights.root("model.language_model"),
        false => weights.root("model"),
    }
}

/// Cosines and sines of every position's rotation, (tokens, head / 2) each.
struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// In the precision and on the device of `like`; the angles themselves are f32 as in the
    /// reference.
    fn new(tokens: usize, head: usize, theta: f64, like: &Tensor) -> Result<Self> {
        let half = head / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| 1.0 / theta.powf(f64::from((2 * i) as f32 / head as f32)) as f32)
            .collect();
        let all = |f: fn(f32) -> f32| -> Result<Tensor> {
            let angles = (0..tokens).flat_map(|at| frequencies.iter().map(move |w| at as f32 * w));
            let values: Vec<f32> = angles.map(f).collect();
            let values = Tensor::from_vec(values, (tokens, half), &Device::Cpu)?;
            Ok(values.to_dtype(like.dtype())?.to_device(like.device())?)
        };
        Ok(Self {
            cos: all(libm::cosf)?,
            sin: all(libm::sinf)?,
        })
    }

    /// Rotates every head of (1, tokens, heads·head) by its token's position: channel i turns with
    /// channel i + head / 2.
    fn turn(&self, x: &Tensor, head: usize) -> Result<Tensor> {
        let (rows, tokens, width) = x.dims3()?;
        let x = x.reshape((rows, tokens, width / head, head))?;
        let x = rope_thd(&x.contiguous()?, &self.cos, &self.sin)?;
        Ok(x.reshape((rows, tokens, width))?)
    }
}

#[derive(Debug)]
struct Layer {
    norm1: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    act: Activation,
    heads: usize,
    key_heads: usize,
    head: usize,
}

impl Layer {
    fn load(scope: &Scope<'_>, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let shared = config.key_heads() * config.head();
        let attention = scope.at("self_attn");
        let mlp = scope.at("mlp");
        let norm = |name| RmsNorm::load(&scope.at(name), hidden, config.rms_norm_eps);
        Ok(Self {
            norm1: norm("input_layernorm")?,
            q: Linear::load(&attention.at("q_proj"), hidden, hidden)?,
            k: Linear::load(&attention.at("k_proj"), hidden, shared)?,
            v: Linear::load(&attention.at("v_proj"), hidden, shared)?,
            out: Linear::load_no_bias(&attention.at("o_proj"), hidden, hidden)?,
            norm2: norm("post_attention_layernorm")?,
            gate: Linear::load_no_bias(&mlp.at("gate_proj"), hidden, inner)?,
            up: Linear::load_no_bias(&mlp.at("up_proj"), hidden, inner)?,
            down: Linear::load_no_bias(&mlp.at("down_proj"), inner, hidden)?,
            act: config.hidden_act,
            heads: config.num_attention_heads,
            key_heads: config.key_heads(),
            head: config.head(),
        })
    }

    fn forward(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        let y = self.norm1.forward(x)?;
        let q = angles.turn(&self.q.forward(&y)?, self.head)?;
        let k = angles.turn(&self.k.forward(&y)?, self.head)?;
        let (k, v) = (self.spread(&k)?, self.spread(&self.v.forward(&y)?)?);
        let y = attend_causal(&q, &Context::new(&k, &v, self.heads)?, self.heads)?;
        let x = (x + self.out.forward(&y)?)?;
        let y = self.norm2.forward(&x)?;
        let gated = (self.act.forward(&self.gate.forward(&y)?)? * self.up.forward(&y)?)?;
        Ok((x + self.down.forward(&gated)?)?)
    }

    /// Gives every query head the keys or values that its group shares: (1, tokens, key heads·head)
    /// → (1, tokens, heads·head).
    fn spread(&self, x: &Tensor) -> Result<Tensor> {
        if self.heads == self.key_heads {
            return Ok(x.clone());
        }
        let (rows, tokens, _) = x.dims3()?;
        let group = self.heads / self.key_heads;
        let shape = (rows, tokens, self.key_heads, group, self.head);
        let x = x.reshape((rows, tokens, self.key_heads, 1, self.head))?;
        Ok(x.broadcast_as(shape)?
            .reshape((rows, tokens, self.heads * self.head))?)
    }
}
