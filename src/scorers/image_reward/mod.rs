//! ImageReward (Xu et al. 2023): BLIP's vision transformer sees the picture, its text encoder reads
//! the prompt while it attends to what was seen, and a linear head judges the first token.

mod bert;
mod wordpiece;

use candle_core::Device;
use image::RgbImage;

use self::bert::Bert;
use self::wordpiece::WordPieces;
use super::clip::patch_layer;
use super::files::ScorerFiles;
use super::head::Head;
use super::image::{Fit, Preparation, Rounding};
use super::metrics::IMAGE_REWARD;
use super::vision::{Vision, layers};
use super::{Score, Scorer};
use crate::Result;
use crate::backbones::ModelFiles;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::encoder::{EncoderKind, EncoderLayer, Naming};
use crate::backbones::layers::norm::LayerNorm;
use crate::backbones::weights::{Scope, Weights};

/// Constants of BLIP's code, in no file: heads of its large vision transformer and its epsilon.
const VISION_HEADS: usize = 16;
const VISION_EPS: f64 = 1e-6;

/// Constants of ImageReward's code, in no file: tokens of a prompt, the end ones included, and the
/// mean and deviation of the head's answers to the pictures that people ranked.
const TOKENS: usize = 35;
const MEAN: f64 = 0.167_173_628_302_524_26;
const DEVIATION: f64 = 1.033_339_496_605_407_2;

/// The head's linear layers in its `Sequential`; the others are dropout.
const HEAD: [usize; 5] = [0, 2, 4, 6, 7];

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 3] = [
    ("position_ids", "the positions are 0, 1, 2, …"),
    ("blip.vision_proj.", "only for BLIP's contrastive training"),
    ("blip.text_proj.", "only for BLIP's contrastive training"),
];

#[derive(Debug)]
pub struct ImageReward {
    vision: Vision,
    bert: Bert,
    head: Head,
    words: WordPieces,
    preparation: Preparation,
}

impl ImageReward {
    /// The words are BERT's, in any folder with its `vocab.txt`.
    pub fn load(files: &ScorerFiles, device: &Device) -> Result<Self> {
        let (part, weights) = files.weights(device)?;
        let root = weights.root("blip");
        let (vision, width) = vision(&root.at("visual_encoder"), &weights, &part.files)?;
        let bert = Bert::load(&root.at("text_encoder"), width, &part.files)?;
        let mlp = weights.root("").at("mlp");
        let head = Head::load(bert.width(), HEAD.into_iter(), &|name| {
            let shape = mlp.shape(name).map(<[usize]>::to_vec);
            mlp.tensor(name, &shape.unwrap_or_default())
        })?;
        weights.finish(&LEFT_OVER);
        let side = vision.side()?;
        Ok(Self {
            words: WordPieces::load(files, bert.vocabulary())?,
            preparation: Preparation::clip(Fit::Crop {
                shortest: side,
                side,
                rounding: Rounding::HalfEven,
            }),
            vision,
            bert,
            head,
        })
    }
}

impl Scorer for ImageReward {
    fn metric(&self) -> &str {
        IMAGE_REWARD.name
    }

    fn good(&self) -> f64 {
        IMAGE_REWARD.good
    }

    fn score(&self, prompt: &str, image: &RgbImage) -> Result<Score> {
        let pixels = self.preparation.apply(image, &self.vision.device)?;
        let seen = self.vision.tokens(&pixels)?;
        // Padding is masked out of the reference's attention: it is left out here.
        let ids = self.words.encode(prompt, TOKENS)?;
        let read = self.bert.forward(&ids, &seen)?;
        let judged = self
            .head
            .forward(&read.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)?;
        Ok(Score::plain((judged - MEAN) / DEVIATION))
    }
}

/// The vision transformer and its width.
fn vision(scope: &Scope<'_>, weights: &Weights, files: &ModelFiles) -> Result<(Vision, usize)> {
    let missing = |name: &str| files.error(format!("there is no {}.{name}", scope.path()));
    let patches = scope.at("patch_embed.proj");
    let Some(&[width, _, patch, _]) = patches.shape("weight") else {
        return Err(missing("patch_embed.proj.weight (width, 3, patch, patch)"));
    };
    let Some(&[_, positions, _]) = scope.shape("pos_embed") else {
        return Err(missing("pos_embed (1, 1 + patches, width)"));
    };
    let blocks = scope.at("blocks");
    let inner = blocks.at(0).shape("mlp.fc1.weight").map(|shape| shape[0]);
    let Some(inner) = inner.filter(|_| width.is_multiple_of(VISION_HEADS)) else {
        return Err(missing(
            "blocks.0.mlp.fc1.weight, or its 16 heads do not fit",
        ));
    };
    let kind = EncoderKind {
        naming: Naming::Timm,
        width,
        inner,
        heads: VISION_HEADS,
        act: Activation::Gelu,
        eps: VISION_EPS,
        causal: false,
    };
    let vision = Vision {
        patch,
        patches: patch_layer(&patches, width, patch, true)?,
        class: scope.tensor("cls_token", &[1, 1, width])?,
        positions: scope.tensor("pos_embed", &[1, positions, width])?,
        pre_norm: None,
        layers: layers(
            kind,
            |i| blocks.at(i).has("norm1.weight"),
            |i, kind| EncoderLayer::load(&blocks.at(i), kind),
        )?,
        post_norm: LayerNorm::load(&scope.at("norm"), width, VISION_EPS)?,
        device: weights.device().clone(),
    };
    Ok((vision, width))
}
