//! Convolutions and resampling of channels-last feature maps.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::cpu;
use super::cpu::product::{Left, Packed, product};
use crate::backbones::weights::Scope;
use crate::{Error, Result};

/// A square convolution with a bias over (rows, height, width, channels).
#[derive(Clone, Debug)]
pub struct Conv2d {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    weights: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// f32 on the CPU: rows are kernel row, kernel column, input channel.
    Packed {
        weight: Arc<Packed>,
        bias: Arc<[f32]>,
    },
    Tensors {
        /// (out, in, k, k)
        weight: Tensor,
        bias: Tensor,
    },
}

impl Conv2d {
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let bias = scope.tensor("bias", &[outputs])?;
        Self::with_bias(scope, (inputs, outputs, kernel), (stride, padding), bias)
    }

    /// What a causal convolution over time does to a video of one frame and keeps its size: the
    /// frames before it are zeros, so that only the last slice of the kernel (out, in, k, k, k)
    /// sees anything.
    pub fn load_causal(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> Result<Self> {
        let bias = scope.tensor("bias", &[outputs])?;
        let weight = scope.tensor("weight", &[outputs, inputs, kernel, kernel, kernel])?;
        let weight = weight.narrow(2, kernel - 1, 1)?.squeeze(2)?.contiguous()?;
        Self::new(weight, bias, (1, (kernel - 1) / 2))
    }

    fn with_bias(
        scope: &Scope<'_>,
        (inputs, outputs, kernel): (usize, usize, usize),
        (stride, padding): (usize, usize),
        bias: Tensor,
    ) -> Result<Self> {
        let weight = scope.tensor("weight", &[outputs, inputs, kernel, kernel])?;
        Self::new(weight, bias, (stride, padding))
    }

    /// `weight`: (out, in, k, k).
    fn new(weight: Tensor, bias: Tensor, (stride, padding): (usize, usize)) -> Result<Self> {
        let (outputs, inputs, kernel, _) = weight.dims4()?;
        let weights = if cpu::applies_to(&weight) {
            let area = kernel * kernel;
            let packed = cpu::with_values(&weight, |values| {
                Packed::new(area * inputs, outputs, |k, n| {
                    values[(n * inputs + k % inputs) * area + k / inputs]
                })
            })?;
            Kind::Packed {
                weight: Arc::new(packed),
                bias: cpu::values(&bias)?.into(),
            }
        } else {
            Kind::Tensors { weight, bias }
        };
        Ok(Self {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            weights,
        })
    }

    /// A convolution that keeps the size.
    pub fn load_same(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> Result<Self> {
        Self::load(scope, inputs, outputs, kernel, 1, (kernel - 1) / 2)
    }

    /// [`Conv2d::load_same`] of a convolution that has no bias.
    pub fn load_unbiased(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> Result<Self> {
        let bias = scope.zeros(&[outputs])?;
        let padding = (kernel - 1) / 2;
        Self::with_bias(scope, (inputs, outputs, kernel), (1, padding), bias)
    }

    /// (rows, height, width, in) → (rows, height', width', out)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_shifted(x, None)
    }

    /// [`Conv2d::forward`], plus a number per row and channel: `shift` is (rows, out).
    pub fn forward_shifted(&self, x: &Tensor, shift: Option<&Tensor>) -> Result<Tensor> {
        match &self.weights {
            Kind::Packed { weight, bias } => self.forward_packed(x, shift, weight, bias),
            Kind::Tensors { weight, bias } => {
                // candle has no convolution in bf16 on the CPU.
                let dtype = match x.dtype() {
                    DType::BF16 if x.device().is_cpu() => DType::F32,
                    other => other,
                };
                let y = x
                    .permute((0, 3, 1, 2))?
                    .contiguous()?
                    .to_dtype(dtype)?
                    .conv2d(&weight.to_dtype(dtype)?, self.padding, self.stride, 1, 1)?
                    .to_dtype(x.dtype())?
                    .permute((0, 2, 3, 1))?
                    .contiguous()?
                    .broadcast_add(bias)?;
                match shift {
                    Some(shift) => {
                        let (rows, channels) = shift.dims2()?;
                        Ok(y.broadcast_add(&shift.reshape((rows, 1, 1, channels))?)?)
                    }
                    None => Ok(y),
                }
            }
        }
    }

    fn forward_packed(
        &self,
        x: &Tensor,
        shift: Option<&Tensor>,
        weight: &Packed,
        bias: &[f32],
    ) -> Result<Tensor> {
        let (rows, h, w, c) = x.dims4()?;
        if c != self.inputs
            || h + 2 * self.padding < self.kernel
            || w + 2 * self.padding < self.kernel
        {
            return Err(Error::Internal(format!(
                "a convolution of {} channels was given {:?}",
                self.inputs,
                x.dims()
            )));
        }
        let (ph, pw) = (h + 2 * self.padding, w + 2 * self.padding);
        let to_h = (ph - self.kernel) / self.stride + 1;
        let to_w = (pw - self.kernel) / self.stride + 1;
        let starts: Vec<usize> = (0..to_h * to_w)
            .map(|i| (i / to_w * pw + i % to_w) * self.stride * c)
            .collect();
        // A kernel's line over neighbouring pixels is one run of values.
        let segments: Vec<usize> = (0..self.kernel).map(|i| i * pw * c).collect();
        let shift = shift.map(cpu::values).transpose()?;
        let mut shifted = bias.to_vec();
        let mut padded = vec![0f32; ph * pw * c];
        cpu::with_values(x, |values| {
            cpu::tensor(&[rows, to_h, to_w, self.outputs], |out| {
                let size = to_h * to_w * self.outputs;
                for (row, out) in out.chunks_exact_mut(size).enumerate() {
                    let image = &values[row * h * w * c..][..h * w * c];
                    for (i, line) in image.chunks_exact(w * c).enumerate() {
                        let at = ((i + self.padding) * pw + self.padding) * c;
                        padded[at..at + w * c].copy_from_slice(line);
                    }
                    if let Some(shift) = &shift {
                        let shift = &shift[row * self.outputs..][..self.outputs];
                        for ((sum, bias), shift) in shifted.iter_mut().zip(bias).zip(shift) {
                            *sum = bias + shift;
                        }
                    }
                    let left = Left {
                        values: &padded,
                        rows: &starts,
                        segments: &segments,
                        run: self.kernel * c,
                    };
                    product(&left, weight, Some(&shifted), out, self.outputs);
                }
            })
        })?
    }
}

/// Halves a feature map by a strided 3×3 convolution.
#[derive(Clone, Debug)]
pub struct Downsample {
    conv: Conv2d,
    padding: usize,
}

impl Downsample {
    /// `padding` 0 means that the image is padded at its right and bottom edge alone.
    pub fn load(scope: &Scope<'_>, channels: usize, padding: usize) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::load(&scope.at("conv"), channels, channels, 3, 2, padding)?,
            padding,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.padding == 0 {
            let padded = x.pad_with_zeros(1, 0, 1)?.pad_with_zeros(2, 0, 1)?;
            self.conv.forward(&padded)
        } else {
            self.conv.forward(x)
        }
    }
}

/// Enlarges a feature map by repeating its nearest pixels, then a 3×3 convolution.
#[derive(Clone, Debug)]
pub struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub fn load(scope: &Scope<'_>, channels: usize) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::load_same(&scope.at("conv"), channels, channels, 3)?,
        })
    }

    /// To `size` (height, width), or to twice what it is.
    pub fn forward(&self, x: &Tensor, size: Option<(usize, usize)>) -> Result<Tensor> {
        let (_, h, w, _) = x.dims4()?;
        self.conv
            .forward(&enlarge(x, size.unwrap_or((2 * h, 2 * w)))?)
    }
}

/// Repeats nearest pixels: (rows, height, width, channels) to another height and width.
pub fn enlarge(x: &Tensor, (to_h, to_w): (usize, usize)) -> Result<Tensor> {
    let (rows, h, w, c) = x.dims4()?;
    if cpu::applies_to(x) {
        return cpu::with_values(x, |values| {
            cpu::tensor(&[rows, to_h, to_w, c], |out| {
                let images = values.chunks_exact(h * w * c);
                for (image, out) in images.zip(out.chunks_exact_mut(to_h * to_w * c)) {
                    cpu::elementwise::nearest(image, (h, w, c), (to_h, to_w), out);
                }
            })
        })?;
    }
    nearest(&nearest(x, 1, to_h)?, 2, to_w)
}

/// Resizes one dimension by repeating nearest entries.
fn nearest(x: &Tensor, dim: usize, to: usize) -> Result<Tensor> {
    let from = x.dim(dim)?;
    let index: Vec<u32> = (0..to).map(|i| (i * from / to) as u32).collect();
    let index = Tensor::new(index, x.device())?;
    Ok(x.index_select(&index, dim)?)
}
