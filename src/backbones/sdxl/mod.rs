//! Stable Diffusion XL (Podell et al. 2023) and models built like it.

mod config;
pub mod costs;
mod text;
mod unet;

use candle_core::{DType, Device, Tensor};

use self::config::UnetConfig;
use self::text::TextEncoders;
use self::unet::{Conditions, Halfway, Unet};
use super::files::ModelFiles;
use super::index::{Defaults, PipelineIndex};
use super::placement::Placement;
use super::scheduler::DiscreteSampler;
use super::tap::Tap;
use super::tiles::Tiles;
use super::vae::{self, preview::Preview};
use super::weights::{Weights, weight_paths};
use super::{Backbone, Conditioning, Cost, DenoiserInput, Facts, Half, TapRequest, Tapped, Word};
use crate::sampling::Schedule;
use crate::{Error, Result};

/// The pipeline's class, as `model_index.json` names it.
pub const CLASS: &str = "StableDiffusionXLPipeline";

/// Constants of diffusers' pipeline, in no file: defaults of its call, and the multiple of pixels
/// that it asks of width and height.
const DEFAULT_STEPS: usize = 50;
const DEFAULT_GUIDANCE: f64 = 5.0;
const DEFAULT_SAMPLE_SIZE: usize = 128;
const PIXEL_MULTIPLE: usize = 8;
/// Original height and width, crop top and left, target height and width.
const NUMBERS: usize = 6;

/// An SDXL pipeline, loaded.
#[derive(Debug)]
pub struct Sdxl {
    facts: Facts,
    text: TextEncoders,
    unet: Unet,
    vae: vae::Decoder,
    tiles: Tiles,
    evaluation_cost: Cost,
    vae_config: vae::Config,
    preview: Option<Preview>,
    scheduler: DiscreteSampler,
    zeros_without_negative: bool,
    pooled_to_unet: bool,
    device: Device,
    dtype: DType,
}

impl Sdxl {
    pub fn load(files: &ModelFiles, index: &PipelineIndex, placement: &Placement) -> Result<Self> {
        let (device, dtype) = (&placement.device, placement.dtype);
        let expected = [("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL")];
        index.check(files, &expected)?;
        let scheduler = DiscreteSampler::load(files)?;
        let text = TextEncoders::load(files, index, placement)?;
        let unet_config = UnetConfig::read(files)?;
        check_widths(files, &unet_config, &text)?;
        let vae_config = vae::Config::read(files)?;
        if vae_config.latent_channels != unet_config.channels {
            return Err(files.error(format!(
                "its VAE has {} latent channels and its UNet {}",
                vae_config.latent_channels, unet_config.channels
            )));
        }
        let weights = Weights::open(files, "unet", device, dtype)?;
        let unet = Unet::load(unet_config.clone(), &weights, dtype)?;
        let mut weight_bytes = text.weight_bytes + weights.bytes();
        let vae_dtype = vae_config.dtype(dtype, device);
        let weights = Weights::open(files, "vae", device, vae_dtype)?;
        let vae = vae::Decoder::load(&vae_config, &weights, vae_dtype)?;
        weight_bytes += weights.bytes();
        let preview = Preview::load(files, unet_config.channels, (device, dtype))?;
        weight_bytes += preview.as_ref().map_or(0, |(_, bytes)| *bytes);
        let scale = vae_config.scale();
        let (height, width) = unet_config
            .sample_size
            .unwrap_or((DEFAULT_SAMPLE_SIZE, DEFAULT_SAMPLE_SIZE));
        let costs = costs::costs(files, index, placement)?;
        let defaults = Defaults::read(files)?;
        let attentions = unet.cross_attentions();
        let glimpsed = [attentions.down, attentions.mid.clone()].concat();
        let facts = Facts {
            family: "sdxl",
            fingerprint: files.fingerprint(&fingerprinted(files)?)?,
            latent_channels: unet_config.channels,
            vae_scale: scale,
            size_multiple: scale.max(PIXEL_MULTIPLE),
            default_width: defaults.width.unwrap_or(width * scale),
            default_height: defaults.height.unwrap_or(height * scale),
            default_steps: defaults.steps.unwrap_or(DEFAULT_STEPS),
            default_guidance: defaults.guidance.unwrap_or(DEFAULT_GUIDANCE),
            sampler: scheduler.name(),
            tappable: [glimpsed.as_slice(), &attentions.up].concat(),
            default_tap: attentions.mid,
            glimpsed,
            weight_bytes,
        };
        Ok(Self {
            facts,
            text,
            unet,
            vae,
            tiles: Tiles::new(placement, costs.decode, scale)?,
            evaluation_cost: costs.evaluation,
            vae_config,
            preview: preview.map(|(decoder, _)| decoder),
            scheduler,
            zeros_without_negative: index.flag("force_zeros_for_empty_prompt", true),
            pooled_to_unet: unet_config.added.is_some(),
            device: device.clone(),
            dtype,
        })
    }
}

impl Sdxl {
    /// The first half of one evaluation of the UNet.
    fn halfway(&self, input: &DenoiserInput<'_>, tap: &mut Tap<'_>) -> Result<Halfway> {
        let rows = input.latents.dim(0)?;
        if input.timesteps.len() != rows || input.texts.len() != rows {
            return Err(Error::Internal(format!(
                "{rows} latents with {} times and {} texts",
                input.timesteps.len(),
                input.texts.len()
            )));
        }
        let pooled: Vec<&Tensor> = input
            .texts
            .iter()
            .filter_map(|t| t.pooled.as_ref())
            .collect();
        let pooled = match self.pooled_to_unet {
            true if pooled.len() == rows => Some(Tensor::cat(&pooled, 0)?),
            true => return Err(Error::Internal("a text without its pooled state".into())),
            false => None,
        };
        let (h, w) = (input.height as f32, input.width as f32);
        let numbers = [h, w, 0.0, 0.0, h, w].repeat(rows);
        let conditions = Conditions {
            timesteps: input.timesteps,
            texts: &embeds(input),
            pooled: pooled.as_ref(),
            numbers: &numbers,
        };
        self.unet.begin(input.latents, &conditions, tap)
    }
}

fn embeds<'a>(input: &DenoiserInput<'a>) -> Vec<&'a Tensor> {
    input.texts.iter().map(|text| &text.embeds).collect()
}

/// The text encoders' widths must be what the UNet's configuration expects of them.
fn check_widths(files: &ModelFiles, unet: &UnetConfig, text: &TextEncoders) -> Result<()> {
    let blocks = unet.down.iter().chain(&unet.up);
    for block in blocks.filter(|b| b.transformers.is_some()) {
        if block.text_channels != text.width() {
            return Err(files.error(format!(
                "unet/config.json: cross_attention_dim is {}, and the text encoders give {} channels",
                block.text_channels,
                text.width()
            )));
        }
    }
    if let Some(added) = unet.added {
        let have = NUMBERS * added.number_channels + text.pooled_width();
        if added.inputs != have {
            return Err(files.error(format!(
                "unet/config.json: projection_class_embeddings_input_dim is {}, and {NUMBERS} × \
                 addition_time_embed_dim {} + pooled text {} make {have}",
                added.inputs,
                added.number_channels,
                text.pooled_width()
            )));
        }
    }
    Ok(())
}

/// The files that make the model what it is: configurations, tokenizers, tensors.
fn fingerprinted(files: &ModelFiles) -> Result<Vec<String>> {
    let mut paths: Vec<String> = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "vae/config.json",
        "preview_vae/config.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
    ]
    .map(String::from)
    .into();
    for folder in ["tokenizer", "tokenizer_2"] {
        for name in [
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
        ] {
            paths.push(format!("{folder}/{name}"));
        }
    }
    paths.retain(|path| files.has(path));
    for component in [
        "text_encoder",
        "text_encoder_2",
        "unet",
        "vae",
        vae::preview::COMPONENT,
    ] {
        if files.has(&format!("{component}/config.json")) {
            paths.extend(weight_paths(files, component)?);
        }
    }
    Ok(paths)
}

impl Backbone for Sdxl {
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
        let zeros = negative.is_none() && self.zeros_without_negative;
        if guidance > 1.0 && !zeros {
            let texts = [prompt, negative.unwrap_or_default()];
            let [positive, negative] = self.text.encode(texts)?;
            return Ok(Conditioning {
                positive,
                negative: Some(negative),
            });
        }
        let [positive] = self.text.encode([prompt])?;
        let negative = match guidance > 1.0 {
            true => Some(TextEncoders::zeros_like(&positive)?),
            false => None,
        };
        Ok(Conditioning { positive, negative })
    }

    fn words(&self, prompt: &str) -> Result<Vec<Word>> {
        self.text.words(prompt)
    }

    fn schedule(&self, steps: usize, width: usize, height: usize) -> Result<Schedule> {
        self.facts.check_size(width, height)?;
        self.scheduler.schedule(steps)
    }

    fn denoise(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Tensor, Tapped)> {
        let mut tap = Tap::new(tap);
        let halfway = self.halfway(input, &mut tap)?;
        let out = self.unet.finish(halfway, &embeds(input), &mut tap)?;
        Ok((out, tap.finish()))
    }

    fn begin(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Half, Tapped)> {
        let mut tap = Tap::new(tap);
        let Halfway { x, time, skips } = self.halfway(input, &mut tap)?;
        let mut state = vec![x, time];
        state.extend(skips);
        Ok((Half { state }, tap.finish()))
    }

    fn complete(
        &self,
        half: &Half,
        input: &DenoiserInput<'_>,
        tap: &TapRequest,
    ) -> Result<(Tensor, Tapped)> {
        let [x, time, skips @ ..] = half.state.as_slice() else {
            return Err(Error::Internal("half a pass without its state".into()));
        };
        let halfway = Halfway {
            x: x.clone(),
            time: time.clone(),
            skips: skips.to_vec(),
        };
        let mut tap = Tap::new(tap);
        let out = self.unet.finish(halfway, &embeds(input), &mut tap)?;
        Ok((out, tap.finish()))
    }

    fn evaluation_cost(&self) -> Option<Cost> {
        Some(self.evaluation_cost)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let config = &self.vae_config;
        let latents = latents.to_device(&self.device)?.to_dtype(DType::F32)?;
        let latents = match (&config.latents_mean, &config.latents_std) {
            (Some(mean), Some(std)) => {
                let per_channel = |values: &[f32]| -> Result<Tensor> {
                    Ok(Tensor::new(values, &self.device)?.reshape((1, (), 1, 1))?)
                };
                (latents.broadcast_mul(&per_channel(std)?)? / config.scaling_factor)?
                    .broadcast_add(&per_channel(mean)?)?
            }
            // This pipeline does not look at shift_factor.
            _ => (latents / config.scaling_factor)?,
        };
        let image = self.tiles.decode(&latents, |tile| self.vae.forward(tile))?;
        Ok(((image * 0.5)? + 0.5)?.clamp(0f32, 1f32)?)
    }

    fn preview(&self, latents: &Tensor) -> Result<Tensor> {
        match &self.preview {
            None => self.decode(latents),
            Some(decoder) => {
                let image = decoder.forward(&latents.to_device(&self.device)?)?;
                Ok(((image * 0.5)? + 0.5)?.clamp(0f32, 1f32)?)
            }
        }
    }
}
