//! A layer of the plain transformer encoders: CLIP's two towers and the vision transformers. The
//! libraries that publish them name the same tensors differently.

use candle_core::{D, Tensor};

use super::activation::Activation;
use super::attention::{Context, attend, attend_causal};
use super::linear::Linear;
use super::norm::LayerNorm;
use crate::Result;
use crate::backbones::weights::Scope;

/// Whose names a layer's tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// transformers' CLIP.
    Transformers,
    /// OpenAI's CLIP and OpenCLIP, which keep the three projections in one matrix.
    OpenClip,
    /// timm's vision transformer and BLIP's, with one matrix as well.
    Timm,
}

/// The shape of an [`EncoderLayer`].
#[derive(Clone, Copy, Debug)]
pub struct EncoderKind {
    pub naming: Naming,
    pub width: usize,
    /// Width between the two linear layers after the attention.
    pub inner: usize,
    pub heads: usize,
    pub act: Activation,
    pub eps: f64,
    /// Whether a token sees those before it only.
    pub causal: bool,
}

/// Self-attention and two linear layers, each normalised before and added to what came in.
#[derive(Debug)]
pub struct EncoderLayer {
    norm1: LayerNorm,
    projections: Projections,
    out: Linear,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    kind: EncoderKind,
}

#[derive(Debug)]
enum Projections {
    Apart([Linear; 3]),
    Together(Linear),
}

impl EncoderLayer {
    pub fn load(scope: &Scope<'_>, kind: EncoderKind) -> Result<Self> {
        let width = kind.width;
        let apart = |names: [&str; 3]| -> Result<Projections> {
            let [q, k, v] = names.map(|name| Linear::load(&scope.at(name), width, width));
            Ok(Projections::Apart([q?, k?, v?]))
        };
        let ([norm1, out, norm2, widen, narrow], projections) = match kind.naming {
            Naming::Transformers => (
                [
                    "layer_norm1",
                    "self_attn.out_proj",
                    "layer_norm2",
                    "mlp.fc1",
                    "mlp.fc2",
                ],
                apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"])?,
            ),
            Naming::OpenClip => (
                ["ln_1", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"],
                Projections::Together(Linear::new(
                    scope.tensor("attn.in_proj_weight", &[3 * width, width])?,
                    Some(scope.tensor("attn.in_proj_bias", &[3 * width])?),
                )?),
            ),
            Naming::Timm => (
                ["norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"],
                Projections::Together(Linear::load(&scope.at("attn.qkv"), width, 3 * width)?),
            ),
        };
        let norm = |name| LayerNorm::load(&scope.at(name), width, kind.eps);
        Ok(Self {
            norm1: norm(norm1)?,
            projections,
            out: Linear::load(&scope.at(out), width, width)?,
            norm2: norm(norm2)?,
            widen: Linear::load(&scope.at(widen), width, kind.inner)?,
            narrow: Linear::load(&scope.at(narrow), kind.inner, width)?,
            kind,
        })
    }

    /// (rows, tokens, width)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let heads = self.kind.heads;
        let [q, k, v] = self.projections.forward(&self.norm1.forward(x)?)?;
        let context = Context::new(&k, &v, heads)?;
        let seen = match self.kind.causal {
            true => attend_causal(&q, &context, heads)?,
            false => attend(&q, &context, heads, false)?.0,
        };
        let x = (x + self.out.forward(&seen)?)?;
        let y = self.widen.forward(&self.norm2.forward(&x)?)?;
        Ok((x + self.narrow.forward(&self.kind.act.forward(&y)?)?)?)
    }
}

impl Projections {
    /// Queries, keys and values.
    fn forward(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        Ok(match self {
            Self::Apart([q, k, v]) => [q.forward(x)?, k.forward(x)?, v.forward(x)?],
            Self::Together(all) => {
                let all = all.forward(x)?;
                let width = all.dim(D::Minus1)? / 3;
                let part = |i| all.narrow(D::Minus1, i * width, width)?.contiguous();
                [part(0)?, part(1)?, part(2)?]
            }
        })
    }
}
