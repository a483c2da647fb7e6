//! The text-to-image models: one folder a family, all behind [`Backbone`].
//!
//! What differs between families (text encoding, the denoiser's inputs, the VAE, the scheduler that
//! their files name) stays in their folders. What they share (a step, guidance, the tap, a resumable
//! trajectory) is written once, in [`crate::sampling`].

pub(crate) mod apart;
mod audit;
mod checkpoint;
pub(crate) mod clip;
mod costs;
mod files;
mod flux;
#[cfg(fuzzing)]
pub mod fuzzed;
mod gguf;
mod index;
pub(crate) mod layers;
mod lora;
mod on_demand;
mod placement;
mod qwen_image;
mod qwen_text;
mod scheduler;
mod sdxl;
mod t5;
mod tap;
mod tiles;
mod token_ids;
mod vae;
mod vocabulary;
pub(crate) mod weights;
mod words;

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

pub use self::audit::{ComponentAudit, audit};
pub use self::checkpoint::SDXL_BASE;
pub use self::costs::{Cost, Needs, Part, PublishedPart};
pub use self::files::{Embedded, ModelFiles};
pub use self::lora::Adapter;
pub use self::placement::{Placement, Residence};
pub use self::token_ids::token_ids;
use crate::Result;
use crate::sampling::Schedule;

/// Loads the model that `files` holds onto `device`, its weights as `dtype`. `name` is what errors
/// call it. What its `model_index.json` says it is decides who loads it; a class that is not
/// supported is refused by name. LoRAs are merged into the weights; one that is for another model is
/// refused.
pub fn load(
    files: ModelFiles,
    name: &str,
    device: &Device,
    dtype: DType,
) -> Result<Box<dyn Backbone>> {
    load_at(files, name, &Placement::new(device, dtype))
}

/// [`load`] that says of each part where it goes and for how long.
pub fn load_at(files: ModelFiles, name: &str, placement: &Placement) -> Result<Box<dyn Backbone>> {
    let files = prepared(files, name)?;
    let index = index::PipelineIndex::read(&files)?;
    if files.has(gguf::PATH) && index.pipeline() == Some(sdxl::CLASS) {
        return Err(files.error(
            "its denoiser is a GGUF file, and of those FLUX.1's and Qwen-Image's transformers are run",
        ));
    }
    let backbone: Box<dyn Backbone> = match index.pipeline() {
        Some(sdxl::CLASS) => Box::new(sdxl::Sdxl::load(&files, &index, placement)?),
        Some(flux::CLASS) => Box::new(flux::Flux::load(&files, &index, placement)?),
        Some(qwen_image::CLASS) => {
            Box::new(qwen_image::QwenImage::load(&files, &index, placement)?)
        }
        Some(other) => {
            let supported: Vec<&str> = FAMILIES.iter().map(|(class, _)| *class).collect();
            return Err(files.error(format!(
                "its class {other} is not supported: {} are",
                supported.join(" and ")
            )));
        }
        None => return Err(files.error("model_index.json names no _class_name")),
    };
    if files.audit().is_none() {
        lora::check_all_merged(&files)?;
    }
    Ok(backbone)
}

/// What the model that `files` holds would take of memory; reads configurations and headers.
pub fn needs(files: ModelFiles, name: &str, placement: &Placement) -> Result<Needs> {
    let files = prepared(files, name)?;
    Needs::of(&files, &costs_of(&files, placement)?, placement)
}

/// [`needs`] of a published model that is not here, by its configurations and the sizes of its parts.
pub fn published_needs(
    configurations: Embedded,
    parts: &[PublishedPart],
    placement: &Placement,
) -> Result<Needs> {
    let files = ModelFiles::embedded(configurations);
    Ok(Needs::published(&costs_of(&files, placement)?, parts))
}

fn costs_of(files: &ModelFiles, placement: &Placement) -> Result<costs::Costs> {
    let index = index::PipelineIndex::read(files)?;
    match index.pipeline() {
        Some(sdxl::CLASS) => sdxl::costs::costs(files, &index, placement),
        Some(flux::CLASS) => flux::costs::costs(files, placement),
        Some(qwen_image::CLASS) => qwen_image::costs::costs(files, placement),
        other => Err(files.error(format!(
            "what a {} takes of memory is not known",
            other.unwrap_or("model without a class")
        ))),
    }
}

/// The files with what their own `foreseed.json` adds to them, called `name` in errors.
fn prepared(files: ModelFiles, name: &str) -> Result<ModelFiles> {
    let mut files = files.named(name);
    checkpoint::check(&files)?;
    let own = index::Defaults::read(&files)?;
    if let Some(denoiser) = own.denoiser.filter(|_| !files.has(gguf::PATH)) {
        files = files.with_own_denoiser(&denoiser)?;
    }
    for lora in own.loras {
        files = files.adapted_by_own(&lora.file, lora.weight)?;
    }
    Ok(files)
}

/// The classes of pipelines that are run, and the family that runs each.
const FAMILIES: [(&str, &str); 3] = [
    (sdxl::CLASS, "sdxl"),
    (flux::CLASS, "flux"),
    (qwen_image::CLASS, "qwen-image"),
];

/// The family that runs pipelines of this class, as `model_index.json` names it; `None` where this
/// version has none.
pub fn family_of(class: &str) -> Option<&'static str> {
    let found = FAMILIES.iter().find(|(known, _)| *known == class);
    found.map(|(_, family)| *family)
}

/// What a family's loader found out about a model from its files.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `sdxl`, `flux`, `qwen-image`.
    pub family: &'static str,
    /// SHA-256 over the configuration files and every tensor's bytes or, for large models, over
    /// the files' sizes and samples of them: a probe belongs to one fingerprint.
    pub fingerprint: String,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Pixels of the image to one latent, along each side.
    pub vae_scale: usize,
    /// Width and height must be multiples of this many pixels.
    pub size_multiple: usize,
    /// What the model is made for, where its files say so.
    pub default_width: usize,
    pub default_height: usize,
    pub default_steps: usize,
    pub default_guidance: f64,
    /// The scheduler's class and prediction type, e.g. `EulerDiscreteScheduler/v_prediction`.
    pub sampler: String,
    /// Every block that can be tapped, as diffusers names it, in forward order.
    pub tappable: Vec<String>,
    /// Those that the family taps when it is not told otherwise (the middle ones).
    pub default_tap: Vec<String>,
    /// The blocks out of `tappable` that [`Backbone::begin`] runs through; none where the denoiser
    /// is not run in halves.
    pub glimpsed: Vec<String>,
    /// Bytes of the weights as loaded.
    pub weight_bytes: u64,
}

impl Facts {
    /// Refuses a width or height that the model cannot draw.
    fn check_size(&self, width: usize, height: usize) -> Result<()> {
        for (field, value, default) in [
            ("width", width, self.default_width),
            ("height", height, self.default_height),
        ] {
            let multiple = self.size_multiple;
            if value == 0 || value % multiple != 0 {
                return Err(crate::Error::invalid(
                    field,
                    format!("{value} pixels do not fit this model"),
                    format!("Send a multiple of {multiple}, such as {default}"),
                ));
            }
        }
        Ok(())
    }
}

/// A text as the denoiser reads it.
#[derive(Clone, Debug)]
pub struct TextState {
    /// (1, tokens, dim)
    pub embeds: Tensor,
    /// (1, pooled dim), where the family has one.
    pub pooled: Option<Tensor>,
}

/// What the denoiser is conditioned on: a prompt and, with classifier-free guidance, its opposite.
#[derive(Clone, Debug)]
pub struct Conditioning {
    pub positive: TextState,
    /// `None`: no classifier-free guidance, one denoiser evaluation a step.
    pub negative: Option<TextState>,
}

/// A word of a prompt and the text keys (positions in [`TextState::embeds`]) that carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Bytes of the prompt.
    pub span: Range<usize>,
    pub tokens: Range<usize>,
}

/// What to read inside the denoiser while it runs. An empty tap costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapRequest {
    /// Attention blocks whose probabilities are kept: exact module paths out of [`Facts::tappable`].
    pub blocks: Vec<String>,
    /// Whether the activations after the middle block are kept as well.
    pub middle: bool,
}

impl TapRequest {
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && !self.middle
    }

    pub fn wants(&self, block: &str) -> bool {
        self.blocks.iter().any(|b| b == block)
    }

    /// What of it the first half of a model's denoiser runs through.
    pub fn of_glimpse(&self, facts: &Facts) -> Self {
        let seen = self.blocks.iter().filter(|b| facts.glimpsed.contains(b));
        Self {
            blocks: seen.cloned().collect(),
            middle: self.middle,
        }
    }

    /// What of it is left for the second half.
    pub fn after_glimpse(&self, facts: &Facts) -> Self {
        let unseen = self.blocks.iter().filter(|b| !facts.glimpsed.contains(b));
        Self {
            blocks: unseen.cloned().collect(),
            middle: false,
        }
    }
}

/// What was read: rows are the batch's, as the denoiser was called.
#[derive(Clone, Debug, Default)]
pub struct Tapped {
    /// Module path → (rows, heads, image queries, text keys), probabilities.
    pub maps: BTreeMap<String, Tensor>,
    /// (rows, channels, height, width)
    pub middle: Option<Tensor>,
}

/// What the first half of the denoiser leaves for the second.
#[derive(Clone, Debug)]
pub struct Half {
    /// Each with a row a latent, in an order that only the model knows.
    pub state: Vec<Tensor>,
}

/// One call of the denoiser: `rows` latents, each with its own text and time.
pub struct DenoiserInput<'a> {
    /// (rows, channels, height, width), already scaled by the sampler.
    pub latents: &'a Tensor,
    /// One a row, in the scheduler's own units.
    pub timesteps: &'a [f32],
    /// The strength of guidance, one a row: for denoisers that were distilled to be told it.
    pub guidance: &'a [f32],
    /// One a row; all of one token count.
    pub texts: &'a [&'a TextState],
    /// Pixels of the image to be.
    pub width: usize,
    pub height: usize,
}

/// A model: its weights on a device, ready to encode, step and decode.
pub trait Backbone: Send + Sync {
    fn facts(&self) -> &Facts;

    fn device(&self) -> &Device;

    fn dtype(&self) -> DType;

    /// Encodes the prompt and, where `guidance` asks for classifier-free guidance, what stands
    /// against it: the negative prompt, or what diffusers takes when there is none.
    fn encode(&self, prompt: &str, negative: Option<&str>, guidance: f64) -> Result<Conditioning>;

    /// The words of a prompt and the text keys that carry them, cut where the encoder cuts.
    fn words(&self, prompt: &str) -> Result<Vec<Word>>;

    /// The noise schedule of a run of `steps` at this size.
    fn schedule(&self, steps: usize, width: usize, height: usize) -> Result<Schedule>;

    /// One evaluation of the denoiser: its raw output (rows, channels, height, width) and what was
    /// tapped.
    fn denoise(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Tensor, Tapped)>;

    /// The first half of an evaluation: what it leaves, and what was tapped in it. The activations
    /// after the middle block are of this half.
    fn begin(&self, _: &DenoiserInput<'_>, _: &TapRequest) -> Result<(Half, Tapped)> {
        Err(no_halves(self.facts()))
    }

    /// The second half, for the very input that [`Backbone::begin`] was given, row by row: together
    /// they give, to the bit, what [`Backbone::denoise`] gives. Taps what is in this half alone.
    fn complete(
        &self,
        _: &Half,
        _: &DenoiserInput<'_>,
        _: &TapRequest,
    ) -> Result<(Tensor, Tapped)> {
        Err(no_halves(self.facts()))
    }

    /// What one evaluation of the denoiser takes of memory, where that is known.
    fn evaluation_cost(&self) -> Option<Cost> {
        None
    }

    /// What a step costs: 2 where classifier-free guidance runs the denoiser on both halves.
    fn evaluations_per_step(&self, _negative: Option<&str>, guidance: f64) -> u64 {
        if guidance > 1.0 { 2 } else { 1 }
    }

    /// Combines the two halves of classifier-free guidance, each (1, channels, height, width).
    fn guide(&self, negative: &Tensor, positive: &Tensor, guidance: f64) -> Result<Tensor> {
        Ok((negative + ((positive - negative)? * guidance)?)?)
    }

    /// Latents (1, channels, height, width) → an image (1, 3, height, width), RGB in 0–1.
    fn decode(&self, latents: &Tensor) -> Result<Tensor>;

    /// [`Backbone::decode`] for latents that are not finished: by a decoder that was distilled for
    /// previews where the model has one, which costs a small part of the VAE's time.
    fn preview(&self, latents: &Tensor) -> Result<Tensor> {
        self.decode(latents)
    }
}

fn no_halves(facts: &Facts) -> crate::Error {
    crate::Error::Internal(format!(
        "the {} denoiser is not run in halves",
        facts.family
    ))
}
