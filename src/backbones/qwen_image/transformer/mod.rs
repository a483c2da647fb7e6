//! QwenImageTransformer2DModel, tapped.

mod block;
mod positions;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{D, DType, Device, Tensor};

use self::block::Block;
pub use self::block::Streams;
use super::config::Config;
use crate::Result;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::embeddings::{Sinusoids, TimestepEmbedding};
use crate::backbones::layers::linear::Linear;
use crate::backbones::layers::norm::{LayerNorm, RmsNorm};
use crate::backbones::layers::patches::{PATCH, pack, unpack};
use crate::backbones::layers::rotary::Rotary;
use crate::backbones::tap::Tap;
use crate::backbones::weights::Weights;

/// Constants of diffusers' model, in no file.
const EPS: f64 = 1e-6;
const TIME: Sinusoids = Sinusoids {
    channels: 256,
    flip_sin_to_cos: true,
    freq_shift: 0.0,
};
/// The pipeline gives the model time from 0 to 1, which multiplies it by as much again.
const TIME_SCALE: f32 = 1000.0;
const ACT: Activation = Activation::Silu;

/// The denoiser of Qwen-Image (Wu et al. 2025): dual-stream blocks throughout.
#[derive(Debug)]
pub struct Transformer {
    config: Config,
    time: TimestepEmbedding,
    text_norm: RmsNorm,
    text_in: Linear,
    image_in: Linear,
    blocks: Vec<Block>,
    modulation_out: Linear,
    norm_out: LayerNorm,
    out: Linear,
    rotaries: Rotaries,
    dtype: DType,
    device: Device,
}

/// What one call is conditioned on, row by row.
pub struct Conditions<'a> {
    /// In the scheduler's units.
    pub timesteps: &'a [f32],
    /// (rows, tokens, text channels)
    pub texts: &'a Tensor,
    /// Of the latents.
    pub size: (usize, usize),
}

impl Transformer {
    pub fn load(config: Config, weights: &Weights, dtype: DType) -> Result<Self> {
        let root = weights.root("");
        let inner = config.inner();
        let text = config.joint_attention_dim;
        let out = root.at("norm_out");
        let transformer = Self {
            time: TimestepEmbedding::load(
                &root.at("time_text_embed").at("timestep_embedder"),
                TIME.channels,
                inner,
                ACT,
                None,
            )?,
            text_norm: RmsNorm::load(&root.at("txt_norm"), text, EPS)?,
            text_in: Linear::load(&root.at("txt_in"), text, inner)?,
            image_in: Linear::load(&root.at("img_in"), config.in_channels, inner)?,
            blocks: (0..config.num_layers)
                .map(|i| Block::load(&root.at("transformer_blocks").at(i), &config))
                .collect::<Result<_>>()?,
            modulation_out: Linear::load(&out.at("linear"), inner, 2 * inner)?,
            norm_out: LayerNorm::plain(&out, inner, EPS)?,
            out: Linear::load(&root.at("proj_out"), inner, config.in_channels)?,
            rotaries: Rotaries::default(),
            dtype,
            device: weights.device().clone(),
            config,
        };
        weights.finish(&[]);
        Ok(transformer)
    }

    /// Module paths of the attentions, in forward order: those of the first half and those of the
    /// second. The last of the first half is the middle block.
    pub fn attentions(&self) -> (Vec<String>, Vec<String>) {
        let path = |block: &Block| block.path().to_owned();
        let (first, second) = self.blocks.split_at(self.half());
        (
            first.iter().map(path).collect(),
            second.iter().map(path).collect(),
        )
    }

    /// Blocks of the first half.
    fn half(&self) -> usize {
        self.blocks.len().div_ceil(2)
    }

    /// The first half of the blocks on (rows, channels, height, width).
    pub fn begin(
        &self,
        latents: &Tensor,
        conditions: &Conditions<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<Streams> {
        let text = self.text_norm.forward(conditions.texts)?;
        let mut streams = Streams {
            image: self
                .image_in
                .forward(&pack(&latents.to_dtype(self.dtype)?)?)?,
            text: self.text_in.forward(&text)?,
        };
        let time = self.time(conditions)?;
        let rotary = self.rotary(&streams, conditions)?;
        for block in &self.blocks[..self.half()] {
            streams = block.forward(&streams, &time, &rotary, tap)?;
        }
        if tap.wants_middle() {
            let (rows, _, channels) = streams.image.dims3()?;
            let (h, w) = tokens(conditions.size);
            let middle = streams.image.transpose(1, 2)?.contiguous()?;
            tap.keep_middle(middle.reshape((rows, channels, h, w))?);
        }
        Ok(streams)
    }

    /// The second half, with the conditions that [`Transformer::begin`] was given: the prediction,
    /// (rows, channels, height, width).
    pub fn finish(
        &self,
        mut streams: Streams,
        conditions: &Conditions<'_>,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let time = self.time(conditions)?;
        let rotary = self.rotary(&streams, conditions)?;
        for block in &self.blocks[self.half()..] {
            streams = block.forward(&streams, &time, &rotary, tap)?;
        }
        let parts = self.modulation_out.forward(&time)?.chunk(2, D::Minus1)?;
        let (scale, shift) = (parts[0].contiguous()?, parts[1].contiguous()?);
        let y = self
            .norm_out
            .forward_modulated(&streams.image, &scale, &shift)?;
        let (height, width) = conditions.size;
        unpack(&self.out.forward(&y)?, height, width)
    }

    /// (rows, channels), activated.
    fn time(&self, conditions: &Conditions<'_>) -> Result<Tensor> {
        let times: Vec<f32> = conditions
            .timesteps
            .iter()
            .map(|t| t / TIME_SCALE)
            .collect();
        let sinusoids = TIME.forward_scaled(&times, TIME_SCALE, self.dtype, &self.device)?;
        ACT.forward(&self.time.forward(&sinusoids)?)
    }

    fn rotary(&self, streams: &Streams, conditions: &Conditions<'_>) -> Result<Arc<Rotary>> {
        let (text, picture) = (streams.text.dim(1)?, tokens(conditions.size));
        self.rotaries.of(text, picture, || {
            positions::rotary(self.config.axes_dims_rope, text, picture, &self.device)
        })
    }
}

/// Tokens of the text, and of the picture along each side.
type Lengths = (usize, (usize, usize));

/// The last rotary embeddings: they are the same in every step of a run, and take a while to make.
#[derive(Debug, Default)]
struct Rotaries(Mutex<VecDeque<(Lengths, Arc<Rotary>)>>);

impl Rotaries {
    /// A prompt and its opposite, of a few candidates.
    const COUNT: usize = 8;

    fn of(
        &self,
        text: usize,
        picture: (usize, usize),
        make: impl FnOnce() -> Result<Rotary>,
    ) -> Result<Arc<Rotary>> {
        let lengths = (text, picture);
        // What a panicking thread left here is whole: entries are put in as they are.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rotary)) = known.iter().find(|(own, _)| *own == lengths) {
            return Ok(rotary.clone());
        }
        let rotary = Arc::new(make()?);
        known.truncate(Self::COUNT - 1);
        known.push_front((lengths, rotary.clone()));
        Ok(rotary)
    }
}

/// Tokens of a picture along each side, of so many latents.
fn tokens((height, width): (usize, usize)) -> (usize, usize) {
    (height / PATCH, width / PATCH)
}
