//! The spatial transformer of Stable Diffusion's UNets, which attends to the text.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{D, Tensor, TensorId};

use super::activation::Activation;
use super::attention::{Context, attend};
use super::cpu;
use super::linear::Linear;
use super::norm::{GroupNorm, LayerNorm};
use crate::Result;
use crate::backbones::tap::Tap;
use crate::backbones::weights::Scope;

/// diffusers' constants of `Transformer2DModel` and `BasicTransformerBlock`, in no file.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;
const FEED_FORWARD_FACTOR: usize = 4;

/// The shape of a [`SpatialTransformer`].
#[derive(Clone, Copy, Debug)]
pub struct TransformerKind {
    pub channels: usize,
    pub heads: usize,
    pub layers: usize,
    /// Width of the text.
    pub text_channels: usize,
    pub groups: usize,
    pub linear_projection: bool,
}

/// A feature map as tokens through transformer blocks, beside a shortcut.
#[derive(Clone, Debug)]
pub struct SpatialTransformer {
    norm: GroupNorm,
    project_in: Linear,
    blocks: Vec<Block>,
    project_out: Linear,
}

impl SpatialTransformer {
    pub fn load(scope: &Scope<'_>, kind: TransformerKind) -> Result<Self> {
        let inner = kind.channels / kind.heads * kind.heads;
        let project = if kind.linear_projection {
            Linear::load
        } else {
            Linear::load_conv1x1
        };
        Ok(Self {
            norm: GroupNorm::load(
                &scope.at("norm"),
                kind.groups,
                kind.channels,
                GROUP_NORM_EPS,
            )?,
            project_in: project(&scope.at("proj_in"), kind.channels, inner)?,
            blocks: (0..kind.layers)
                .map(|i| Block::load(&scope.at("transformer_blocks").at(i), inner, kind))
                .collect::<Result<_>>()?,
            project_out: project(&scope.at("proj_out"), inner, kind.channels)?,
        })
    }

    /// Module paths of the cross-attentions, in forward order.
    pub fn cross_attentions(&self) -> impl Iterator<Item = &str> {
        self.blocks.iter().map(|b| b.cross.path.as_str())
    }

    /// (rows, height, width, channels) and each row's text, (1, tokens, text channels) → the feature
    /// map.
    pub fn forward(&self, x: &Tensor, texts: &[&Tensor], tap: &mut Tap<'_>) -> Result<Tensor> {
        let (rows, h, w, c) = x.dims4()?;
        let y = self.norm.forward(x)?.reshape((rows, h * w, c))?;
        let mut y = self.project_in.forward(&y)?;
        for block in &self.blocks {
            y = block.forward(&y, texts, tap)?;
        }
        let y = self.project_out.forward(&y)?.reshape((rows, h, w, c))?;
        cpu::add(x, &y)
    }
}

/// Self-attention, cross-attention to the text and a gated feed-forward, each normalised before
/// and added to what came in.
#[derive(Clone, Debug)]
struct Block {
    norm1: LayerNorm,
    own: Attention,
    norm2: LayerNorm,
    cross: Attention,
    texts: Texts,
    norm3: LayerNorm,
    feed_forward: GatedFeedForward,
}

impl Block {
    fn load(scope: &Scope<'_>, inner: usize, kind: TransformerKind) -> Result<Self> {
        let norm = |name| LayerNorm::load(&scope.at(name), inner, LAYER_NORM_EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            own: Attention::load(&scope.at("attn1"), inner, inner, kind.heads)?,
            norm2: norm("norm2")?,
            cross: Attention::load(&scope.at("attn2"), inner, kind.text_channels, kind.heads)?,
            texts: Texts::default(),
            norm3: norm("norm3")?,
            feed_forward: GatedFeedForward::load(&scope.at("ff"), inner)?,
        })
    }

    fn forward(&self, x: &Tensor, texts: &[&Tensor], tap: &mut Tap<'_>) -> Result<Tensor> {
        let y = self.norm1.forward(x)?;
        let (y, _) = self.own.forward(&y, &self.own.context(&y)?, false)?;
        let x = cpu::add(x, &y)?;
        let y = self.norm2.forward(&x)?;
        let keep = tap.wants(&self.cross.path);
        let (y, probabilities) =
            self.cross
                .forward(&y, &self.texts.of(texts, &self.cross)?, keep)?;
        if let Some(probabilities) = probabilities {
            tap.keep(&self.cross.path, probabilities);
        }
        let x = cpu::add(&x, &y)?;
        let y = self.feed_forward.forward(&self.norm3.forward(&x)?)?;
        cpu::add(&x, &y)
    }
}

/// One attention with its projections.
#[derive(Clone, Debug)]
struct Attention {
    path: String,
    heads: usize,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Attention {
    fn load(scope: &Scope<'_>, inner: usize, context: usize, heads: usize) -> Result<Self> {
        Ok(Self {
            path: scope.path().to_owned(),
            heads,
            q: Linear::load_no_bias(&scope.at("to_q"), inner, inner)?,
            k: Linear::load_no_bias(&scope.at("to_k"), context, inner)?,
            v: Linear::load_no_bias(&scope.at("to_v"), context, inner)?,
            out: Linear::load(&scope.at("to_out").at(0), inner, inner)?,
        })
    }

    fn context(&self, tokens: &Tensor) -> Result<Context> {
        let (k, v) = (self.k.forward(tokens)?, self.v.forward(tokens)?);
        Context::new(&k, &v, self.heads)
    }

    fn forward(
        &self,
        x: &Tensor,
        context: &Context,
        keep: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (y, probabilities) = attend(&self.q.forward(x)?, context, self.heads, keep)?;
        Ok((self.out.forward(&y)?, probabilities))
    }
}

/// The last texts that one cross-attention was given: a text is the same in every step of a run, and
/// in a small model its keys and values are a good part of the work.
#[derive(Clone, Debug, Default)]
struct Texts(Arc<Mutex<VecDeque<(TensorId, Context)>>>);

impl Texts {
    /// Texts that are kept.
    const COUNT: usize = 32;
    /// What is larger is not kept: in a large model the memory would be worth more than the time.
    const BYTES: usize = 256 << 10;

    /// `attention`'s keys and values of each row's text.
    fn of(&self, texts: &[&Tensor], attention: &Attention) -> Result<Context> {
        let contexts = texts.iter().map(|text| self.one(text, attention));
        Context::stack(&contexts.collect::<Result<Vec<_>>>()?)
    }

    /// Those of one text, by the tensor's own identity.
    fn one(&self, text: &Tensor, attention: &Attention) -> Result<Context> {
        let known = self.lock().iter().find(|(id, _)| *id == text.id()).cloned();
        if let Some((_, context)) = known {
            return Ok(context);
        }
        let context = attention.context(text)?;
        if context.bytes() <= Self::BYTES {
            let mut texts = self.lock();
            texts.truncate(Self::COUNT - 1);
            texts.push_front((text.id(), context.clone()));
        }
        Ok(context)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(TensorId, Context)>> {
        // What a panicking thread left here is whole: entries are put in as they are.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// GEGLU (Shazeer 2020): half of the projection, gated by the GELU of the other half.
#[derive(Clone, Debug)]
struct GatedFeedForward {
    project: Linear,
    out: Linear,
}

impl GatedFeedForward {
    fn load(scope: &Scope<'_>, inner: usize) -> Result<Self> {
        let hidden = FEED_FORWARD_FACTOR * inner;
        let net = scope.at("net");
        Ok(Self {
            project: Linear::load(&net.at(0).at("proj"), inner, 2 * hidden)?,
            out: Linear::load(&net.at(2), hidden, inner)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let projected = self.project.forward(x)?;
        if cpu::applies_to(&projected) {
            let width = projected.dim(D::Minus1)? / 2;
            let mut shape = projected.dims().to_vec();
            shape[projected.rank() - 1] = width;
            let gated = cpu::with_values(&projected, |values| {
                cpu::tensor(&shape, |out| cpu::elementwise::geglu(values, width, out))
            })??;
            return self.out.forward(&gated);
        }
        let parts = projected.chunk(2, D::Minus1)?;
        let gate = Activation::Gelu.forward(&parts[1].contiguous()?)?;
        self.out.forward(&(&parts[0] * gate)?)
    }
}
