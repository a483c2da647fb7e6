//! A candidate's denoising, paused between two steps.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::noise::step_noise;
use super::{Schedule, standard_normal};
use crate::backbones::{Backbone, Conditioning, Facts, Half, TapRequest, Tapped};
use crate::candidate::{Candidate, Seed, Settings};
use crate::{Error, Result, device};

/// The conditional half of a step, done as far as the middle.
#[derive(Clone, Debug)]
pub(super) struct Glimpsed {
    pub half: Half,
    pub tapped: Tapped,
}

/// Where the noise comes from that some samplers add in every step.
#[derive(Clone, Debug)]
pub enum Fresh {
    /// Drawn for the seed and the step, the same on every machine.
    Seed(Seed),
    /// Given by step, each of the latents' shape.
    Given(Arc<Vec<Tensor>>),
}

/// All that is needed to go on with a denoising: going on after a pause gives, to the bit, what
/// running straight through gives.
#[derive(Clone, Debug)]
pub struct Trajectory {
    /// (1, channels, height, width), f32, on the backbone's device.
    latents: Tensor,
    /// The finished latents as the last step predicted them, and the one before it.
    x0: Option<Tensor>,
    previous_x0: Option<Tensor>,
    /// Of the next step, where it was glimpsed.
    half: Option<Glimpsed>,
    steps_done: usize,
    schedule: Arc<Schedule>,
    conditioning: Arc<Conditioning>,
    fresh: Fresh,
    guidance: f64,
    width: usize,
    height: usize,
}

impl Trajectory {
    /// A candidate before its first step.
    pub fn start(backbone: &dyn Backbone, candidate: &Candidate) -> Result<Self> {
        let settings = &candidate.settings;
        let conditioning = backbone.encode(
            &candidate.prompt,
            settings.negative_prompt.as_deref(),
            settings.guidance,
        )?;
        Self::start_encoded(backbone, Arc::new(conditioning), candidate.seed, settings)
    }

    /// [`Trajectory::start`] with a prompt that was encoded before, for the same settings:
    /// candidates of one prompt can share it.
    pub fn start_encoded(
        backbone: &dyn Backbone,
        conditioning: Arc<Conditioning>,
        seed: Seed,
        settings: &Settings,
    ) -> Result<Self> {
        let shape = latent_shape(backbone, settings.width, settings.height);
        let noise = standard_normal(seed, &shape)?;
        let fresh = Fresh::Seed(seed);
        Self::start_from_noise(backbone, conditioning, (&noise, fresh), settings)
    }

    /// From given noise: standard normal (1, channels, height, width) on the latents' grid, before
    /// the sampler scales it. `fresh` is what samplers take that add noise in every step.
    pub fn start_from_noise(
        backbone: &dyn Backbone,
        conditioning: Arc<Conditioning>,
        (noise, fresh): (&Tensor, Fresh),
        settings: &Settings,
    ) -> Result<Self> {
        let schedule = backbone.schedule(settings.steps, settings.width, settings.height)?;
        let shape = latent_shape(backbone, settings.width, settings.height);
        if noise.dims() != shape {
            return Err(Error::invalid(
                "latents",
                format!("they have the shape {:?}", noise.dims()),
                format!(
                    "A picture of {}×{} pixels starts from {shape:?}",
                    settings.width, settings.height
                ),
            ));
        }
        check_room(backbone, settings)?;
        let noise = noise.to_dtype(DType::F32)?.to_device(backbone.device())?;
        Ok(Self {
            latents: (noise * f64::from(schedule.init_noise_sigma))?,
            x0: None,
            previous_x0: None,
            half: None,
            steps_done: 0,
            schedule: Arc::new(schedule),
            conditioning,
            fresh,
            guidance: settings.guidance,
            width: settings.width,
            height: settings.height,
        })
    }

    /// (1, channels, height, width), f32.
    pub fn latents(&self) -> &Tensor {
        &self.latents
    }

    /// The finished latents as the last step predicted them, of the latents' shape; `None` before
    /// the first.
    pub fn x0(&self) -> Option<&Tensor> {
        self.x0.as_ref()
    }

    /// [`Trajectory::x0`] of the step before.
    pub fn previous_x0(&self) -> Option<&Tensor> {
        self.previous_x0.as_ref()
    }

    pub fn steps_done(&self) -> usize {
        self.steps_done
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> usize {
        self.schedule.timesteps.len()
    }

    pub fn is_done(&self) -> bool {
        self.steps_done >= self.steps()
    }

    pub fn conditioning(&self) -> &Conditioning {
        &self.conditioning
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    /// Denoiser evaluations of one step: 2 with classifier-free guidance.
    pub fn evaluations_a_step(&self) -> u64 {
        1 + u64::from(self.conditioning.negative.is_some())
    }

    /// Denoiser evaluations that the next step takes, observed with `tap`: one less where a glimpse
    /// of it is kept that holds what `tap` asks of that half.
    pub fn evaluations_left_in_step(&self, facts: &Facts, tap: &TapRequest) -> u64 {
        self.evaluations_a_step() - u64::from(self.half_for(facts, tap).is_some())
    }

    /// What a glimpse left, if it can stand for the first half of a step observed with `tap`.
    pub(super) fn half_for(&self, facts: &Facts, tap: &TapRequest) -> Option<&Glimpsed> {
        let tap = tap.of_glimpse(facts);
        self.half.as_ref().filter(|glimpsed| {
            let tapped = &glimpsed.tapped;
            tap.blocks.iter().all(|b| tapped.maps.contains_key(b))
                && (tapped.middle.is_some() || !tap.middle)
        })
    }

    pub(super) fn keep_half(&mut self, half: Glimpsed) {
        self.half = Some(half);
    }

    /// Lets go of what a glimpse left: the step is then done from its beginning.
    pub fn forget_half(&mut self) {
        self.half = None;
    }

    /// Bytes of what a glimpse left; 0 where there is none.
    pub fn half_bytes(&self) -> u64 {
        self.half.as_ref().map_or(0, |glimpsed| {
            let tapped = glimpsed.tapped.maps.values().chain(&glimpsed.tapped.middle);
            glimpsed.half.state.iter().chain(tapped).map(bytes).sum()
        })
    }

    /// Bytes of its tensors; a conditioning shared with others counts in full.
    pub fn bytes(&self) -> u64 {
        let text = &self.conditioning;
        let states = std::iter::once(&text.positive).chain(&text.negative);
        let tensors = states.flat_map(|s| std::iter::once(&s.embeds).chain(&s.pooled));
        let own = [Some(&self.latents), self.x0(), self.previous_x0()];
        let tensors = tensors.chain(own.into_iter().flatten());
        tensors.map(bytes).sum::<u64>() + self.half_bytes()
    }

    /// The strength of guidance, as it was asked for.
    pub(super) fn guidance(&self) -> f64 {
        self.guidance
    }

    /// What the denoiser is told the time is.
    pub(super) fn timestep(&self) -> f32 {
        self.schedule.timesteps[self.steps_done]
    }

    /// The latents as the denoiser takes them.
    pub(super) fn denoiser_input(&self) -> Result<Tensor> {
        self.schedule.denoiser_input(&self.latents, self.steps_done)
    }

    /// Combines the halves of classifier-free guidance where there are two.
    pub(super) fn guided(
        &self,
        backbone: &dyn Backbone,
        positive: Tensor,
        negative: Option<Tensor>,
    ) -> Result<Tensor> {
        match negative {
            Some(negative) => backbone.guide(&negative, &positive, self.guidance),
            None => Ok(positive),
        }
    }

    /// The sampler's step by the denoiser's guided output, f32.
    pub(super) fn advance(&mut self, output: &Tensor) -> Result<()> {
        let step = self.steps_done;
        let data = self.schedule.data(&self.latents, output, step)?;
        let seen = (&data, self.x0.as_ref());
        let noise = || self.step_noise(step);
        self.latents = self
            .schedule
            .next(&self.latents, output, seen, step, noise)?;
        self.steps_done += 1;
        self.previous_x0 = self.x0.replace(data);
        self.half = None;
        Ok(())
    }

    fn step_noise(&self, step: usize) -> Result<Tensor> {
        let noise = match &self.fresh {
            Fresh::Seed(seed) => step_noise(*seed, step, self.latents.dims())?,
            Fresh::Given(noise) => noise
                .get(step)
                .filter(|noise| noise.dims() == self.latents.dims())
                .cloned()
                .ok_or_else(|| {
                    Error::invalid(
                        "latents",
                        format!(
                            "there is no noise for the step {step}, to which the sampler adds some"
                        ),
                        format!("Send noise.{step} as well, of the shape of latents"),
                    )
                })?,
        };
        Ok(noise
            .to_dtype(DType::F32)?
            .to_device(self.latents.device())?)
    }
}

/// Refuses a size of which the device does not hold an evaluation.
fn check_room(backbone: &dyn Backbone, settings: &Settings) -> Result<()> {
    let (width, height) = (settings.width, settings.height);
    match backbone
        .evaluation_cost()
        .map(|cost| cost.bytes(width, height))
    {
        Some(bytes) if bytes > device::LITTLE => {
            let doing = format!("a step at {width}×{height} pixels");
            device::check_room(backbone.device(), &doing, bytes)
        }
        _ => Ok(()),
    }
}

fn bytes(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}

fn latent_shape(backbone: &dyn Backbone, width: usize, height: usize) -> [usize; 4] {
    let facts = backbone.facts();
    [
        1,
        facts.latent_channels,
        height / facts.vae_scale,
        width / facts.vae_scale,
    ]
}
