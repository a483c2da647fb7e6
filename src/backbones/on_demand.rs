//! Networks that are in memory only while they are used.

use std::fmt;

use candle_core::{DType, Device};

use super::audit::Audit;
use super::files::ModelFiles;
use super::placement::{Placement, Residence};
use super::weights::Weights;
use crate::Result;

/// A component's files, to be opened again.
#[derive(Clone, Debug)]
pub struct Source {
    pub files: ModelFiles,
    pub component: String,
    pub device: Device,
    pub dtype: DType,
}

impl Source {
    pub fn open(&self) -> Result<Weights> {
        Weights::open(&self.files, &self.component, &self.device, self.dtype)
    }
}

/// Puts a network together out of its weights, its layers kept or read one by one.
type Build<T> = Box<dyn Fn(&Weights, Residence) -> Result<T> + Send + Sync>;

/// A text encoder: in memory all the time, or only while it is used.
pub struct OnDemand<T> {
    /// The network or, where it is dropped between uses, one of the same shape that holds no numbers.
    shape: T,
    residence: Residence,
    source: Source,
    build: Build<T>,
    /// Bytes of its weights while they are in memory.
    pub weight_bytes: u64,
}

impl<T> OnDemand<T> {
    /// Whether all tensors are there and of the right shapes is known after this, whether or not
    /// they are read.
    pub fn load(
        files: &ModelFiles,
        component: &str,
        placement: &Placement,
        build: impl Fn(&Weights, Residence) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let source = Source {
            files: files.clone(),
            component: component.to_owned(),
            device: placement.device.clone(),
            dtype: placement.dtype,
        };
        let (shape, weight_bytes) = match placement.texts {
            Residence::Kept => {
                let weights = source.open()?;
                (build(&weights, Residence::Kept)?, weights.bytes())
            }
            Residence::Dropped => {
                // In bf16 nothing is packed for the CPU's kernels.
                let sketch = Source {
                    files: files.clone().audited(Audit::default()),
                    device: Device::Cpu,
                    dtype: DType::BF16,
                    ..source.clone()
                };
                let weights = sketch.open()?;
                let shape = build(&weights, Residence::Kept)?;
                let size = source.dtype.size_in_bytes() as u64;
                (shape, weights.bytes() / 2 * size)
            }
        };
        Ok(Self {
            shape,
            residence: placement.texts,
            source,
            build: Box::new(build),
            weight_bytes,
        })
    }

    /// For widths and the like; it may hold no numbers.
    pub fn shape(&self) -> &T {
        &self.shape
    }

    /// Calls `run` with the network, which is read first and dropped after it where it does not stay
    /// in memory.
    pub fn with<R>(&self, run: impl FnOnce(&T) -> Result<R>) -> Result<R> {
        match self.residence {
            Residence::Kept => run(&self.shape),
            Residence::Dropped => {
                let weights = self.source.open()?;
                run(&(self.build)(&weights, Residence::Dropped)?)
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnDemand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("shape", &self.shape)
            .field("residence", &self.residence)
            .finish_non_exhaustive()
    }
}

/// A network's layers, that run one after the other.
pub enum Layers<L> {
    Kept(Vec<L>),
    /// Each is read when its turn comes, and dropped after it.
    Read {
        source: Source,
        count: usize,
        load: Load<L>,
    },
}

/// Reads the layer with this index.
type Load<L> = Box<dyn Fn(&Weights, usize) -> Result<L> + Send + Sync>;

impl<L> Layers<L> {
    pub fn load(
        weights: &Weights,
        residence: Residence,
        count: usize,
        load: impl Fn(&Weights, usize) -> Result<L> + Send + Sync + 'static,
    ) -> Result<Self> {
        match residence {
            Residence::Kept => (0..count)
                .map(|i| load(weights, i))
                .collect::<Result<_>>()
                .map(Self::Kept),
            Residence::Dropped => Ok(Self::Read {
                source: weights.source(),
                count,
                load: Box::new(load),
            }),
        }
    }

    /// Calls `run` with each in turn.
    pub fn each(&self, mut run: impl FnMut(&L) -> Result<()>) -> Result<()> {
        match self {
            Self::Kept(layers) => layers.iter().try_for_each(run),
            Self::Read {
                source,
                count,
                load,
            } => {
                let weights = source.open()?;
                (0..*count).try_for_each(|i| run(&load(&weights, i)?))
            }
        }
    }
}

impl<L> fmt::Debug for Layers<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(layers) => write!(f, "{} layers", layers.len()),
            Self::Read { count, .. } => write!(f, "{count} layers, read one by one"),
        }
    }
}
