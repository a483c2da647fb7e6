//! The denoiser.

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};

use super::blocks::{DoubleBlock, NORM_EPS, SingleBlock};
use super::config::TransformerConfig;
use super::positions::{Layout, Positions};
use crate::Result;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::embeddings::{Sinusoids, TimestepEmbedding};
use crate::backbones::layers::linear::Linear;
use crate::backbones::layers::norm::LayerNorm;
use crate::backbones::layers::patches::{PATCH, pack, unpack};
use crate::backbones::layers::rotary::Rotary;
use crate::backbones::tap::Tap;
use crate::backbones::weights::Weights;

/// diffusers' constants of `CombinedTimestepGuidanceTextProjEmbeddings`, in no file.
const SINUSOIDS: Sinusoids = Sinusoids {
    channels: 256,
    flip_sin_to_cos: true,
    freq_shift: 0.0,
};
/// What times and guidance are enlarged by before their sines are taken.
const NUMBER_SCALE: f32 = 1000.0;

/// diffusers' `FluxTransformer2DModel`: a transformer over the text's tokens and the image's (Esser
/// et al. 2024), first in two streams, then in one.
#[derive(Debug)]
pub struct Transformer {
    time: TimestepEmbedding,
    guidance: Option<TimestepEmbedding>,
    pooled: TimestepEmbedding,
    text_in: Linear,
    image_in: Linear,
    double: Vec<DoubleBlock>,
    single: Vec<SingleBlock>,
    modulation_out: Linear,
    norm_out: LayerNorm,
    out: Linear,
    positions: Positions,
    device: Device,
    dtype: DType,
}

/// What the denoiser is told beside the latents and the texts, one a row.
pub struct Conditions<'a> {
    /// In the scheduler's units.
    pub timesteps: &'a [f32],
    pub guidance: &'a [f32],
    /// (rows, tokens, text channels)
    pub text: &'a Tensor,
    /// (rows, pooled channels)
    pub pooled: &'a Tensor,
}

/// Where the streams meet: what the first half of a pass leaves for the second.
pub struct Halfway {
    /// (rows, image tokens, channels)
    pub image: Tensor,
    /// (rows, text tokens, channels)
    pub text: Tensor,
    /// (rows, channels), with the activation already applied.
    pub time: Tensor,
}

impl Transformer {
    pub fn load(config: &TransformerConfig, weights: &Weights, dtype: DType) -> Result<Self> {
        let root = weights.root("");
        let inner = config.inner();
        let embed = root.at("time_text_embed");
        let embedding = |name: &str, inputs: usize| {
            TimestepEmbedding::load(&embed.at(name), inputs, inner, Activation::Silu, None)
        };
        let transformer = Self {
            time: embedding("timestep_embedder", SINUSOIDS.channels)?,
            guidance: config
                .guidance_embeds
                .then(|| embedding("guidance_embedder", SINUSOIDS.channels))
                .transpose()?,
            pooled: embedding("text_embedder", config.pooled_projection_dim)?,
            text_in: Linear::load(
                &root.at("context_embedder"),
                config.joint_attention_dim,
                inner,
            )?,
            image_in: Linear::load(&root.at("x_embedder"), config.in_channels, inner)?,
            double: (0..config.num_layers)
                .map(|i| DoubleBlock::load(&root.at("transformer_blocks").at(i), config))
                .collect::<Result<_>>()?,
            single: (0..config.num_single_layers)
                .map(|i| SingleBlock::load(&root.at("single_transformer_blocks").at(i), config))
                .collect::<Result<_>>()?,
            modulation_out: Linear::load(&root.at("norm_out").at("linear"), inner, 2 * inner)?,
            norm_out: LayerNorm::plain(&root, inner, NORM_EPS)?,
            out: Linear::load(&root.at("proj_out"), inner, config.in_channels)?,
            device: weights.device().clone(),
            positions: Positions::new(&config.axes_dims_rope, weights.device()),
            dtype,
        };
        weights.finish(&[]);
        Ok(transformer)
    }

    /// Module paths of the attentions in two streams, in forward order.
    pub fn double_attentions(&self) -> Vec<String> {
        self.double.iter().map(|b| b.path().to_owned()).collect()
    }

    /// Module paths of the attentions in one stream, in forward order.
    pub fn single_attentions(&self) -> Vec<String> {
        self.single.iter().map(|b| b.path().to_owned()).collect()
    }

    /// Through the double blocks. `latents`: (rows, channels, height, width).
    pub fn begin(
        &self,
        latents: &Tensor,
        conditions: &Conditions<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<Halfway> {
        let (rows, _, h, w) = latents.dims4()?;
        let time = self.embedded(conditions)?;
        let mut image = self
            .image_in
            .forward(&pack(&latents.to_dtype(self.dtype)?)?)?;
        let mut text = self.text_in.forward(conditions.text)?;
        let positions = self.positions(text.dim(1)?, h, w)?;
        for block in &self.double {
            (image, text) = block.forward(&image, &text, &time, &positions, tap)?;
        }
        if tap.wants_middle() {
            let (h, w) = (h / PATCH, w / PATCH);
            let map = image.reshape((rows, h, w, ()))?.permute((0, 3, 1, 2))?;
            tap.keep_middle(map.contiguous()?);
        }
        Ok(Halfway { image, text, time })
    }

    /// Through the single blocks to the output, (rows, channels, `h`, `w`).
    pub fn finish(
        &self,
        halfway: &Halfway,
        (h, w): (usize, usize),
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let Halfway { image, text, time } = halfway;
        let words = text.dim(1)?;
        let positions = self.positions(words, h, w)?;
        let mut x = Tensor::cat(&[text, image], 1)?;
        for block in &self.single {
            x = block.forward(&x, words, time, &positions, tap)?;
        }
        let x = x.narrow(1, words, image.dim(1)?)?;
        // Unlike in the blocks, the scale comes first.
        let parts = self.modulation_out.forward(time)?.chunk(2, D::Minus1)?;
        let [scale, shift] = parts.as_slice() else {
            return Err(crate::Error::Internal(
                "a modulation without its two parts".into(),
            ));
        };
        let x = self.norm_out.forward_modulated(&x, scale, shift)?;
        unpack(&self.out.forward(&x)?, h, w)
    }

    /// Time, guidance and pooled text in one vector a row, (rows, channels), through SiLU, which is
    /// the first thing that every block does with it.
    fn embedded(&self, conditions: &Conditions<'_>) -> Result<Tensor> {
        let sinusoids = |numbers: &[f32]| SINUSOIDS.forward(numbers, self.dtype, &self.device);
        // The pipeline divides what the model multiplies; in f32 that is not always the same number.
        let times: Vec<f32> = conditions
            .timesteps
            .iter()
            .map(|t| t / NUMBER_SCALE * NUMBER_SCALE)
            .collect();
        let mut sum = self.time.forward(&sinusoids(&times)?)?;
        if let Some(embedding) = &self.guidance {
            let guidance: Vec<f32> = conditions
                .guidance
                .iter()
                .map(|g| g * NUMBER_SCALE)
                .collect();
            sum = (sum + embedding.forward(&sinusoids(&guidance)?)?)?;
        }
        sum = (sum + self.pooled.forward(conditions.pooled)?)?;
        Activation::Silu.forward(&sum)
    }

    /// Of the tokens of a picture whose latents are `h` × `w`.
    fn positions(&self, text_tokens: usize, h: usize, w: usize) -> Result<Arc<Rotary>> {
        self.positions.of(Layout {
            text_tokens,
            rows: h / PATCH,
            columns: w / PATCH,
        })
    }
}
