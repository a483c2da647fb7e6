//! Quantized denoisers in GGUF files, in the layouts that they are shared in for ComfyUI (city96's):
//! FLUX.1 by its authors' names, Qwen-Image by diffusers'.
//!
//! A matrix stays quantized in memory and becomes numbers when it is multiplied with, so that a large
//! model fits into a small card and computes what its dequantized weights would.

mod names;

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::{GgmlDType, QTensor, ggml_file};

pub use self::names::Layout;
use super::files::{ModelFiles, PartReader};
use super::weights::Share;
use crate::{Error, Result};

/// What the file is called among a model's files.
pub const PATH: &str = "denoiser.gguf";

/// The component that it holds the weights of.
const COMPONENT: &str = "transformer";

/// Whether these files' tensors of `component` lie in a GGUF file.
pub fn holds(files: &ModelFiles, component: &str) -> bool {
    component == COMPONENT && files.has(PATH)
}

/// A GGUF file, open.
#[derive(Debug)]
pub struct Gguf {
    model: String,
    reader: PartReader,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

/// A tensor as it is stored.
#[derive(Clone, Debug)]
pub struct Info {
    pub dtype: GgmlDType,
    pub shape: Vec<usize>,
    offset: u64,
}

impl Info {
    /// Whether its numbers are coded in blocks.
    pub fn is_quantized(&self) -> bool {
        !matches!(
            self.dtype,
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16
        )
    }
}

impl Gguf {
    /// Reads the header: the file and its tensors by name.
    pub fn open(model: &str, reader: PartReader) -> Result<(Self, Vec<(String, Info)>)> {
        let broken = |problem: String| {
            Error::model(
                model,
                format!("its denoiser is no GGUF file that can be read: {problem}"),
            )
        };
        let mut header = BufReader::new(Reading { reader, at: 0 });
        let content = Content::read(&mut header).map_err(|e| broken(e.to_string()))?;
        let file = Self {
            model: model.into(),
            reader: header.into_inner().reader,
            data_start: content.tensor_data_offset,
        };
        let tensors = content.tensor_infos.into_iter().map(|(name, info)| {
            let info = Info {
                dtype: info.ggml_dtype,
                shape: info.shape.dims().to_vec(),
                offset: info.offset,
            };
            (name, info)
        });
        Ok((file, tensors.collect()))
    }

    /// A share of a tensor's rows, as it is stored, onto `device`.
    pub fn tensor(
        &mut self,
        name: &str,
        info: &Info,
        share: Share,
        device: &Device,
    ) -> Result<Arc<QTensor>> {
        let (block, block_bytes) = (info.dtype.block_size(), info.dtype.type_size());
        let missing = || {
            Error::model(
                self.model.clone(),
                format!("its denoiser's file ends before the tensor {name}"),
            )
        };
        let mut shape = info.shape.clone();
        let product = |size: usize, length: &usize| size.checked_mul(*length);
        let row = shape.iter().skip(1).try_fold(1, product);
        let row = row.filter(|row| *row > 0).ok_or_else(missing)?;
        let rows = shape.first().copied().unwrap_or(1);
        // No file holds more of them than it has bytes, whatever they are coded as.
        if rows
            .checked_mul(row)
            .is_none_or(|all| all as u64 / 64 > self.reader.len())
        {
            return Err(missing());
        }
        let (from, to) = share.of(rows);
        let (from, to) = (from * row, to * row);
        if !from.is_multiple_of(block) || !to.is_multiple_of(block) {
            return Err(Error::model(
                self.model.clone(),
                format!(
                    "the tensor {name} of its denoiser has the shape {:?}, which does not part into \
                     blocks of {block}",
                    info.shape
                ),
            ));
        }
        if let Some(rows) = shape.first_mut() {
            *rows = (to - from) / row;
        }
        let at = |element: usize| element / block * block_bytes;
        let bytes = at(to) - at(from);
        let start = self.data_start.checked_add(info.offset);
        let start = start.and_then(|start| start.checked_add(at(from) as u64));
        let start = start.ok_or_else(missing)?;
        let end = start.checked_add(bytes as u64);
        if end.is_none_or(|end| end > self.reader.len()) {
            return Err(missing());
        }
        let data = self.reader.part(start, bytes)?;
        let tensor = ggml_file::qtensor_from_ggml(info.dtype, &data, shape, device)?;
        Ok(Arc::new(tensor))
    }
}

/// Reads on from where it stands.
struct Reading {
    reader: PartReader,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.reader.len().saturating_sub(self.at);
        let count = left.min(buffer.len() as u64) as usize;
        let part = self.reader.part(self.at, count).map_err(io::Error::other)?;
        buffer[..count].copy_from_slice(&part);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reading {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.reader.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::other("before the file's beginning"))?;
        Ok(self.at)
    }
}
