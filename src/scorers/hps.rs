//! Human Preference Score 2.1 (Wu et al. 2023): the similarity that a CLIP ViT-H/14 in OpenCLIP's
//! layout, trained on people's choices, finds between a picture and its prompt.

use candle_core::{Device, Tensor};
use image::RgbImage;

use super::cleaning::cleaned;
use super::clip::{cosine, patch_layer, unit};
use super::files::ScorerFiles;
use super::image::{Fit, Preparation};
use super::metrics::HPS;
use super::vision::{Vision, layers};
use super::{Score, Scorer};
use crate::Result;
use crate::backbones::ModelFiles;
use crate::backbones::clip::ClipTokenizer;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::encoder::{EncoderKind, EncoderLayer, Naming};
use crate::backbones::layers::norm::LayerNorm;
use crate::backbones::weights::{Scope, Weights};

/// Heads of both towers of OpenCLIP's ViT-H-14 (`head_width` 80 of 1280, and `heads`), whose
/// configuration is in the library and not in the published file. All else is read off the shapes.
const HEADS: usize = 16;
/// torch's `LayerNorm` where nothing is said.
const EPS: f64 = 1e-5;

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 2] = [
    ("logit_scale", "the score is the cosine itself"),
    ("attn_mask", "a token sees those before it"),
];

#[derive(Debug)]
pub struct Hps {
    vision: Vision,
    /// (width, embedding)
    vision_projection: Tensor,
    text: Text,
    tokenizer: ClipTokenizer,
    preparation: Preparation,
}

impl Hps {
    /// The tokenizer is CLIP's, in any folder with one: OpenCLIP has it in its code.
    pub fn load(files: &ScorerFiles, device: &Device) -> Result<Self> {
        let (part, weights) = files.weights(device)?;
        // The file was saved out of a wrapper that calls the network `model`.
        let root = weights.root("model");
        let text = Text::load(&root, &part.files)?;
        let visual = root.at("visual");
        let (vision, width) = vision(&visual, &weights, &part.files)?;
        let embedding = text.projection.dim(1)?;
        let vision_projection = visual.tensor("proj", &[width, embedding])?;
        weights.finish(&LEFT_OVER);
        let words = files.part(&["tokenizer.json", "vocab.json"])?;
        let tokens = text.positions.dim(0)?;
        let tokenizer = ClipTokenizer::load(&words.files, &words.name, "CLIPTokenizer", tokens)?;
        Ok(Self {
            preparation: Preparation::clip(Fit::Pad {
                side: vision.side()?,
            }),
            vision,
            vision_projection,
            text,
            tokenizer,
        })
    }
}

impl Scorer for Hps {
    fn metric(&self) -> &str {
        HPS.name
    }

    fn good(&self) -> f64 {
        HPS.good
    }

    fn score(&self, prompt: &str, image: &RgbImage) -> Result<Score> {
        let pixels = self.preparation.apply(image, &self.vision.device)?;
        let seen = self.vision.pooled(&pixels)?;
        let seen = unit(&seen.matmul(&self.vision_projection)?)?;
        let ids = self.tokenizer.encode(&cleaned(prompt))?.ids;
        let asked = unit(&self.text.pooled(&ids)?)?;
        Ok(Score::plain(cosine(&seen, &asked)?))
    }
}

/// A layer's kind by the shapes of a tower whose first layer is under `layers`.
fn kind(layers: &Scope<'_>, width: usize, causal: bool, files: &ModelFiles) -> Result<EncoderKind> {
    let inner = layers.at(0).shape("mlp.c_fc.weight").map(|shape| shape[0]);
    match inner {
        Some(inner) if width.is_multiple_of(HEADS) => Ok(EncoderKind {
            naming: Naming::OpenClip,
            width,
            inner,
            heads: HEADS,
            act: Activation::Gelu,
            eps: EPS,
            causal,
        }),
        _ => Err(files.error(format!(
            "{} is no tower of OpenCLIP's ViT-H-14: {inner:?} inside, {width} wide",
            layers.path()
        ))),
    }
}

/// The tower and its width.
fn vision(scope: &Scope<'_>, weights: &Weights, files: &ModelFiles) -> Result<(Vision, usize)> {
    let Some(&[width, _, patch, _]) = scope.shape("conv1.weight") else {
        return Err(files.error("there is no visual.conv1.weight (width, 3, patch, patch)"));
    };
    let Some(&[positions, _]) = scope.shape("positional_embedding") else {
        return Err(files.error("there is no visual.positional_embedding (1 + patches, width)"));
    };
    let blocks = scope.at("transformer.resblocks");
    let kind = kind(&blocks, width, false, files)?;
    let norm = |name| LayerNorm::load(&scope.at(name), width, EPS);
    let vision = Vision {
        patch,
        patches: patch_layer(&scope.at("conv1"), width, patch, false)?,
        class: scope
            .tensor("class_embedding", &[width])?
            .reshape((1, 1, width))?,
        positions: scope
            .tensor("positional_embedding", &[positions, width])?
            .unsqueeze(0)?,
        pre_norm: Some(norm("ln_pre")?),
        layers: layers(
            kind,
            |i| blocks.at(i).has("ln_1.weight"),
            |i, kind| EncoderLayer::load(&blocks.at(i), kind),
        )?,
        post_norm: norm("ln_post")?,
        device: weights.device().clone(),
    };
    Ok((vision, width))
}

/// OpenCLIP's text tower.
#[derive(Debug)]
struct Text {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
    /// (width, embedding)
    projection: Tensor,
}

impl Text {
    fn load(scope: &Scope<'_>, files: &ModelFiles) -> Result<Self> {
        let shape = |name: &str| match scope.shape(name) {
            Some(&[rows, columns]) => Ok([rows, columns]),
            _ => Err(files.error(format!(
                "there is no matrix {name}: no text tower in OpenCLIP's layout"
            ))),
        };
        let tokens = shape("token_embedding.weight")?;
        let width = tokens[1];
        let positions = shape("positional_embedding")?;
        let projection = shape("text_projection")?;
        let blocks = scope.at("transformer.resblocks");
        let kind = kind(&blocks, width, true, files)?;
        Ok(Self {
            tokens: scope.tensor("token_embedding.weight", &tokens)?,
            positions: scope.tensor("positional_embedding", &[positions[0], width])?,
            layers: layers(
                kind,
                |i| blocks.at(i).has("ln_1.weight"),
                |i, kind| EncoderLayer::load(&blocks.at(i), kind),
            )?,
            norm: LayerNorm::load(&scope.at("ln_final"), width, EPS)?,
            projection: scope.tensor("text_projection", &[width, projection[1]])?,
        })
    }

    /// (1, embedding), at the token with the largest id, which is the end token. Those after it are
    /// not run: in a causal network they have no say.
    fn pooled(&self, ids: &[u32]) -> Result<Tensor> {
        let largest = ids.iter().max();
        let end = ids.iter().position(|id| Some(id) == largest).unwrap_or(0);
        let index = Tensor::new(&ids[..=end], self.tokens.device())?;
        let mut x = self
            .tokens
            .index_select(&index, 0)?
            .add(&self.positions.narrow(0, 0, end + 1)?)?
            .unsqueeze(0)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        let last = x.narrow(1, end, 1)?.squeeze(1)?.contiguous()?;
        Ok(self.norm.forward(&last)?.matmul(&self.projection)?)
    }
}
