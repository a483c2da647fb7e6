//! What models are run on here, and what of them it holds.

use candle_core::{DType, Device};

use crate::backbones::{self, Backbone, ModelFiles, Needs, Part, Placement, Residence};
use crate::device::{self, DeviceChoice, Memory};
use crate::{Error, Result};

/// Models whose weights take less than this in f32 are computed in it on every device.
const SMALL: u64 = 1 << 30;
/// Text encoders of less than this are kept whatever else there is.
const SMALL_TEXTS: u64 = 512 << 20;
/// Of the free memory, what is planned with: the rest is for what no estimate sees.
const PLANNED: f64 = 0.9;

/// A device and how models are put onto it.
#[derive(Clone, Debug)]
pub struct Machine {
    pub device: Device,
    /// What weights are computed in, where somebody said.
    dtype: Option<DType>,
    /// Sides of the tiles that pictures are decoded in, where somebody said.
    tile: Option<usize>,
    /// Whether what does not fit is loaded all the same.
    daring: bool,
    /// At start: a model that is loaded since then still fits.
    memory: Option<Memory>,
}

impl Machine {
    pub fn open(
        choice: DeviceChoice,
        dtype: Option<DType>,
        tile: Option<usize>,
        daring: bool,
    ) -> Result<Self> {
        let device = choice.open()?;
        Ok(Self {
            memory: device::memory(&device),
            device,
            dtype,
            tile,
            daring,
        })
    }

    /// The same machine, whose weights are computed in `dtype`.
    pub fn computing_in(self, dtype: DType) -> Self {
        Self {
            dtype: Some(dtype),
            ..self
        }
    }

    /// Loads the model in `files`: seconds to minutes. Its text encoders stay where memory holds them
    /// beside the rest.
    ///
    /// # Errors
    /// A model that the free memory does not hold, before anything of it is read.
    pub fn load(&self, files: ModelFiles, name: &str) -> Result<Box<dyn Backbone>> {
        let mut placement = self.placement(u64::MAX / 8);
        // What is wrong with a model's files is told when they are loaded.
        let needs = |placement: &Placement| backbones::needs(files.clone(), name, placement).ok();
        if let Some(at_first) = needs(&placement) {
            let bytes = at_first.resident_bytes() + at_first.texts_weight_bytes();
            placement = self.placement(bytes / placement.dtype.size_in_bytes() as u64);
        }
        if let Some(needs) = needs(&placement) {
            placement = self.settled(name, &needs, placement)?;
        }
        backbones::load_at(files, name, &placement)
    }

    /// Whether so many bytes were free at start; yes where the platform does not say how many were.
    pub fn fits(&self, bytes: u64) -> bool {
        self.memory.is_none_or(|memory| bytes <= memory.free)
    }

    /// How a model of so many weights is computed.
    pub fn placement(&self, parameters: u64) -> Placement {
        let small = parameters * 4 < SMALL;
        let dtype = self.dtype.unwrap_or(match small {
            true => DType::F32,
            false => device::default_precision(&self.device),
        });
        Placement {
            tile: self.tile,
            ..Placement::new(&self.device, dtype)
        }
    }

    /// The same placement, with the text encoders where memory holds them.
    ///
    /// # Errors
    /// Not even the least that the model needs is free.
    fn settled(&self, name: &str, needs: &Needs, placement: Placement) -> Result<Placement> {
        let memory = device::memory(&self.device);
        if let Some(memory) = memory
            && needs.least() > memory.free
        {
            let refusal = device::short_of(
                &self.device,
                &format!("{name} ({})", said(needs)),
                needs.least(),
                memory.free,
            );
            match (self.daring, refusal) {
                (true, refusal) => tracing::warn!("{refusal}; loaded all the same"),
                (false, Error::OutOfMemory(text)) => {
                    let more = "; --no-memory-check loads it all the same";
                    return Err(Error::OutOfMemory(text + more));
                }
                (false, other) => return Err(other),
            }
        }
        let room = |memory: Memory| (needs.whole() as f64) < PLANNED * memory.free as f64;
        let kept = needs.texts_weight_bytes() < SMALL_TEXTS || memory.is_some_and(room);
        Ok(Placement {
            texts: match kept {
                true => Residence::Kept,
                false => Residence::Dropped,
            },
            ..placement
        })
    }
}

/// What a model needs, part by part.
pub fn said(needs: &Needs) -> String {
    let size = |bytes: u64| match bytes {
        0..1_000_000_000 => format!("{:.0} MB", (bytes as f64 / 1e6).ceil()),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    };
    let part = |part: &Part| format!("{} {}", part.component, size(part.bytes));
    let parts: Vec<String> = needs.weights.iter().map(part).collect();
    format!(
        "{} (where memory is short, {} of the text encoders at a time); a step at {}×{} {}, decoding {} or, \
         in tiles, {}; an evaluation is {:.1} TFLOP",
        parts.join(", "),
        size(needs.text_bytes),
        needs.width,
        needs.height,
        size(needs.step_bytes),
        size(needs.decode_bytes),
        size(needs.tiled_decode_bytes),
        needs.evaluation_tflop
    )
}
