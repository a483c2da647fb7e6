//! Where a tensor lies in a component's files, and what it is of the one that is stored there.

use candle_core::{Device, Tensor};
use safetensors::tensor::TensorInfo;

use super::Shard;
use crate::backbones::gguf::{self, Gguf};
use crate::{Error, Result};

/// A file of a component.
pub enum Opened {
    Safetensors(Shard),
    Gguf(Gguf),
}

/// Where a tensor lies.
pub struct Entry {
    /// Which of the files.
    pub shard: usize,
    pub stored: Stored,
    pub part: Part,
}

/// A tensor as its file has it.
pub enum Stored {
    Plain(TensorInfo),
    Gguf(gguf::Info),
}

/// Of a tensor's rows those from `from` to `to`, counted in `of`-ths of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub from: usize,
    pub to: usize,
    pub of: usize,
}

impl Share {
    pub const WHOLE: Self = Self::nth(0, 1);

    /// One of `of` equal parts.
    pub const fn nth(index: usize, of: usize) -> Self {
        Self {
            from: index,
            to: index + 1,
            of,
        }
    }

    /// The first row and the one after the last, of so many.
    pub fn of(self, rows: usize) -> (usize, usize) {
        // A tensor without numbers may claim any count of rows.
        let at = |part: usize| (rows as u128 * part as u128 / self.of as u128) as usize;
        (at(self.from), at(self.to))
    }
}

/// What a tensor is of the one that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Rows(Share),
    /// The second half of the rows, then the first.
    HalvesSwapped,
    /// A matrix whose rows are stored as columns.
    Transposed,
}

impl Entry {
    /// The tensor's shape, of whatever the stored one has.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.stored.shape().to_vec();
        match self.part {
            Part::Whole | Part::HalvesSwapped => {}
            Part::Rows(share) => {
                if let Some(rows) = shape.first_mut() {
                    let (from, to) = share.of(*rows);
                    *rows = to - from;
                }
            }
            Part::Transposed => shape.reverse(),
        }
        shape
    }
}

impl Stored {
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Plain(info) => &info.shape,
            Self::Gguf(info) => &info.shape,
        }
    }
}

impl Opened {
    /// A share of a tensor's rows, on the CPU.
    pub fn tensor(&mut self, name: &str, stored: &Stored, share: Share) -> Result<Tensor> {
        match (self, stored) {
            (Self::Safetensors(shard), Stored::Plain(info)) => shard.tensor(name, info, share),
            (Self::Gguf(gguf), Stored::Gguf(info)) => {
                let tensor = gguf.tensor(name, info, share, &Device::Cpu)?;
                Ok(tensor.dequantize(&Device::Cpu)?)
            }
            _ => Err(Error::Internal("a tensor of another kind of file".into())),
        }
    }

    pub fn path(&self) -> &str {
        match self {
            Self::Safetensors(shard) => shard.path(),
            Self::Gguf(_) => gguf::PATH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another_whatever_number_of_rows_is_claimed() {
        for rows in [0, 1, 7, 9, usize::MAX / 2 + 1, usize::MAX] {
            let ends = [0, 1, 2].map(|index| Share::nth(index, 3).of(rows));
            assert_eq!(ends[0].0, 0);
            assert_eq!(ends[0].1, ends[1].0);
            assert_eq!(ends[1].1, ends[2].0);
            assert_eq!(ends[2].1, rows);
        }
    }
}
