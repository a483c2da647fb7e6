//! BLIP's text encoder (Li et al. 2022): BERT in which every layer also attends to a picture.

use candle_core::Tensor;

use crate::Result;
use crate::backbones::ModelFiles;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::attention::{Context, attend};
use crate::backbones::layers::linear::Linear;
use crate::backbones::layers::norm::LayerNorm;
use crate::backbones::weights::Scope;

/// What ImageReward's `med_config.json` says and its safetensors do not; sizes are read off them.
const HEADS: usize = 12;
const EPS: f64 = 1e-12;

/// Token ids and a picture's tokens to states.
#[derive(Debug)]
pub struct Bert {
    tokens: Tensor,
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Bert {
    /// `seen`: the width of the picture's tokens.
    pub fn load(scope: &Scope<'_>, seen: usize, files: &ModelFiles) -> Result<Self> {
        let embeddings = scope.at("embeddings");
        let matrix = |name: &str| match embeddings.shape(name) {
            Some(&[rows, columns]) => Ok([rows, columns]),
            _ => Err(files.error(format!("there is no matrix {}.{name}", embeddings.path()))),
        };
        let tokens = matrix("word_embeddings.weight")?;
        let positions = matrix("position_embeddings.weight")?;
        let width = tokens[1];
        if !width.is_multiple_of(HEADS) {
            return Err(files.error(format!(
                "{}: {width} numbers a token are no multiple of its {HEADS} heads",
                scope.path()
            )));
        }
        let layers = scope.at("encoder.layer");
        Ok(Self {
            tokens: embeddings.tensor("word_embeddings.weight", &tokens)?,
            positions: embeddings.tensor("position_embeddings.weight", &[positions[0], width])?,
            norm: LayerNorm::load(&embeddings.at("LayerNorm"), width, EPS)?,
            layers: (0..)
                .map(|i| layers.at(i))
                .take_while(|layer| layer.has("output.dense.weight"))
                .map(|layer| Layer::load(&layer, width, seen))
                .collect::<Result<_>>()?,
        })
    }

    /// Width of a token's state.
    pub fn width(&self) -> usize {
        self.tokens.dims().last().copied().unwrap_or(0)
    }

    /// Ids that it knows.
    pub fn vocabulary(&self) -> usize {
        self.tokens.dims().first().copied().unwrap_or(0)
    }

    /// Ids and (1, seen tokens, seen width) → (1, ids, width).
    pub fn forward(&self, ids: &[u32], seen: &Tensor) -> Result<Tensor> {
        let index = Tensor::new(ids, self.tokens.device())?;
        let x = self
            .tokens
            .index_select(&index, 0)?
            .add(&self.positions.narrow(0, 0, ids.len())?)?;
        let mut x = self.norm.forward(&x.unsqueeze(0)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, seen)?;
        }
        Ok(x)
    }
}

#[derive(Debug)]
struct Layer {
    own: Attention,
    cross: Attention,
    widen: Linear,
    narrow: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn load(scope: &Scope<'_>, width: usize, seen: usize) -> Result<Self> {
        let widen = scope.at("intermediate.dense");
        let inner = widen.shape("weight").map_or(0, |shape| shape[0]);
        let output = scope.at("output");
        Ok(Self {
            own: Attention::load(&scope.at("attention"), width, width)?,
            cross: Attention::load(&scope.at("crossattention"), width, seen)?,
            widen: Linear::load(&widen, width, inner)?,
            narrow: Linear::load(&output.at("dense"), inner, width)?,
            norm: LayerNorm::load(&output.at("LayerNorm"), width, EPS)?,
        })
    }

    fn forward(&self, x: &Tensor, seen: &Tensor) -> Result<Tensor> {
        let x = self.own.forward(x, x)?;
        let x = self.cross.forward(&x, seen)?;
        let y = Activation::Gelu.forward(&self.widen.forward(&x)?)?;
        self.norm.forward(&(self.narrow.forward(&y)? + &x)?)
    }
}

/// Attention added to what came in and normalised after.
#[derive(Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm: LayerNorm,
}

impl Attention {
    fn load(scope: &Scope<'_>, width: usize, seen: usize) -> Result<Self> {
        let (own, output) = (scope.at("self"), scope.at("output"));
        Ok(Self {
            q: Linear::load(&own.at("query"), width, width)?,
            k: Linear::load(&own.at("key"), seen, width)?,
            v: Linear::load(&own.at("value"), seen, width)?,
            out: Linear::load(&output.at("dense"), width, width)?,
            norm: LayerNorm::load(&output.at("LayerNorm"), width, EPS)?,
        })
    }

    fn forward(&self, x: &Tensor, seen: &Tensor) -> Result<Tensor> {
        let (k, v) = (self.k.forward(seen)?, self.v.forward(seen)?);
        let context = Context::new(&k, &v, HEADS)?;
        let (y, _) = attend(&self.q.forward(x)?, &context, HEADS, false)?;
        self.norm.forward(&(self.out.forward(&y)? + x)?)
    }
}
