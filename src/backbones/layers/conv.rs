//! Convolutions and resampling of channels-last feature maps.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::activation::Activation;
use super::cpu;
use super::cpu::product::{Left, Packed, product};
use super::cpu::scratch::Scratch;
use super::cpu::winograd::{Padded, Winograd};
use super::norm::GroupNorm;
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
    /// Whether a ReLU is behind it and all that is added.
    rectified: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    /// f32 on the CPU: rows are kernel row, kernel column, input channel.
    Packed {
        weight: Arc<Packed>,
        bias: Arc<[f32]>,
    },
    /// f32 on the CPU, where fewer multiplications do.
    Tiles {
        weight: Arc<Winograd>,
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

    /// From a weight (out, in, k, k) and a bias (out) at hand.
    pub fn new(weight: Tensor, bias: Tensor, (stride, padding): (usize, usize)) -> Result<Self> {
        let (outputs, inputs, kernel, _) = weight.dims4()?;
        let weights = if cpu::applies_to(&weight) {
            let area = kernel * kernel;
            let bias = cpu::values(&bias)?.into();
            cpu::with_values(&weight, |values| {
                if padding == 1 && Winograd::suits(inputs, outputs, kernel, stride) {
                    let at = |n, c, y, x| values[(n * inputs + c) * area + y * kernel + x];
                    let weight = Arc::new(Winograd::new(inputs, outputs, at));
                    return Kind::Tiles { weight, bias };
                }
                let weight = Arc::new(Packed::new(area * inputs, outputs, |k, n| {
                    values[(n * inputs + k % inputs) * area + k / inputs]
                }));
                Kind::Packed { weight, bias }
            })?
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
            rectified: false,
        })
    }

    /// With a ReLU behind it and all that is added.
    pub fn rectified(self) -> Self {
        Self {
            rectified: true,
            ..self
        }
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
        self.forward_beside(x, None, None)
    }

    /// The norm, the activation, the convolution; then plus `shift`, a number per row and channel (rows,
    /// out), and plus `shortcut`, which is shaped like the result.
    pub fn forward_normed(
        &self,
        x: &Tensor,
        (norm, act): (&GroupNorm, Activation),
        shift: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        if self.is_on_cpu() && cpu::applies_to(x) && act == Activation::Silu {
            return self.forward_cpu(Source::Normed(x, norm), shift, shortcut);
        }
        self.forward_beside(&norm.forward_act(x, act)?, shift, shortcut)
    }

    fn is_on_cpu(&self) -> bool {
        !matches!(self.weights, Kind::Tensors { .. })
    }

    /// [`Conv2d::forward_normed`] of what is not to be normalised.
    pub fn forward_beside(
        &self,
        x: &Tensor,
        shift: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        match &self.weights {
            Kind::Packed { .. } | Kind::Tiles { .. } => {
                self.forward_cpu(Source::Plain(x), shift, shortcut)
            }
            Kind::Tensors { weight, bias } => {
                // candle has no convolution in bf16 on the CPU.
                let dtype = match x.dtype() {
                    DType::BF16 if x.device().is_cpu() => DType::F32,
                    other => other,
                };
                let mut y = x
                    .permute((0, 3, 1, 2))?
                    .contiguous()?
                    .to_dtype(dtype)?
                    .conv2d(&weight.to_dtype(dtype)?, self.padding, self.stride, 1, 1)?
                    .to_dtype(x.dtype())?
                    .permute((0, 2, 3, 1))?
                    .contiguous()?
                    .broadcast_add(bias)?;
                if let Some(shift) = shift {
                    let (rows, channels) = shift.dims2()?;
                    y = y.broadcast_add(&shift.reshape((rows, 1, 1, channels))?)?;
                }
                self.finished(y, shortcut)
            }
        }
    }

    /// Adds the shortcut, and what is behind it.
    fn finished(&self, y: Tensor, shortcut: Option<&Tensor>) -> Result<Tensor> {
        let y = match shortcut {
            Some(shortcut) => cpu::add(shortcut, &y)?,
            None => y,
        };
        match self.rectified {
            true => Activation::Relu.forward(&y),
            false => Ok(y),
        }
    }

    /// On the CPU, over images that are made and padded in scratch room.
    fn forward_cpu(
        &self,
        source: Source<'_>,
        shift: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (rows, h, w, c) = source.size()?;
        if c != self.inputs
            || h + 2 * self.padding < self.kernel
            || w + 2 * self.padding < self.kernel
        {
            return Err(Error::Internal(format!(
                "a convolution of {} channels was given {:?}",
                self.inputs,
                (rows, h, w, c)
            )));
        }
        let bias: &[f32] = match &self.weights {
            Kind::Packed { bias, .. } | Kind::Tiles { bias, .. } => bias,
            Kind::Tensors { .. } => &[],
        };
        let biases = match shift {
            Some(shift) => cpu::with_values(shift, |shift| {
                let of_row = |(at, shift): (usize, &f32)| bias[at % self.outputs] + shift;
                shift.iter().enumerate().map(of_row).collect()
            })?,
            None => bias.repeat(rows),
        };
        let to = |size: usize| (size + 2 * self.padding - self.kernel) / self.stride + 1;
        let (to_h, to_w) = (to(h), to(w));
        let whole = |size: usize| match &self.weights {
            Kind::Tiles { weight, .. } => size.next_multiple_of(weight.side()),
            _ => size,
        };
        let (ph, pw) = (whole(h) + 2 * self.padding, whole(w) + 2 * self.padding);
        let mut scratch = Scratch::take(rows * ph * pw * c);
        let padded = scratch.values(rows * ph * pw * c);
        source.pad(self.padding, (ph, pw), padded)?;
        let images = Padded {
            values: padded,
            height: ph,
            width: pw,
            channels: c,
            doubled: source.is_doubled()?,
        };
        let shape = [rows, to_h, to_w, self.outputs];
        match &self.weights {
            Kind::Tiles { weight, .. } => {
                let mut out = match shortcut {
                    Some(shortcut) if shortcut.dims() == shape => cpu::values(shortcut)?,
                    Some(other) => {
                        let (own, other) = (shape, other.dims());
                        let message = format!("{own:?} is to be added to {other:?}");
                        return Err(Error::Internal(message));
                    }
                    None => vec![0f32; shape.iter().product()],
                };
                weight.forward_onto(&images, (h, w), &biases, &mut out);
                if self.rectified {
                    cpu::elementwise::rectify(&mut out);
                }
                Ok(Tensor::from_vec(out, &shape, &Device::Cpu)?)
            }
            Kind::Packed { weight, .. } => {
                let y = cpu::tensor(&shape, |out| {
                    self.as_product(weight, &images, (to_h, to_w), &biases, out);
                })?;
                self.finished(y, shortcut)
            }
            Kind::Tensors { .. } => Err(Error::Internal("a convolution is not packed".into())),
        }
    }

    fn as_product(
        &self,
        weight: &Packed,
        images: &Padded<'_>,
        (to_h, to_w): (usize, usize),
        biases: &[f32],
        out: &mut [f32],
    ) {
        let (pw, c) = (images.width, images.channels);
        let starts: Vec<usize> = (0..to_h * to_w)
            .map(|i| (i / to_w * pw + i % to_w) * self.stride * c)
            .collect();
        // A kernel's line over neighbouring pixels is one run of values.
        let segments: Vec<usize> = (0..self.kernel).map(|i| i * pw * c).collect();
        let each = images.values.chunks_exact(images.height * pw * c);
        let outs = out.chunks_exact_mut(to_h * to_w * self.outputs);
        for ((image, bias), out) in each.zip(biases.chunks_exact(self.outputs)).zip(outs) {
            let left = Left {
                values: image,
                rows: &starts,
                segments: &segments,
                run: self.kernel * c,
            };
            product(&left, weight, Some(bias), out, self.outputs);
        }
    }
}

/// What a convolution on the CPU reads, without making it a tensor first.
enum Source<'a> {
    Plain(&'a Tensor),
    /// Normalised, then SiLU.
    Normed(&'a Tensor, &'a GroupNorm),
    /// Its nearest pixels repeated, to another height and width.
    Enlarged(&'a Tensor, (usize, usize)),
}

impl Source<'_> {
    /// Rows, height, width, channels.
    fn size(&self) -> Result<(usize, usize, usize, usize)> {
        Ok(match self {
            Self::Plain(x) | Self::Normed(x, _) => x.dims4()?,
            Self::Enlarged(x, (h, w)) => {
                let (rows, _, _, c) = x.dims4()?;
                (rows, *h, *w, c)
            }
        })
    }

    /// Whether each pixel is there four times, and the first four are one.
    fn is_doubled(&self) -> Result<bool> {
        let Self::Enlarged(x, size) = self else {
            return Ok(false);
        };
        let (_, h, w, _) = x.dims4()?;
        Ok(*size == (2 * h, 2 * w))
    }

    /// Writes it into larger images (padded height, padded width, channels), `padding` pixels from the
    /// top and the left, with zeros around.
    fn pad(&self, padding: usize, padded: (usize, usize), out: &mut [f32]) -> Result<()> {
        let (_, to_h, to_w, c) = self.size()?;
        let size = (to_h, to_w, c);
        match self {
            Self::Plain(x) => cpu::with_values(x, |values| {
                pad(size, padding, padded, out, |image, y, line| {
                    line.copy_from_slice(&values[(image * to_h + y) * to_w * c..][..to_w * c]);
                });
            }),
            Self::Normed(x, norm) => {
                let (grouped, bias) = (norm.grouped(x)?, norm.bias()?);
                cpu::with_values(x, |values| {
                    pad(size, padding, padded, out, |image, y, line| {
                        let from = &values[(image * to_h + y) * to_w * c..][..to_w * c];
                        grouped[image].normalise(from, &bias, true, line);
                    });
                })
            }
            Self::Enlarged(x, _) => {
                let (_, h, w, _) = x.dims4()?;
                cpu::with_values(x, |values| {
                    pad(size, padding, padded, out, |image, y, line| {
                        let from = &values[(image * h + y * h / to_h) * w * c..][..w * c];
                        cpu::elementwise::nearest(from, w, c, line);
                    });
                })
            }
        }
    }
}

/// Fills images (padded height, padded width, channels) with zeros around (height, width, channels), each
/// line of which `write` writes: those of the image with the number that it is told.
fn pad(
    (h, w, c): (usize, usize, usize),
    padding: usize,
    (ph, pw): (usize, usize),
    out: &mut [f32],
    write: impl Fn(usize, usize, &mut [f32]),
) {
    for (image, out) in out.chunks_exact_mut(ph * pw * c).enumerate() {
        for (y, out) in out.chunks_exact_mut(pw * c).enumerate() {
            let Some(y) = y.checked_sub(padding).filter(|y| *y < h) else {
                out.fill(0.0);
                continue;
            };
            let (left, rest) = out.split_at_mut(padding * c);
            let (line, right) = rest.split_at_mut(w * c);
            left.fill(0.0);
            write(image, y, line);
            right.fill(0.0);
        }
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
        let size = size.unwrap_or((2 * h, 2 * w));
        if self.conv.is_on_cpu() && cpu::applies_to(x) {
            return self.conv.forward_cpu(Source::Enlarged(x, size), None, None);
        }
        self.conv.forward(&enlarge(x, size)?)
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
                    for (y, line) in out.chunks_exact_mut(to_w * c).enumerate() {
                        let from = &image[y * h / to_h * w * c..][..w * c];
                        cpu::elementwise::nearest(from, w, c, line);
                    }
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
