//! A dual-stream block: image and text side by side, attending to each other.

use candle_core::{D, DType, Tensor};

use super::super::config::Config;
use crate::Result;
use crate::backbones::layers::feed_forward::FeedForward;
use crate::backbones::layers::joint::attend_joint;
use crate::backbones::layers::linear::Linear;
use crate::backbones::layers::norm::{LayerNorm, RmsNorm};
use crate::backbones::layers::rotary::Rotary;
use crate::backbones::tap::Tap;
use crate::backbones::weights::Scope;

/// Constants of diffusers' `QwenImageTransformerBlock`, in no file.
const EPS: f64 = 1e-6;
const FEED_FORWARD_FACTOR: usize = 4;

/// The two streams between two blocks.
#[derive(Clone, Debug)]
pub struct Streams {
    /// (rows, image tokens, channels)
    pub image: Tensor,
    /// (rows, text tokens, channels)
    pub text: Tensor,
}

#[derive(Debug)]
pub struct Block {
    image: Side,
    text: Side,
    heads: usize,
    /// Of its attention.
    path: String,
}

impl Block {
    pub fn load(scope: &Scope<'_>, config: &Config) -> Result<Self> {
        let attention = scope.at("attn");
        let side = |stream, names: [&str; 6]| Side::load(scope, stream, names, config);
        Ok(Self {
            image: side(
                "img",
                ["to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k"],
            )?,
            text: side(
                "txt",
                [
                    "add_q_proj",
                    "add_k_proj",
                    "add_v_proj",
                    "to_add_out",
                    "norm_added_q",
                    "norm_added_k",
                ],
            )?,
            heads: config.num_attention_heads,
            path: attention.path().to_owned(),
        })
    }

    /// The module path of its attention.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `time`: (rows, channels), with the activation already applied, as it is the same for all
    /// blocks. `rotary`: of the text's tokens, then the image's.
    pub fn forward(
        &self,
        streams: &Streams,
        time: &Tensor,
        rotary: &Rotary,
        tap: &mut Tap<'_>,
    ) -> Result<Streams> {
        let Streams { image, text } = streams;
        let (of_image, of_text) = (
            self.image.modulation.forward(time)?,
            self.text.modulation.forward(time)?,
        );
        let read = self.image.read(image, &of_image, self.heads)?;
        let told = self.text.read(text, &of_text, self.heads)?;
        let joined = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 1);
        let turned = |a: &Tensor, b: &Tensor| -> Result<Tensor> {
            Ok(rotary.forward(&joined(a, b)?)?.flatten_from(2)?)
        };
        let texts = text.dim(1)?;
        let (y, map) = attend_joint(
            &turned(&told.q, &read.q)?,
            &turned(&told.k, &read.k)?,
            &joined(&told.v, &read.v)?,
            self.heads,
            texts,
            tap.wants(&self.path),
        )?;
        if let Some(map) = map {
            tap.keep(&self.path, map);
        }
        let to_text = y.narrow(1, 0, texts)?.contiguous()?;
        let to_image = y.narrow(1, texts, image.dim(1)?)?.contiguous()?;
        Ok(Streams {
            image: self.image.write(image, &to_image, &of_image)?,
            text: self.text.write(text, &to_text, &of_text)?,
        })
    }
}

/// What one stream brings to the joint attention: queries and keys (rows, tokens, heads, channels
/// of a head), values (rows, tokens, channels).
struct Read {
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

/// How time scales, moves and gates one stream, for the attention and for the feed-forward.
struct Modulation {
    /// Shift, scale and gate twice, (rows, channels) each.
    parts: Vec<Tensor>,
}

#[derive(Debug)]
struct ModulationLayer(Linear);

impl ModulationLayer {
    fn forward(&self, time: &Tensor) -> Result<Modulation> {
        let parts = self.0.forward(time)?.chunk(6, D::Minus1)?;
        let parts = parts.iter().map(|part| Ok(part.contiguous()?));
        Ok(Modulation {
            parts: parts.collect::<Result<_>>()?,
        })
    }
}

/// The layers of one stream.
#[derive(Debug)]
struct Side {
    modulation: ModulationLayer,
    norm: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    feed_forward: FeedForward,
}

impl Side {
    fn load(
        scope: &Scope<'_>,
        stream: &str,
        [q, k, v, out, norm_q, norm_k]: [&str; 6],
        config: &Config,
    ) -> Result<Self> {
        let inner = config.inner();
        let attention = scope.at("attn");
        let project = |name| Linear::load(&attention.at(name), inner, inner);
        let norm = |name| RmsNorm::load(&attention.at(name), config.attention_head_dim, EPS);
        let modulation = scope.at(format!("{stream}_mod")).at(1);
        Ok(Self {
            modulation: ModulationLayer(Linear::load(&modulation, inner, 6 * inner)?),
            norm: LayerNorm::plain(scope, inner, EPS)?,
            q: project(q)?,
            k: project(k)?,
            v: project(v)?,
            out: project(out)?,
            norm_q: norm(norm_q)?,
            norm_k: norm(norm_k)?,
            feed_forward: FeedForward::load(
                &scope.at(format!("{stream}_mlp")),
                inner,
                FEED_FORWARD_FACTOR * inner,
            )?,
        })
    }

    fn read(&self, x: &Tensor, by: &Modulation, heads: usize) -> Result<Read> {
        let (rows, tokens, width) = x.dims3()?;
        let y = self.norm.forward_modulated(x, &by.parts[1], &by.parts[0])?;
        let by_head = |x: Tensor| x.reshape((rows, tokens, heads, width / heads));
        Ok(Read {
            q: self.norm_q.forward(&by_head(self.q.forward(&y)?)?)?,
            k: self.norm_k.forward(&by_head(self.k.forward(&y)?)?)?,
            v: self.v.forward(&y)?,
        })
    }

    /// The stream with what its tokens heard, and with its feed-forward.
    fn write(&self, x: &Tensor, heard: &Tensor, by: &Modulation) -> Result<Tensor> {
        let gated = |y: Tensor, gate: &Tensor| y.broadcast_mul(&gate.unsqueeze(1)?);
        let x = (x + gated(self.out.forward(heard)?, &by.parts[2])?)?;
        let y = self
            .norm
            .forward_modulated(&x, &by.parts[4], &by.parts[3])?;
        let x = (x + gated(self.feed_forward.forward(&y)?, &by.parts[5])?)?;
        // In f16 large activations overflow; the reference cuts them off like this.
        const LARGEST: f32 = 65504.0;
        match x.dtype() {
            DType::F16 => Ok(x.clamp(-LARGEST, LARGEST)?),
            _ => Ok(x),
        }
    }
}
