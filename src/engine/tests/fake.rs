//! A backbone that is quick and does as it is told.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use candle_core::{DType, Device, Tensor};

use super::super::{Engine, Event, Limits, Running, Work};
use crate::backbones::{
    Backbone, Conditioning, DenoiserInput, Facts, Half, TapRequest, Tapped, TextState, Word,
};
use crate::candidate::{Candidate, Seed, Settings};
use crate::sampling::{Observation, Prediction, Schedule, Solver};
use crate::{Error, Result};

pub const BLOCK: &str = "mid";

/// A prompt of this many letters panics in the denoiser, one more fails there, and one more in the
/// text encoder.
pub const PANICS: usize = 101;
pub const FAILS: usize = 102;
pub const UNREADABLE: usize = 103;

pub struct Fake {
    facts: Facts,
    pub watch: Arc<Watch>,
}

/// What the denoiser was asked for, and a gate that holds it up.
#[derive(Default)]
pub struct Watch {
    /// The length of the text of every evaluation, in order: 0 for the negative halves.
    evaluations: Mutex<Vec<usize>>,
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Watch {
    pub fn evaluations(&self) -> Vec<usize> {
        self.evaluations.lock().unwrap().clone()
    }

    pub fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    pub fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.changed.notify_all();
    }

    /// Until the denoiser has begun with so many evaluations.
    pub fn wait_for(&self, count: usize) {
        while self.evaluations().len() < count {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn pass(&self, prompt: usize) {
        self.evaluations.lock().unwrap().push(prompt);
        let mut closed = self.closed.lock().unwrap();
        while *closed {
            closed = self.changed.wait(closed).unwrap();
        }
    }
}

impl Fake {
    pub fn new(watch: Arc<Watch>) -> Self {
        let facts = Facts {
            family: "fake",
            fingerprint: "fake weights".into(),
            latent_channels: 4,
            vae_scale: 8,
            size_multiple: 8,
            default_width: 32,
            default_height: 32,
            default_steps: 10,
            default_guidance: 5.0,
            sampler: "fake".into(),
            tappable: vec![BLOCK.into(), "other".into()],
            default_tap: vec![BLOCK.into()],
            glimpsed: vec![BLOCK.into()],
            weight_bytes: 0,
        };
        Self { facts, watch }
    }
}

impl Backbone for Fake {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn encode(&self, prompt: &str, negative: Option<&str>, guidance: f64) -> Result<Conditioning> {
        if prompt.len() == UNREADABLE {
            return Err(Error::invalid("prompt", "unreadable", "Send another"));
        }
        let state = |text: &str| -> Result<TextState> {
            Ok(TextState {
                embeds: Tensor::full(text.len() as f32, (1, 7, 2), &Device::Cpu)?,
                pooled: None,
            })
        };
        let opposite = (guidance > 1.0).then(|| state(negative.unwrap_or_default()));
        Ok(Conditioning {
            positive: state(prompt)?,
            negative: opposite.transpose()?,
        })
    }

    fn words(&self, _: &str) -> Result<Vec<Word>> {
        Ok(Vec::new())
    }

    fn schedule(&self, steps: usize, _: usize, _: usize) -> Result<Schedule> {
        let sigma = |i: usize| 10.0 * (steps - i) as f32 / steps as f32;
        Ok(Schedule {
            timesteps: (0..steps).map(sigma).collect(),
            sigmas: (0..=steps).map(sigma).collect(),
            init_noise_sigma: 10.0,
            prediction: Prediction::Epsilon,
            solver: Solver::Euler,
        })
    }

    fn denoise(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Tensor, Tapped)> {
        let (half, mut tapped) = self.begin(input, tap)?;
        let (output, rest) = self.complete(&half, input, tap)?;
        tapped.maps.extend(rest.maps);
        Ok((output, tapped))
    }

    fn begin(&self, input: &DenoiserInput<'_>, tap: &TapRequest) -> Result<(Half, Tapped)> {
        let (mut halves, mut maps) = (Vec::new(), Vec::new());
        for (row, text) in input.texts.iter().enumerate() {
            let length = text.embeds.mean_all()?.to_scalar::<f32>()? as usize;
            self.watch.pass(length);
            match length {
                PANICS => panic!("the denoiser was told to panic"),
                FAILS => return Err(Error::OutOfMemory("the denoiser was told to fail".into())),
                _ => {}
            }
            let latents = input.latents.narrow(0, row, 1)?;
            halves.push((&latents * 0.7)?.sin()?);
            maps.push(latents.mean_all()?.reshape((1, 1, 1, 1))?);
        }
        let state = vec![Tensor::cat(&halves, 0)?];
        let map = Tensor::cat(&maps, 0)?;
        let blocks = tap.blocks.iter().filter(|b| *b == BLOCK);
        let tapped = Tapped {
            maps: blocks.map(|b| (b.clone(), map.clone())).collect(),
            middle: tap.middle.then(|| state[0].clone()),
        };
        Ok((Half { state }, tapped))
    }

    fn complete(
        &self,
        half: &Half,
        input: &DenoiserInput<'_>,
        tap: &TapRequest,
    ) -> Result<(Tensor, Tapped)> {
        let (mut outputs, mut maps) = (Vec::new(), Vec::new());
        for (row, (text, time)) in input.texts.iter().zip(input.timesteps).enumerate() {
            let length = text.embeds.mean_all()?.to_scalar::<f32>()?;
            let shift = f64::from(*time) * 0.01 + f64::from(length) * 0.1;
            let row = half.state[0].narrow(0, row, 1)?;
            maps.push(row.mean_all()?.reshape((1, 1, 1, 1))?);
            outputs.push((row + shift)?);
        }
        let map = Tensor::cat(&maps, 0)?;
        let blocks = tap.blocks.iter().filter(|b| *b != BLOCK);
        let tapped = Tapped {
            maps: blocks.map(|b| (b.clone(), map.clone())).collect(),
            middle: None,
        };
        Ok((Tensor::cat(&outputs, 0)?, tapped))
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let picture = ((latents.narrow(1, 0, 3)?.sin()? + 1.0)? * 0.5)?;
        Ok(picture)
    }
}

/// An engine over a fake model, and what its denoiser is asked for.
pub fn engine(limits: Limits) -> (Engine, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    let fake: Arc<dyn Backbone> = Arc::new(Fake::new(Arc::clone(&watch)));
    let loader = move |name: &str| match name {
        "fake" => Ok(Arc::clone(&fake)),
        "bomb" => panic!("the weights were told to panic"),
        _ => Err(Error::model(name, "there is no such model")),
    };
    let engine = Engine::start_with(Box::new(loader), limits).unwrap();
    (engine, watch)
}

pub const STEPS: usize = 10;

pub fn candidate(prompt: &str, seed: u32) -> Candidate {
    Candidate {
        prompt: prompt.into(),
        seed: Seed(seed),
        settings: Settings {
            model: "fake".into(),
            negative_prompt: None,
            steps: STEPS,
            guidance: 5.0,
            width: 32,
            height: 24,
        },
    }
}

/// Seeds 0, 1, … of a prompt, brought to `to_step` and observed at `observe_at`.
pub fn work(prompt: &str, seeds: u32, to_step: usize, observe_at: &[usize]) -> Work {
    Work {
        candidates: (0..seeds).map(|seed| candidate(prompt, seed)).collect(),
        to_step,
        observe_at: observe_at.to_vec(),
        tap: TapRequest {
            blocks: vec![BLOCK.into()],
            middle: false,
        },
        glimpse: false,
        picture: false,
        purse: None,
    }
}

pub fn render(prompt: &str, seed: u32) -> Work {
    Work {
        candidates: vec![candidate(prompt, seed)],
        picture: true,
        ..work(prompt, 1, STEPS, &[])
    }
}

/// All that was told of some work.
#[derive(Default)]
pub struct Told {
    pub events: Vec<Event>,
    pub error: Option<Error>,
}

impl Told {
    pub fn of(mut running: Running) -> Self {
        let mut told = Self::default();
        while let Some(event) = running.events.blocking_recv() {
            match event {
                Ok(event) => told.events.push(event),
                Err(error) => told.error = Some(error),
            }
        }
        told
    }

    pub fn evaluations(&self) -> usize {
        let paid = |event: &Event| match event {
            Event::Stepped { evaluations, .. } | Event::Glimpsed { evaluations, .. } => {
                *evaluations as usize
            }
            _ => 0,
        };
        self.events.iter().map(paid).sum()
    }

    /// (index, steps done, x0) of every observation.
    pub fn observations(&self) -> Vec<(usize, usize, Vec<f32>)> {
        let seen = |event: &Event| match event {
            Event::Observed { index, observation } => {
                let Observation { steps_done, x0, .. } = observation.as_ref();
                let x0 = x0.flatten_all().unwrap().to_vec1().unwrap();
                Some((*index, *steps_done, x0))
            }
            _ => None,
        };
        self.events.iter().filter_map(seen).collect()
    }

    /// (index, steps done) of every glimpse.
    pub fn glimpses(&self) -> Vec<(usize, usize)> {
        let seen = |event: &Event| match event {
            Event::Glimpsed {
                index, observation, ..
            } => {
                assert!(observation.glimpse && observation.maps.contains_key(BLOCK));
                Some((*index, observation.steps_done))
            }
            _ => None,
        };
        self.events.iter().filter_map(seen).collect()
    }

    /// The only picture, and the step it was resumed from.
    pub fn picture(&self) -> (Vec<u8>, usize) {
        let pictures = self.events.iter().filter_map(|event| match event {
            Event::Picture {
                picture,
                resumed_from_step,
                ..
            } => Some((picture.as_raw().clone(), *resumed_from_step)),
            _ => None,
        });
        let pictures: Vec<_> = pictures.collect();
        assert_eq!(pictures.len(), 1, "{:?}", self.error);
        pictures[0].clone()
    }
}

/// Does some work to its end.
pub fn told(engine: &Engine, work: Work) -> Told {
    Told::of(engine.submit(work).unwrap())
}
