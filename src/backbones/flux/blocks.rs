//! The transformer blocks: first with weights of their own for text and image, then with shared ones.

use candle_core::{D, DType, Tensor};

use super::config::TransformerConfig;
use crate::Result;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::feed_forward::FeedForward;
use crate::backbones::layers::joint::attend_joint;
use crate::backbones::layers::linear::Linear;
use crate::backbones::layers::norm::{LayerNorm, RmsNorm};
use crate::backbones::layers::rotary::Rotary;
use crate::backbones::tap::Tap;
use crate::backbones::weights::Scope;

/// diffusers' constants of `FluxTransformerBlock` and `FluxSingleTransformerBlock`, in no file.
pub const NORM_EPS: f64 = 1e-6;
const FEED_FORWARD_FACTOR: usize = 4;

/// Queries, keys and values of one stream of tokens.
#[derive(Debug)]
struct Projections {
    q: Linear,
    k: Linear,
    v: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    heads: usize,
}

/// (rows, tokens, heads, channels of a head), each.
struct Projected {
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Projections {
    /// `names`: of the three layers and the two norms inside of `scope`.
    fn load(scope: &Scope<'_>, names: [&str; 5], config: &TransformerConfig) -> Result<Self> {
        let inner = config.inner();
        let [q, k, v, norm_q, norm_k] = names;
        let linear = |name: &str| Linear::load(&scope.at(name), inner, inner);
        let norm = |name: &str| RmsNorm::load(&scope.at(name), config.attention_head_dim, NORM_EPS);
        Ok(Self {
            q: linear(q)?,
            k: linear(k)?,
            v: linear(v)?,
            norm_q: norm(norm_q)?,
            norm_k: norm(norm_k)?,
            heads: config.num_attention_heads,
        })
    }

    /// The image's, or those of all tokens in a single block.
    fn load_image(scope: &Scope<'_>, config: &TransformerConfig) -> Result<Self> {
        let names = ["to_q", "to_k", "to_v", "norm_q", "norm_k"];
        Self::load(scope, names, config)
    }

    fn load_text(scope: &Scope<'_>, config: &TransformerConfig) -> Result<Self> {
        let names = [
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "norm_added_q",
            "norm_added_k",
        ];
        Self::load(scope, names, config)
    }

    /// `x`: (rows, tokens, channels).
    fn forward(&self, x: &Tensor) -> Result<Projected> {
        let (rows, tokens, _) = x.dims3()?;
        let split = |x: Tensor| x.reshape((rows, tokens, self.heads, ()));
        Ok(Projected {
            q: self.norm_q.forward(&split(self.q.forward(x)?)?)?,
            k: self.norm_k.forward(&split(self.k.forward(x)?)?)?,
            v: split(self.v.forward(x)?)?,
        })
    }
}

impl Projected {
    /// The text's tokens before the image's.
    fn joined(text: &Self, image: &Self) -> Result<Self> {
        let join = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 1);
        Ok(Self {
            q: join(&text.q, &image.q)?,
            k: join(&text.k, &image.k)?,
            v: join(&text.v, &image.v)?,
        })
    }

    /// Attention of all tokens among themselves, (rows, tokens, channels); what is tapped is kept
    /// under `path`.
    fn attend(
        &self,
        path: &str,
        positions: &Rotary,
        text_tokens: usize,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let heads = self.q.dim(2)?;
        let flat = |x: &Tensor| x.flatten_from(2);
        let (q, k) = (positions.forward(&self.q)?, positions.forward(&self.k)?);
        let (out, map) = attend_joint(
            &flat(&q)?,
            &flat(&k)?,
            &flat(&self.v)?,
            heads,
            text_tokens,
            tap.wants(path),
        )?;
        if let Some(map) = map {
            tap.keep(path, map);
        }
        Ok(out)
    }
}

/// What surrounds attention and feed-forward for one of the two streams of a [`DoubleBlock`].
#[derive(Debug)]
struct Stream {
    modulation: Linear,
    norm: LayerNorm,
    projections: Projections,
    out: Linear,
    feed_forward: FeedForward,
}

/// Shift, scale and gate of attention, then of the feed-forward network: (rows, channels), each.
struct Modulation([Tensor; 6]);

impl Stream {
    fn modulation(&self, time: &Tensor) -> Result<Modulation> {
        let chunks = self.modulation.forward(time)?.chunk(6, D::Minus1)?;
        let chunks: Result<[Tensor; 6], _> = chunks.try_into();
        chunks
            .map(Modulation)
            .map_err(|_| crate::Error::Internal("a modulation without its six parts".into()))
    }

    fn project(
        &self,
        x: &Tensor,
        Modulation([shift, scale, ..]): &Modulation,
    ) -> Result<Projected> {
        let y = self.norm.forward_modulated(x, scale, shift)?;
        self.projections.forward(&y)
    }

    /// Adds what was attended to and the feed-forward network's answer.
    fn finish(&self, x: &Tensor, attended: &Tensor, modulation: &Modulation) -> Result<Tensor> {
        let Modulation([_, _, gate, shift, scale, feed_gate]) = modulation;
        let x = gated(x, &self.out.forward(attended)?, gate)?;
        let y = self.norm.forward_modulated(&x, scale, shift)?;
        gated(&x, &self.feed_forward.forward(&y)?, feed_gate)
    }
}

/// `x` + `gate`·`y`: tokens (rows, tokens, channels), the gate (rows, channels).
fn gated(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    Ok((x + y.broadcast_mul(&gate.unsqueeze(1)?)?)?)
}

/// Where f16 would run over, its largest number, as diffusers keeps these states.
fn finite(x: Tensor) -> Result<Tensor> {
    const LARGEST: f32 = 65504.0;
    Ok(match x.dtype() {
        DType::F16 => x.clamp(-LARGEST, LARGEST)?,
        _ => x,
    })
}

/// Text and image, each with its own weights, in one attention.
#[derive(Debug)]
pub struct DoubleBlock {
    path: String,
    image: Stream,
    text: Stream,
}

impl DoubleBlock {
    pub fn load(scope: &Scope<'_>, config: &TransformerConfig) -> Result<Self> {
        let inner = config.inner();
        let attention = scope.at("attn");
        let stream = |norm: &str, projections, out: Scope<'_>, feed: &str| -> Result<Stream> {
            Ok(Stream {
                modulation: Linear::load(&scope.at(norm).at("linear"), inner, 6 * inner)?,
                norm: LayerNorm::plain(scope, inner, NORM_EPS)?,
                projections,
                out: Linear::load(&out, inner, inner)?,
                feed_forward: FeedForward::load(
                    &scope.at(feed),
                    inner,
                    FEED_FORWARD_FACTOR * inner,
                )?,
            })
        };
        let image = Projections::load_image(&attention, config)?;
        let text = Projections::load_text(&attention, config)?;
        Ok(Self {
            path: attention.path().to_owned(),
            image: stream("norm1", image, attention.at("to_out").at(0), "ff")?,
            text: stream(
                "norm1_context",
                text,
                attention.at("to_add_out"),
                "ff_context",
            )?,
        })
    }

    /// Module path of its attention.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The image's tokens and the text's, each (rows, tokens, channels), to the same. `time`: (rows,
    /// channels), with the activation already applied.
    pub fn forward(
        &self,
        image: &Tensor,
        text: &Tensor,
        time: &Tensor,
        positions: &Rotary,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let (of_image, of_text) = (self.image.modulation(time)?, self.text.modulation(time)?);
        let projected = Projected::joined(
            &self.text.project(text, &of_text)?,
            &self.image.project(image, &of_image)?,
        )?;
        let words = text.dim(1)?;
        let out = projected.attend(&self.path, positions, words, tap)?;
        let text_out = out.narrow(1, 0, words)?;
        let image_out = out.narrow(1, words, image.dim(1)?)?;
        Ok((
            self.image.finish(image, &image_out, &of_image)?,
            finite(self.text.finish(text, &text_out, &of_text)?)?,
        ))
    }
}

/// All tokens with the same weights, attention and feed-forward side by side.
#[derive(Debug)]
pub struct SingleBlock {
    path: String,
    modulation: Linear,
    norm: LayerNorm,
    projections: Projections,
    widen: Linear,
    out: Linear,
}

impl SingleBlock {
    pub fn load(scope: &Scope<'_>, config: &TransformerConfig) -> Result<Self> {
        let inner = config.inner();
        let hidden = FEED_FORWARD_FACTOR * inner;
        let attention = scope.at("attn");
        Ok(Self {
            path: attention.path().to_owned(),
            modulation: Linear::load(&scope.at("norm").at("linear"), inner, 3 * inner)?,
            norm: LayerNorm::plain(scope, inner, NORM_EPS)?,
            projections: Projections::load_image(&attention, config)?,
            widen: Linear::load(&scope.at("proj_mlp"), inner, hidden)?,
            out: Linear::load(&scope.at("proj_out"), inner + hidden, inner)?,
        })
    }

    /// Module path of its attention.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Tokens (rows, tokens, channels), the first `text_tokens` of them the text's, to the same.
    /// `time`: (rows, channels), with the activation already applied.
    pub fn forward(
        &self,
        x: &Tensor,
        text_tokens: usize,
        time: &Tensor,
        positions: &Rotary,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let parts = self.modulation.forward(time)?.chunk(3, D::Minus1)?;
        let [shift, scale, gate] = parts.as_slice() else {
            return Err(crate::Error::Internal(
                "a modulation without its three parts".into(),
            ));
        };
        let y = self.norm.forward_modulated(x, scale, shift)?;
        let wide = Activation::GeluTanh.forward(&self.widen.forward(&y)?)?;
        let projected = self.projections.forward(&y)?;
        let attended = projected.attend(&self.path, positions, text_tokens, tap)?;
        let out = self
            .out
            .forward(&Tensor::cat(&[&attended, &wide], D::Minus1)?)?;
        finite(gated(x, &out, gate)?)
    }
}
