//! T5's text encoder.

mod sentencepiece;
mod tokenizer;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde_json::Value;

pub use tokenizer::T5Tokenizer;

use super::files::ModelFiles;
use super::layers::activation::Activation;
use super::layers::linear::Linear;
use super::layers::norm::RmsNorm;
use super::on_demand::Layers;
use super::placement::Residence;
use super::weights::{Scope, Weights};
use crate::Result;

/// What a text encoder's `config.json` says; the defaults are transformers' `T5Config`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    vocab_size: usize,
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_heads: usize,
    relative_attention_num_buckets: usize,
    relative_attention_max_distance: usize,
    layer_norm_epsilon: f64,
    feed_forward_proj: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".into(),
        }
    }
}

impl Config {
    fn read(files: &ModelFiles, component: &str) -> Result<Self> {
        let path = format!("{component}/config.json");
        let config: Self = files.json(&path)?;
        let buckets = config.relative_attention_num_buckets;
        // Half of the buckets for each direction, half of those for single steps, one at least.
        if buckets < 4 || config.relative_attention_max_distance <= buckets / 4 {
            return Err(files.error(format!(
                "{path}: relative_attention_num_buckets {buckets} and \
                 relative_attention_max_distance {} do not go together",
                config.relative_attention_max_distance
            )));
        }
        for (name, value) in [
            ("d_model", config.d_model),
            ("d_kv", config.d_kv),
            ("d_ff", config.d_ff),
            ("num_layers", config.num_layers),
            ("num_heads", config.num_heads),
        ] {
            if value == 0 {
                return Err(files.error(format!("{path}: {name} is 0")));
            }
        }
        Ok(config)
    }

    /// The activation, and whether a second projection is gated by it: `gated-silu`, `relu`.
    fn feed_forward(&self, files: &ModelFiles, component: &str) -> Result<(Activation, bool)> {
        let (name, gated) = match self.feed_forward_proj.split_once('-') {
            // transformers reads this name as the tanh form, as T5 1.1 was trained with.
            Some(("gated", "gelu")) => ("gelu_new", true),
            Some(("gated", name)) => (name, true),
            _ => (self.feed_forward_proj.as_str(), false),
        };
        let activation = serde_json::from_value(Value::from(name)).map_err(|_| {
            files.error(format!(
                "{component}/config.json: feed_forward_proj = {} is not supported: gated-gelu and \
                 relu are",
                self.feed_forward_proj
            ))
        })?;
        Ok((activation, gated))
    }
}

/// The encoder half of T5 (Raffel et al. 2020).
#[derive(Debug)]
pub struct T5Encoder {
    tokens: Tensor,
    /// (buckets, heads): the first layer's, which all share.
    distances: Tensor,
    layers: Layers<Layer>,
    final_norm: RmsNorm,
    config: Config,
    device: Device,
}

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 4] = [
    ("encoder.embed_tokens.", "the same as shared"),
    ("shared.", "the same as encoder.embed_tokens"),
    ("decoder.", "only the encoder is needed"),
    ("lm_head.", "belongs to the decoder"),
];

impl T5Encoder {
    /// Reads `component`'s configuration and tensors, those of its layers now or when they run.
    pub fn load(
        files: &ModelFiles,
        component: &str,
        weights: &Weights,
        residence: Residence,
    ) -> Result<Self> {
        let config = Config::read(files, component)?;
        let act = config.feed_forward(files, component)?;
        let top = weights.root("");
        let root = top.at("encoder");
        let embeddings = match top.at("shared").has("weight") {
            true => top.at("shared"),
            false => root.at("embed_tokens"),
        };
        let first = root.at("block").at(0).at("layer").at(0).at("SelfAttention");
        let encoder = Self {
            tokens: embeddings.tensor("weight", &[config.vocab_size, config.d_model])?,
            distances: first.at("relative_attention_bias").tensor(
                "weight",
                &[config.relative_attention_num_buckets, config.num_heads],
            )?,
            layers: {
                let config = config.clone();
                Layers::load(weights, residence, config.num_layers, move |weights, i| {
                    let block = weights.root("").at("encoder").at("block").at(i);
                    Layer::load(&block.at("layer"), &config, act)
                })?
            },
            final_norm: RmsNorm::load(
                &root.at("final_layer_norm"),
                config.d_model,
                config.layer_norm_epsilon,
            )?,
            device: weights.device().clone(),
            config,
        };
        if residence == Residence::Kept {
            weights.finish(&LEFT_OVER);
        }
        Ok(encoder)
    }

    /// Width of the hidden states.
    pub fn hidden(&self) -> usize {
        self.config.d_model
    }

    /// Ids in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    /// Encodes token ids, each below [`T5Encoder::vocabulary`], padding included: (1, tokens,
    /// hidden). Every token sees every other.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        let index = Tensor::new(ids, &self.device)?;
        let mut x = self.tokens.index_select(&index, 0)?.unsqueeze(0)?;
        let bias = self.position_bias(ids.len())?;
        self.layers.each(|layer| {
            x = layer.forward(&x, &bias)?;
            Ok(())
        })?;
        self.final_norm.forward(&x)
    }

    /// What is added to the scores for the distance of two tokens, (heads, tokens, tokens), f32.
    fn position_bias(&self, tokens: usize) -> Result<Tensor> {
        let (buckets, farthest) = (
            self.config.relative_attention_num_buckets,
            self.config.relative_attention_max_distance,
        );
        let index: Vec<u32> = (0..tokens)
            .flat_map(|query| (0..tokens).map(move |key| bucket(query, key, buckets, farthest)))
            .collect();
        let index = Tensor::new(index, &self.device)?;
        Ok(self
            .distances
            .index_select(&index, 0)?
            .reshape((tokens, tokens, self.config.num_heads))?
            .permute((2, 0, 1))?
            .to_dtype(DType::F32)?
            .contiguous()?)
    }
}

/// The bucket of the way from a query to a key: one for each of the nearest, then ever wider ones up
/// to the `farthest`; in f32, as the reference rounds.
fn bucket(query: usize, key: usize, buckets: usize, farthest: usize) -> u32 {
    let half = buckets / 2;
    let single = half / 2;
    let distance = query.abs_diff(key);
    let within = if distance < single {
        distance
    } else {
        let grown = libm::logf(distance as f32 / single as f32)
            / libm::log(farthest as f64 / single as f64) as f32
            * (half - single) as f32;
        (single + grown as usize).min(half - 1)
    };
    (within + if key > query { half } else { 0 }) as u32
}

/// Self-attention and a feed-forward network, each normalised before and added to what came in.
#[derive(Debug)]
struct Layer {
    norm1: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: RmsNorm,
    widen: Linear,
    /// What the activation gates, where the network is gated.
    gated: Option<Linear>,
    narrow: Linear,
    act: Activation,
    heads: usize,
}

impl Layer {
    fn load(scope: &Scope<'_>, config: &Config, (act, gated): (Activation, bool)) -> Result<Self> {
        let attention = scope.at(0).at("SelfAttention");
        let dense = scope.at(1).at("DenseReluDense");
        let (hidden, inner) = (config.d_model, config.num_heads * config.d_kv);
        let norm = |i: usize| {
            let scope = scope.at(i).at("layer_norm");
            RmsNorm::load(&scope, hidden, config.layer_norm_epsilon)
        };
        let project = |name: &str| Linear::load_no_bias(&attention.at(name), hidden, inner);
        let widen = |name: &str| Linear::load_no_bias(&dense.at(name), hidden, config.d_ff);
        Ok(Self {
            norm1: norm(0)?,
            q: project("q")?,
            k: project("k")?,
            v: project("v")?,
            out: Linear::load_no_bias(&attention.at("o"), inner, hidden)?,
            norm2: norm(1)?,
            widen: widen(if gated { "wi_0" } else { "wi" })?,
            gated: gated.then(|| widen("wi_1")).transpose()?,
            narrow: Linear::load_no_bias(&dense.at("wo"), config.d_ff, hidden)?,
            act,
            heads: config.num_heads,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let x = (x + self.attend(&self.norm1.forward(x)?, bias)?)?;
        let y = self.norm2.forward(&x)?;
        let wide = self.act.forward(&self.widen.forward(&y)?)?;
        let wide = match &self.gated {
            Some(gated) => (wide * gated.forward(&y)?)?,
            None => wide,
        };
        Ok((x + self.narrow.forward(&wide)?)?)
    }

    /// T5's scores are not scaled: its weights were initialised for that.
    fn attend(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (rows, tokens, _) = x.dims3()?;
        let split = |x: Tensor| -> Result<Tensor> {
            let x = x.reshape((rows, tokens, self.heads, ()))?;
            Ok(x.transpose(1, 2)?.contiguous()?)
        };
        let (q, k, v) = (
            split(self.q.forward(x)?)?,
            split(self.k.forward(x)?)?,
            split(self.v.forward(x)?)?,
        );
        let scores = q.matmul(&k.t()?)?.to_dtype(DType::F32)?;
        let scores = scores.broadcast_add(&bias.unsqueeze(0)?)?;
        let probabilities = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(v.dtype())?;
        let out = probabilities.matmul(&v)?.transpose(1, 2)?;
        self.out.forward(&out.reshape((rows, tokens, ()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_single_steps_first_then_wider_and_know_the_direction() {
        let at = |query, key| bucket(query, key, 32, 128);
        assert_eq!([at(5, 5), at(5, 4), at(5, 6), at(9, 2)], [0, 1, 17, 7]);
        // From 8 on each eighth of the logarithm up to 128.
        assert_eq!([at(8, 0), at(16, 0), at(32, 0), at(64, 0)], [8, 10, 12, 14]);
        assert_eq!([at(127, 0), at(500, 0), at(0, 500)], [15, 15, 31]);
    }
}
