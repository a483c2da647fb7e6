//! FLUX.1 (Black Forest Labs 2024), dev and schnell, and models built like them.

mod blocks;
mod config;
pub mod costs;
mod positions;
mod text;
mod transformer;

use candle_core::{DType, Device, Tensor};

use self::config::TransformerConfig;
use self::text::TextEncoders;
use self::transformer::{Conditions, Halfway, Transformer};
use super::files::ModelFiles;
use super::index::{Defaults, PipelineIndex};
use super::layers::patches::PATCH;
use super::placement::Placement;
use super::scheduler::FlowMatchEuler;
use super::tap::Tap;
use super::tiles::Tiles;
use super::vae;
use super::weights::{Weights, weight_paths};
use super::{Backbone, Conditioning, Cost, DenoiserInput, Facts, Half, TapRequest, Tapped, Word};
use crate::sampling::Schedule;
use crate::{Error, Result};

/// The pipeline's class, as `model_index.json` names it.
pub const CLASS: &str = "FluxPipeline";

/// Constants of diffusers' pipeline, in no file: defaults of its call, and the latents that a picture
/// has along each side when no size is named.
const DEFAULT_STEPS: usize = 28;
const DEFAULT_GUIDANCE: f64 = 3.5;
const DEFAULT_SAMPLE_SIZE: usize = 128;
/// `max_sequence_length` of its call: T5's tokens, padding included, which the denoiser reads without
/// a mask. `foreseed.json` may name another number.
const TEXT_TOKENS: usize = 512;

/// diffusers' FluxPipeline takes no longer text.
const MOST_TEXT_TOKENS: usize = 512;
/// What the models without embedded guidance (schnell) are distilled for, by their model card.
const DISTILLED_STEPS: usize = 4;
/// How many blocks are tapped where nobody says which. At 1024² the map of one takes 200 MB in f32.
const TAPPED_BLOCKS: usize = 2;

/// A FLUX.1 pipeline, loaded.
#[derive(Debug)]
pub struct Flux {
    facts: Facts,
    text: TextEncoders,
    transformer: Transformer,
    vae: vae::Decoder,
    tiles: Tiles,
    evaluation_cost: Cost,
    vae_config: vae::Config,
    scheduler: FlowMatchEuler,
    device: Device,
    dtype: DType,
}

impl Flux {
    pub fn load(files: &ModelFiles, index: &PipelineIndex, placement: &Placement) -> Result<Self> {
        let (device, dtype) = (&placement.device, placement.dtype);
        let expected = [
            ("transformer", "FluxTransformer2DModel"),
            ("vae", "AutoencoderKL"),
            ("text_encoder", "CLIPTextModel"),
            ("text_encoder_2", "T5EncoderModel"),
        ];
        index.check(files, &expected)?;
        let defaults = Defaults::read(files)?;
        let scheduler = FlowMatchEuler::load(files)?;
        let config = TransformerConfig::read(files)?;
        let vae_config = vae::Config::read(files)?;
        if vae_config.latent_channels != config.latent_channels() {
            return Err(files.error(format!(
                "its VAE has {} latent channels and its transformer {}",
                vae_config.latent_channels,
                config.latent_channels()
            )));
        }
        let length = defaults.max_sequence_length.unwrap_or(TEXT_TOKENS);
        if !(2..=MOST_TEXT_TOKENS).contains(&length) {
            return Err(files.error(format!(
                "foreseed.json: max_sequence_length is {length}, and 2 to {MOST_TEXT_TOKENS} can be"
            )));
        }
        let text = TextEncoders::load(files, index, length, placement)?;
        for (name, asked, have) in [
            (
                "joint_attention_dim",
                config.joint_attention_dim,
                text.width(),
            ),
            (
                "pooled_projection_dim",
                config.pooled_projection_dim,
                text.pooled_width(),
            ),
        ] {
            if asked != have {
                return Err(files.error(format!(
                    "transformer/config.json: {name} is {asked}, and its text encoder gives {have} \
                     channels"
                )));
            }
        }
        let weights = Weights::open(files, "transformer", device, dtype)?;
        let transformer = Transformer::load(&config, &weights, dtype)?;
        let mut weight_bytes = text.weight_bytes + weights.bytes();
        let vae_dtype = vae_config.dtype(dtype, device);
        let weights = Weights::open(files, "vae", device, vae_dtype)?;
        let vae = vae::Decoder::load(&vae_config, &weights, vae_dtype)?;
        weight_bytes += weights.bytes();
        let scale = vae_config.scale();
        let costs = costs::costs(files, placement)?;
        let (double, single) = (
            transformer.double_attentions(),
            transformer.single_attentions(),
        );
        // In the middle, where the two streams of text and image meet.
        let default_tap = match double.len() {
            0 => single.iter().take(TAPPED_BLOCKS).cloned().collect(),
            blocks => double[blocks.saturating_sub(TAPPED_BLOCKS)..].to_vec(),
        };
        let (steps, guidance) = match config.guidance_embeds {
            true => (DEFAULT_STEPS, DEFAULT_GUIDANCE),
            false => (DISTILLED_STEPS, 0.0),
        };
        let side = DEFAULT_SAMPLE_SIZE * scale;
        let facts = Facts {
            family: "flux",
            fingerprint: files.fingerprint(&fingerprinted(files)?)?,
            latent_channels: config.latent_channels(),
            vae_scale: scale,
            size_multiple: scale * PATCH,
            default_width: defaults.width.unwrap_or(side),
            default_height: defaults.height.unwrap_or(side),
            default_steps: defaults.steps.unwrap_or(steps),
            default_guidance: defaults.guidance.unwrap_or(guidance),
            sampler: scheduler.name(),
            tappable: [double.as_slice(), &single].concat(),
            default_tap,
            glimpsed: double,
            weight_bytes,
        };
        Ok(Self {
            facts,
            text,
            transformer,
            vae,
            tiles: Tiles::new(placement, costs.decode, scale)?,
            evaluation_cost: costs.evaluation,
            vae_config,
            scheduler,
            device: device.clone(),
            dtype,
        })
    }

    /// The first half of one evaluation: through the blocks with two streams.
    fn halfway(&self, input: &DenoiserInput<'_>, tap: &mut Tap<'_>) -> Result<Halfway> {
        let rows = input.latents.dim(0)?;
        let given = [
            input.timesteps.len(),
            input.guidance.len(),
            input.texts.len(),
        ];
        if given != [rows; 3] {
            return Err(Error::Internal(format!(
                "{rows} latents with {given:?} times, guidances and texts"
            )));
        }
        let embeds: Vec<&Tensor> = input.texts.iter().map(|t| &t.embeds).collect();
        let pooled: Vec<&Tensor> = input
            .texts
            .iter()
            .filter_map(|t| t.pooled.as_ref())
            .collect();
        if pooled.len() != rows {
            return Err(Error::Internal("a text without its pooled state".into()));
        }
        let conditions = Conditions {
            timesteps: input.timesteps,
            guidance: input.guidance,
            text: &Tensor::cat(&embeds, 0)?,
            pooled: &Tensor::cat(&pooled, 0)?,
        };
        self.transformer.begin(input.latents, &conditions, tap)
    }

    /// Height and width of the latents of a call.
    fn grid(&self, input: &DenoiserInput<'_>) -> Result<(usize, usize)> {
        let (_, _, h, w) = input.latents.dims4()?;
        Ok((h, w))
    }
}

/// The files that make the model what it is: configurations, tokenizers, tensors.
fn fingerprinted(files: &ModelFiles) -> Result<Vec<String>> {
    const COMPONENTS: [&str; 4] = ["text_encoder", "text_encoder_2", "transformer", "vae"];
    let mut paths = vec![
        "model_index.json".to_owned(),
        "foreseed.json".to_owned(),
        "scheduler/scheduler_config.json".to_owned(),
    ];
    paths.extend(COMPONENTS.map(|component| format!("{component}/config.json")));
    for folder in ["tokenizer", "tokenizer_2"] {
        for name in [
            "tokenizer.json",
            "spiece.model",
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
    for component in COMPONENTS {
        paths.extend(weight_paths(files, component)?);
    }
    Ok(paths)
}

impl Backbone for Flux {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    /// # Errors
    /// A negative prompt that says something: guidance is embedded, and there is no second half that
    /// could read it.
    fn encode(&self, prompt: &str, negative: Option<&str>, _: f64) -> Result<Conditioning> {
        if let Some(negative) = negative.filter(|n| !n.is_empty()) {
            return Err(Error::invalid(
                "negative_prompt",
                format!("FLUX.1 takes none, and {negative:?} was sent"),
                "Leave it out: guidance is embedded in the model, and diffusers' true_cfg_scale, \
                 which would read one at twice the cost, is not supported. Say in the prompt what \
                 should be there instead",
            ));
        }
        Ok(Conditioning {
            positive: self.text.encode(prompt)?,
            negative: None,
        })
    }

    fn words(&self, prompt: &str) -> Result<Vec<Word>> {
        self.text.words(prompt)
    }

    fn schedule(&self, steps: usize, width: usize, height: usize) -> Result<Schedule> {
        self.facts.check_size(width, height)?;
        let token = self.facts.size_multiple;
        self.scheduler
            .schedule(steps, (width / token) * (height / token))
    }

    fn denoise(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Tensor, Tapped)> {
        let mut tap = Tap::new(tap);
        let halfway = self.halfway(input, &mut tap)?;
        let out = self
            .transformer
            .finish(&halfway, self.grid(input)?, &mut tap)?;
        Ok((out, tap.finish()))
    }

    fn begin(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Half, Tapped)> {
        let mut tap = Tap::new(tap);
        let Halfway { image, text, time } = self.halfway(input, &mut tap)?;
        let state = vec![image, text, time];
        Ok((Half { state }, tap.finish()))
    }

    fn complete(
        &self,
        half: &Half,
        input: &DenoiserInput<'_>,
        tap: &TapRequest,
    ) -> Result<(Tensor, Tapped)> {
        let [image, text, time] = half.state.as_slice() else {
            return Err(Error::Internal("half a pass without its state".into()));
        };
        let halfway = Halfway {
            image: image.clone(),
            text: text.clone(),
            time: time.clone(),
        };
        let mut tap = Tap::new(tap);
        let out = self
            .transformer
            .finish(&halfway, self.grid(input)?, &mut tap)?;
        Ok((out, tap.finish()))
    }

    /// One, whatever the guidance: it is told to the denoiser.
    fn evaluations_per_step(&self, _: Option<&str>, _: f64) -> u64 {
        1
    }

    fn evaluation_cost(&self) -> Option<Cost> {
        Some(self.evaluation_cost)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let config = &self.vae_config;
        let latents = latents.to_device(&self.device)?.to_dtype(DType::F32)?;
        let latents = (latents / config.scaling_factor)?;
        let latents = (latents + config.shift_factor.unwrap_or_default())?;
        let image = self.tiles.decode(&latents, |tile| self.vae.forward(tile))?;
        Ok(((image * 0.5)? + 0.5)?.clamp(0f32, 1f32)?)
    }
}
