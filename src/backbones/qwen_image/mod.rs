//! Qwen-Image (Wu et al. 2025) and models built like it.

mod config;
pub mod costs;
mod text;
mod transformer;
mod vae;

use candle_core::{D, DType, Device, Tensor};

use self::config::Config;
use self::text::TextEncoder;
use self::transformer::{Conditions, Streams, Transformer};
use super::files::ModelFiles;
use super::index::{Defaults, PipelineIndex};
use super::layers::patches::{PATCH, pack, unpack};
use super::placement::Placement;
use super::scheduler::FlowMatchEuler;
use super::tap::Tap;
use super::tiles::Tiles;
use super::weights::{Weights, weight_paths};
use super::{Backbone, Conditioning, Cost, DenoiserInput, Facts, Half, TapRequest, Tapped, Word};
use crate::sampling::Schedule;
use crate::{Error, Result};

/// The pipeline's class, as `model_index.json` names it.
pub const CLASS: &str = "QwenImagePipeline";

/// Constants of diffusers' pipeline, in no file: defaults of its call.
const DEFAULT_STEPS: usize = 50;
const DEFAULT_GUIDANCE: f64 = 4.0;
const DEFAULT_SAMPLE_SIZE: usize = 128;
/// Blocks in the middle that are tapped by default: each has a map of every image token and head.
const TAPPED: usize = 2;

/// A Qwen-Image pipeline, loaded.
#[derive(Debug)]
pub struct QwenImage {
    facts: Facts,
    text: TextEncoder,
    transformer: Transformer,
    vae: vae::Decoder,
    tiles: Tiles,
    evaluation_cost: Cost,
    scheduler: FlowMatchEuler,
    device: Device,
    dtype: DType,
}

impl QwenImage {
    pub fn load(files: &ModelFiles, index: &PipelineIndex, placement: &Placement) -> Result<Self> {
        let (device, dtype) = (&placement.device, placement.dtype);
        let expected = [
            ("transformer", "QwenImageTransformer2DModel"),
            ("vae", "AutoencoderKLQwenImage"),
        ];
        index.check(files, &expected)?;
        let scheduler = FlowMatchEuler::load(files)?;
        let config = Config::read(files)?;
        let vae_config = vae::Config::read(files)?;
        let channels = config.latent_channels();
        if vae_config.z_dim != channels {
            return Err(files.error(format!(
                "its VAE has {} latent channels and its transformer {channels}",
                vae_config.z_dim
            )));
        }
        let defaults = Defaults::read(files)?;
        let length = defaults.max_sequence_length;
        let text = TextEncoder::load(files, index, length, placement)?;
        if text.width() != config.joint_attention_dim {
            return Err(files.error(format!(
                "transformer/config.json: joint_attention_dim is {}, and the text encoder gives {} \
                 channels",
                config.joint_attention_dim,
                text.width()
            )));
        }
        let weights = Weights::open(files, "transformer", device, dtype)?;
        let transformer = Transformer::load(config, &weights, dtype)?;
        let mut weight_bytes = text.weight_bytes + weights.bytes();
        let vae_dtype = vae_dtype(dtype, device);
        let weights = Weights::open(files, "vae", device, vae_dtype)?;
        let vae = vae::Decoder::load(&vae_config, &weights, vae_dtype)?;
        weight_bytes += weights.bytes();
        let scale = vae_config.scale();
        let costs = costs::costs(files, placement)?;
        let (glimpsed, after) = transformer.attentions();
        let facts = Facts {
            family: "qwen-image",
            fingerprint: files.fingerprint(&fingerprinted(files)?)?,
            latent_channels: channels,
            vae_scale: scale,
            size_multiple: scale * PATCH,
            default_width: defaults.width.unwrap_or(DEFAULT_SAMPLE_SIZE * scale),
            default_height: defaults.height.unwrap_or(DEFAULT_SAMPLE_SIZE * scale),
            default_steps: defaults.steps.unwrap_or(DEFAULT_STEPS),
            default_guidance: defaults.guidance.unwrap_or(DEFAULT_GUIDANCE),
            sampler: scheduler.name(),
            tappable: [glimpsed.as_slice(), &after].concat(),
            default_tap: glimpsed[glimpsed.len().saturating_sub(TAPPED)..].to_vec(),
            glimpsed,
            weight_bytes,
        };
        Ok(Self {
            facts,
            text,
            transformer,
            vae,
            tiles: Tiles::new(placement, costs.decode, scale)?,
            evaluation_cost: costs.evaluation,
            scheduler,
            device: device.clone(),
            dtype,
        })
    }

    /// Calls `run` with what the denoiser is conditioned on.
    fn conditioned<R>(
        &self,
        input: &DenoiserInput<'_>,
        run: impl FnOnce(&Conditions<'_>) -> Result<R>,
    ) -> Result<R> {
        let (rows, _, height, width) = input.latents.dims4()?;
        if input.timesteps.len() != rows || input.texts.len() != rows {
            return Err(Error::Internal(format!(
                "{rows} latents with {} times and {} texts",
                input.timesteps.len(),
                input.texts.len()
            )));
        }
        let texts: Vec<&Tensor> = input.texts.iter().map(|text| &text.embeds).collect();
        run(&Conditions {
            timesteps: input.timesteps,
            texts: &Tensor::cat(&texts, 0)?,
            size: (height, width),
        })
    }
}

/// What the VAE is computed in: on the CPU there is no convolution in bf16.
fn vae_dtype(dtype: DType, device: &Device) -> DType {
    match dtype {
        DType::BF16 if device.is_cpu() => DType::F32,
        other => other,
    }
}

/// The files that make the model what it is: configurations, tokenizer, tensors.
fn fingerprinted(files: &ModelFiles) -> Result<Vec<String>> {
    let mut paths: Vec<String> = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/special_tokens_map.json",
        "tokenizer/added_tokens.json",
    ]
    .map(String::from)
    .into();
    paths.retain(|path| files.has(path));
    for component in ["text_encoder", "transformer", "vae"] {
        paths.extend(weight_paths(files, component)?);
    }
    Ok(paths)
}

impl Backbone for QwenImage {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn encode(&self, prompt: &str, negative: Option<&str>, guidance: f64) -> Result<Conditioning> {
        let negative = negative.filter(|_| guidance > 1.0);
        let texts: Vec<&str> = std::iter::once(prompt).chain(negative).collect();
        let mut states = self.text.encode(&texts)?.into_iter();
        let positive = states
            .next()
            .ok_or_else(|| Error::Internal("a text was not encoded".into()))?;
        Ok(Conditioning {
            positive,
            negative: states.next(),
        })
    }

    fn words(&self, prompt: &str) -> Result<Vec<Word>> {
        self.text.words(prompt)
    }

    fn schedule(&self, steps: usize, width: usize, height: usize) -> Result<Schedule> {
        self.facts.check_size(width, height)?;
        let multiple = self.facts.size_multiple;
        let tokens = (width / multiple) * (height / multiple);
        self.scheduler.schedule(steps, tokens)
    }

    fn denoise(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Tensor, Tapped)> {
        self.conditioned(input, |conditions| {
            let mut tap = Tap::new(tap);
            let halfway = self
                .transformer
                .begin(input.latents, conditions, &mut tap)?;
            let out = self.transformer.finish(halfway, conditions, &mut tap)?;
            Ok((out, tap.finish()))
        })
    }

    fn begin(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Half, Tapped)> {
        self.conditioned(input, |conditions| {
            let mut tap = Tap::new(tap);
            let Streams { image, text } =
                self.transformer
                    .begin(input.latents, conditions, &mut tap)?;
            let state = vec![image, text];
            Ok((Half { state }, tap.finish()))
        })
    }

    fn complete(
        &self,
        half: &Half,
        input: &DenoiserInput<'_>,
        tap: &TapRequest,
    ) -> Result<(Tensor, Tapped)> {
        let [image, text] = half.state.as_slice() else {
            return Err(Error::Internal("half a pass without its state".into()));
        };
        let halfway = Streams {
            image: image.clone(),
            text: text.clone(),
        };
        self.conditioned(input, |conditions| {
            let mut tap = Tap::new(tap);
            let out = self.transformer.finish(halfway, conditions, &mut tap)?;
            Ok((out, tap.finish()))
        })
    }

    fn evaluation_cost(&self) -> Option<Cost> {
        Some(self.evaluation_cost)
    }

    /// True classifier-free guidance runs where there is a negative prompt, an empty one included.
    fn evaluations_per_step(&self, negative: Option<&str>, guidance: f64) -> u64 {
        match negative {
            Some(_) if guidance > 1.0 => 2,
            _ => 1,
        }
    }

    /// Guidance that keeps the length of every token's conditional prediction.
    fn guide(&self, negative: &Tensor, positive: &Tensor, guidance: f64) -> Result<Tensor> {
        let (_, _, height, width) = positive.dims4()?;
        let (negative, positive) = (pack(negative)?, pack(positive)?);
        let guided = (&negative + ((&positive - &negative)? * guidance)?)?;
        let length = |x: &Tensor| x.sqr()?.sum_keepdim(D::Minus1)?.sqrt();
        let ratio = (length(&positive)? / length(&guided)?)?;
        unpack(&guided.broadcast_mul(&ratio)?, height, width)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let image = self.tiles.decode(latents, |tile| self.vae.forward(tile))?;
        Ok(((image * 0.5)? + 0.5)?.clamp(0f32, 1f32)?)
    }
}
