//! The tensors of one component of a model, read from its safetensors or GGUF files.

mod shards;
mod stored;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};

pub use self::shards::{Shard, weight_paths};
use self::stored::{Entry, Opened, Stored};
pub use self::stored::{Part, Share};
use super::audit::ComponentAudit;
use super::checkpoint;
use super::files::ModelFiles;
use super::gguf::{self, Gguf};
use super::lora::Merges;
use super::on_demand::Source;
use crate::Result;

/// A component's tensors by name. Which of them were taken is remembered, so that
/// [`Weights::finish`] can tell what was left over.
pub struct Weights {
    files: ModelFiles,
    component: String,
    device: Device,
    dtype: DType,
    shards: Vec<RefCell<Opened>>,
    index: BTreeMap<String, Entry>,
    /// What is added to some of them.
    merges: Merges,
    taken: RefCell<BTreeSet<String>>,
    bytes: Cell<u64>,
}

/// A matrix of a linear layer, (out, in).
pub enum Matrix {
    Plain(Tensor),
    /// Kept as it is stored, in blocks of few bits a number.
    Quantized(Arc<QTensor>),
}

impl Weights {
    /// Opens a component's files and reads their headers; tensors are read when they are asked for,
    /// as `dtype`, onto `device`.
    pub fn open(
        files: &ModelFiles,
        component: &str,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let mut shards = Vec::new();
        let mut index = BTreeMap::new();
        for path in weight_paths(files, component)? {
            if path.ends_with(".json") {
                continue;
            }
            let reader = files.open(&path)?;
            if path == gguf::PATH {
                let (gguf, tensors) = Gguf::open(files.name(), reader)?;
                let layout = gguf::Layout::of(tensors.iter().map(|(name, _)| name.as_str()));
                for (stored, info) in tensors {
                    for (name, part) in layout.translated(&stored) {
                        let stored = Stored::Gguf(info.clone());
                        let shard = shards.len();
                        index.insert(
                            name,
                            Entry {
                                shard,
                                stored,
                                part,
                            },
                        );
                    }
                }
                shards.push(RefCell::new(Opened::Gguf(gguf)));
                continue;
            }
            let (shard, header) = Shard::open(files.name(), path, reader)?;
            let at = shards.len();
            let mut insert = |name, info, part| {
                let entry = Entry {
                    shard: at,
                    stored: Stored::Plain(info),
                    part,
                };
                index.insert(name, entry);
            };
            match shard.path() == checkpoint::PATH {
                false => header
                    .tensors
                    .into_iter()
                    .for_each(|(name, info)| insert(name, info, Part::Whole)),
                true => {
                    let names = checkpoint::Names::of(files, component)?;
                    for (stored, info) in header.tensors {
                        for (name, part) in names.translated(&stored) {
                            insert(name, info.clone(), part);
                        }
                    }
                }
            }
            shards.push(RefCell::new(Opened::Safetensors(shard)));
        }
        let merges = Merges::of(files, component, index.keys())?;
        Ok(Self {
            files: files.clone(),
            component: component.into(),
            device: device.clone(),
            dtype,
            shards,
            index,
            merges,
            taken: RefCell::default(),
            bytes: Cell::new(0),
        })
    }

    /// All of the tensors, or those under `prefix` where the file puts them there: published files
    /// and newer libraries differ in such prefixes.
    pub fn root(&self, prefix: &str) -> Scope<'_> {
        let prefixed = !prefix.is_empty() && self.has_under(prefix);
        Scope {
            weights: self,
            prefix: match prefixed {
                true => format!("{prefix}."),
                false => String::new(),
            },
        }
    }

    /// Whether there are tensors under `prefix`.
    pub fn has_under(&self, prefix: &str) -> bool {
        let dotted = format!("{prefix}.");
        self.index.keys().any(|name| name.starts_with(&dotted))
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What opens the same tensors again.
    pub fn source(&self) -> Source {
        Source {
            files: self.files.clone(),
            component: self.component.clone(),
            device: self.device.clone(),
            dtype: self.dtype,
        }
    }

    /// Every tensor's name and the bytes that it takes once it is loaded.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.index.iter().map(|(name, entry)| {
            let numbers = count(&entry.shape());
            let bytes = match &entry.stored {
                Stored::Gguf(info) if info.is_quantized() && !self.merges.change(name) => {
                    let blocks = numbers / info.dtype.block_size() as u64;
                    blocks.saturating_mul(info.dtype.type_size() as u64)
                }
                _ => numbers.saturating_mul(self.dtype.size_in_bytes() as u64),
            };
            (name.as_str(), bytes)
        })
    }

    /// Bytes of the tensors taken so far, as loaded.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Warns of tensors that nothing asked for, unless their names begin with, or end in, something
    /// on the allow-list of (beginning or ending, reason).
    pub fn finish(&self, allowed: &[(&str, &'static str)]) {
        let taken = self.taken.borrow();
        let left = self.index.keys().filter(|name| !taken.contains(*name));
        let left: Vec<(String, Option<&'static str>)> = left
            .map(|name| {
                let reason = allowed
                    .iter()
                    .find(|(part, _)| name.starts_with(part) || name.ends_with(part));
                (name.clone(), reason.map(|(_, reason)| *reason))
            })
            .collect();
        let unexplained: Vec<&String> = left
            .iter()
            .filter(|(_, reason)| reason.is_none())
            .map(|(name, _)| name)
            .collect();
        if let Some(first) = unexplained.first() {
            tracing::warn!(
                "model {}: {} tensors of {}/ were not used, the first is {first}",
                self.files.name(),
                unexplained.len(),
                self.component,
            );
        }
        if let Some(audit) = self.files.audit() {
            audit.add(ComponentAudit {
                component: self.component.clone(),
                taken: taken.iter().cloned().collect(),
                left,
            });
        }
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(entry) = self.index.get(name) else {
            return Err(self.files.error(format!(
                "the tensor {name} is missing in {}/ ({})",
                self.component,
                self.paths()
            )));
        };
        let shard = self.shards[entry.shard].borrow();
        let have = entry.shape();
        if have != shape {
            return Err(self.files.error(format!(
                "the tensor {name} in {} has the shape {have:?}, but the configuration asks for \
                 {shape:?}",
                shard.path()
            )));
        }
        drop(shard);
        self.taken.borrow_mut().insert(name.into());
        let bytes = count(shape).saturating_mul(self.dtype.size_in_bytes() as u64);
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        if self.files.audit().is_some() {
            self.merges.mark(name);
            // One number stands for all: a model of any size is put together in little memory.
            let zero = Tensor::zeros((), self.dtype, &self.device)?;
            return Ok(zero.broadcast_as(shape)?);
        }
        let mut shard = self.shards[entry.shard].borrow_mut();
        let mut read = |share: Share| shard.tensor(name, &entry.stored, share);
        let tensor = match entry.part {
            Part::Whole => read(Share::WHOLE)?,
            Part::Rows(share) => read(share)?,
            Part::HalvesSwapped => {
                Tensor::cat(&[read(Share::nth(1, 2))?, read(Share::nth(0, 2))?], 0)?
            }
            Part::Transposed => read(Share::WHOLE)?.t()?.contiguous()?,
        };
        let tensor = self.merges.add_to(name, tensor)?;
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// A matrix, quantized where the file has it so and nothing is added to it.
    fn matrix(&self, name: &str, shape: &[usize]) -> Result<Matrix> {
        let entry = self.index.get(name);
        let share = entry.and_then(|entry| match entry.part {
            Part::Whole => Some(Share::WHOLE),
            Part::Rows(share) => Some(share),
            _ => None,
        });
        if let Some(entry) = entry
            && let Some(share) = share
            && let Stored::Gguf(info) = &entry.stored
            && info.is_quantized()
            && entry.shape() == shape
            && !self.merges.change(name)
            && let Opened::Gguf(gguf) = &mut *self.shards[entry.shard].borrow_mut()
        {
            let matrix = gguf.tensor(name, info, share, &self.device)?;
            self.taken.borrow_mut().insert(name.into());
            self.bytes
                .set(self.bytes.get() + matrix.storage_size_in_bytes() as u64);
            return Ok(Matrix::Quantized(matrix));
        }
        self.tensor(name, shape).map(Matrix::Plain)
    }

    fn paths(&self) -> String {
        let paths: Vec<String> = self
            .shards
            .iter()
            .map(|s| s.borrow().path().to_owned())
            .collect();
        paths.join(", ")
    }
}

/// Numbers in a tensor of this shape; a damaged file may claim more than can be counted.
fn count(shape: &[usize]) -> u64 {
    let product = |count: u64, length: &usize| count.saturating_mul(*length as u64);
    shape.iter().fold(1, product)
}

/// A place in the tree of a component's tensor names.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// One level down: `scope.at("resnets").at(0)`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self {
            weights: self.weights,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// The tensor `name` here, which must have this shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights
            .tensor(&format!("{}{name}", self.prefix), shape)
    }

    /// The matrix `name` here, which must have this shape.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<Matrix> {
        self.weights
            .matrix(&format!("{}{name}", self.prefix), shape)
    }

    pub fn has(&self, name: &str) -> bool {
        self.weights
            .index
            .contains_key(&format!("{}{name}", self.prefix))
    }

    /// Dimensions of the tensor `name`, if it is there.
    pub fn rank(&self, name: &str) -> Option<usize> {
        let name = format!("{}{name}", self.prefix);
        self.weights
            .index
            .get(&name)
            .map(|entry| entry.stored.shape().len())
    }

    /// The shape of the tensor `name`, if it is there: files without a configuration say by it how
    /// large a network is.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let name = format!("{}{name}", self.prefix);
        Some(self.weights.index.get(&name)?.stored.shape())
    }

    /// Zeros as the component's tensors are, where its files need hold none.
    pub fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::zeros(
            shape,
            self.weights.dtype,
            &self.weights.device,
        )?)
    }

    /// The module path, as diffusers writes it.
    pub fn path(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }
}
