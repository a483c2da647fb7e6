//! CLIP in transformers' layout, and the two scorers that are nothing but its similarity: CLIPScore
//! (Hessel et al. 2021) and PickScore (Kirstain et al. 2023).

use candle_core::{D, Device, Tensor};
use image::RgbImage;
use serde::Deserialize;

use super::files::{Part, ScorerFiles};
use super::image::Preparation;
use super::metrics::Metric;
use super::vision::Vision;
use super::{Score, Scorer};
use crate::Result;
use crate::backbones::clip::{ClipText, ClipTextConfig, ClipTokenizer};
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::encoder::{EncoderKind, EncoderLayer, Naming};
use crate::backbones::layers::linear::Linear;
use crate::backbones::layers::norm::LayerNorm;
use crate::backbones::weights::{Scope, Weights};

/// `config.json`. Old ones say the towers' in `…_config_dict` as well.
#[derive(Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    text_config: ClipTextConfig,
    #[serde(default)]
    vision_config: VisionConfig,
    #[serde(default = "Config::projection")]
    projection_dim: usize,
}

impl Config {
    fn projection() -> usize {
        512
    }
}

/// The defaults are transformers' `CLIPVisionConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct VisionConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: Activation,
    layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 1] = [("position_ids", "the positions are 0, 1, 2, …")];

/// The half of CLIP that sees.
#[derive(Debug)]
pub struct ClipVision {
    vision: Vision,
    projection: Linear,
}

impl ClipVision {
    pub(super) fn load(part: &Part, config: &Config, weights: &Weights) -> Result<Self> {
        let path = format!("{}/config.json", part.name);
        let own = &config.vision_config;
        let (width, heads, patch) = (own.hidden_size, own.num_attention_heads, own.patch_size);
        let whole =
            |length: usize, part: usize| part > 0 && length > 0 && length.is_multiple_of(part);
        if !whole(width, heads) || !whole(own.image_size, patch) || own.num_channels != 3 {
            return Err(part.files.error(format!(
                "{path}: a vision tower of width {width} with {heads} heads, for {} channels of {} \
                 pixels in patches of {patch}, cannot be built",
                own.num_channels, own.image_size
            )));
        }
        let root = weights.root("vision_model");
        let embeddings = root.at("embeddings");
        let patches = (own.image_size / patch).pow(2);
        let kind = EncoderKind {
            naming: Naming::Transformers,
            width,
            inner: own.intermediate_size,
            heads,
            act: own.hidden_act,
            eps: own.layer_norm_eps,
            causal: false,
        };
        let norm = |name| LayerNorm::load(&root.at(name), width, own.layer_norm_eps);
        let vision = Vision {
            patch,
            patches: patch_layer(&embeddings.at("patch_embedding"), width, patch, false)?,
            class: embeddings
                .tensor("class_embedding", &[width])?
                .reshape((1, 1, width))?,
            positions: embeddings
                .at("position_embedding")
                .tensor("weight", &[1 + patches, width])?
                .unsqueeze(0)?,
            // So misspelt in every published file.
            pre_norm: Some(norm("pre_layrnorm")?),
            layers: (0..own.num_hidden_layers)
                .map(|i| EncoderLayer::load(&root.at("encoder").at("layers").at(i), kind))
                .collect::<Result<_>>()?,
            post_norm: norm("post_layernorm")?,
            device: weights.device().clone(),
        };
        let projection = weights.root("").at("visual_projection");
        Ok(Self {
            vision,
            projection: Linear::load_no_bias(&projection, width, config.projection_dim)?,
        })
    }

    /// Pixels along a side of the pictures it takes.
    pub fn side(&self) -> Result<usize> {
        self.vision.side()
    }

    /// Width of what it gives.
    pub fn width(&self) -> usize {
        self.projection.outputs()
    }

    /// (1, 3, side, side) → (1, width), of length 1.
    pub fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        unit(&self.projection.forward(&self.vision.pooled(pixels)?)?)
    }

    pub fn device(&self) -> &Device {
        &self.vision.device
    }
}

/// The patch convolution as a linear layer.
pub(super) fn patch_layer(
    scope: &Scope<'_>,
    width: usize,
    patch: usize,
    bias: bool,
) -> Result<Linear> {
    let weight = scope.tensor("weight", &[width, 3, patch, patch])?;
    let bias = bias.then(|| scope.tensor("bias", &[width])).transpose()?;
    Linear::new(weight.reshape((width, 3 * patch * patch))?, bias)
}

/// Rows of length 1.
pub(super) fn unit(rows: &Tensor) -> Result<Tensor> {
    let length = rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    Ok(rows.broadcast_div(&length)?)
}

/// The cosine of two vectors of length 1, each (1, width).
pub(super) fn cosine(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(f64::from((a * b)?.sum_all()?.to_scalar::<f32>()?))
}

/// Opens a folder in transformers' layout and reads its configuration.
pub(super) fn open(files: &ScorerFiles, device: &Device) -> Result<(Part, Config, Weights)> {
    let (part, weights) = files.weights(device)?;
    let config = part.files.json(&format!("{}/config.json", part.name))?;
    Ok((part, config, weights))
}

/// What becomes of the cosine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// A hundred times it, and not below 0: torchmetrics' CLIPScore. Hessel et al. have 2.5 there.
    Hundredfold,
    /// Times the temperature that the network learned.
    Learned,
}

/// How alike CLIP finds a picture and its prompt.
#[derive(Debug)]
pub struct ClipSimilarity {
    metric: &'static Metric,
    text: ClipText,
    tokenizer: ClipTokenizer,
    vision: ClipVision,
    preparation: Preparation,
    /// What the cosine is multiplied by.
    factor: f64,
    scale: Scale,
}

impl ClipSimilarity {
    pub fn load(
        metric: &'static Metric,
        scale: Scale,
        files: &ScorerFiles,
        device: &Device,
    ) -> Result<Self> {
        let (part, config, weights) = open(files, device)?;
        let vision = ClipVision::load(&part, &config, &weights)?;
        let path = format!("{}/config.json", part.name);
        let text = config.text_config.projected_to(config.projection_dim);
        let text = ClipText::with_config(text, &part.files, &path, &weights, true)?;
        let factor = match scale {
            Scale::Hundredfold => 100.0,
            Scale::Learned => {
                let learned = weights.root("").tensor("logit_scale", &[])?;
                f64::from(learned.to_scalar::<f32>()?).exp()
            }
        };
        let mut allowed = LEFT_OVER.to_vec();
        allowed.push(("logit_scale", "only for scores that are scaled by it"));
        weights.finish(&allowed);
        let words = files.part(&["tokenizer.json", "vocab.json"])?;
        let tokenizer = ClipTokenizer::load(
            &words.files,
            &words.name,
            "CLIPTokenizer",
            text.max_tokens(),
        )?;
        let pictures = files.part(&["preprocessor_config.json"])?;
        Ok(Self {
            metric,
            tokenizer,
            preparation: Preparation::read(&pictures.files, &pictures.name, vision.side()?)?,
            text,
            vision,
            factor,
            scale,
        })
    }
}

impl Scorer for ClipSimilarity {
    fn metric(&self) -> &str {
        self.metric.name
    }

    fn good(&self) -> f64 {
        self.metric.good
    }

    fn score(&self, prompt: &str, image: &RgbImage) -> Result<Score> {
        let pixels = self.preparation.apply(image, self.vision.device())?;
        let seen = self.vision.embed(&pixels)?;
        let ids = self.tokenizer.encode(prompt)?.ids;
        let asked = unit(&self.text.pooled(&ids)?)?;
        let value = self.factor * cosine(&seen, &asked)?;
        Ok(Score::plain(match self.scale {
            Scale::Hundredfold => value.max(0.0),
            Scale::Learned => value,
        }))
    }
}
