//! The end of a small decoder: an enlargement and two convolutions with nothing between them are one
//! linear map, and are computed as one convolution of the small pixels.

use candle_core::Tensor;

use super::cpu::product::{Left, Packed, product};
use super::cpu::{applies_to, tensor, values, with_values};
use crate::backbones::weights::Scope;
use crate::{Error, Result};

/// Small pixels are enlarged so many times.
pub const BY: usize = 2;
const KERNEL: usize = 3;

/// An enlargement by two, a 3×3 convolution without a bias, and one with a bias: every small pixel
/// makes 2×2 pixels out of the 3×3 small ones around it. Equal to the three in a row but for the order
/// of sums; a twelfth of the multiplications where 32 channels become 3.
#[derive(Debug)]
pub struct Fused {
    channels: usize,
    outputs: usize,
    /// Of 2×2 pixels.
    bias: Vec<f32>,
    /// For each pair of [`edge`]s, since the second convolution sees zeros, not what the first would
    /// make of zeros, beyond the picture's edges.
    kernels: Vec<Packed>,
}

/// Number of kinds of [`edge`].
const EDGES: usize = 4;

/// Where a line lies among `count` of them: 1 is added for the first, 2 for the last.
fn edge(line: usize, count: usize) -> usize {
    usize::from(line == 0) + 2 * usize::from(line + 1 == count)
}

impl Fused {
    /// `None` where it is not f32 on the CPU that computes.
    pub fn load(
        first: &Scope<'_>,
        second: &Scope<'_>,
        (channels, outputs): (usize, usize),
    ) -> Result<Option<Self>> {
        let one = first.tensor("weight", &[channels, channels, KERNEL, KERNEL])?;
        if !applies_to(&one) {
            return Ok(None);
        }
        let two = second.tensor("weight", &[outputs, channels, KERNEL, KERNEL])?;
        let bias = second.tensor("bias", &[outputs])?;
        Self::of(&one, &two, &bias).map(Some)
    }

    /// Of kernels (channels, channels, 3, 3) and (outputs, channels, 3, 3).
    fn of(one: &Tensor, two: &Tensor, bias: &Tensor) -> Result<Self> {
        let (outputs, channels, ..) = two.dims4()?;
        let products = Products::of(&values(one)?, &values(two)?, channels, outputs);
        let kernels = (0..EDGES * EDGES).map(|i| products.kernel(i / EDGES, i % EDGES));
        Ok(Self {
            channels,
            outputs,
            bias: values(bias)?.repeat(BY * BY),
            kernels: kernels.collect(),
        })
    }

    /// (rows, height, width, channels) → (rows, 2 · height, 2 · width, outputs)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, h, w, c) = x.dims4()?;
        if c != self.channels {
            return Err(Error::Internal(format!(
                "a decoder of {} channels ends with {:?}",
                self.channels,
                x.dims()
            )));
        }
        let line = (w + 2) * c;
        let segments = [0, line, 2 * line];
        let mut alike: [Vec<usize>; EDGES * EDGES] = Default::default();
        for cell in 0..h * w {
            alike[edge(cell / w, h) * EDGES + edge(cell % w, w)].push(cell);
        }
        let mut padded = vec![0f32; (h + 2) * line];
        let (n, wide) = (self.outputs, BY * w * self.outputs);
        with_values(x, |values| {
            tensor(&[rows, BY * h, BY * w, n], |out| {
                for row in 0..rows {
                    let image = &values[row * h * w * c..][..h * w * c];
                    for (i, pixels) in image.chunks_exact(w * c).enumerate() {
                        padded[(i + 1) * line + c..][..w * c].copy_from_slice(pixels);
                    }
                    let out = &mut out[row * BY * h * wide..][..BY * h * wide];
                    for (cells, kernel) in alike.iter().zip(&self.kernels) {
                        let starts = cells.iter().map(|cell| cell / w * line + cell % w * c);
                        let starts: Vec<usize> = starts.collect();
                        let left = Left {
                            values: &padded,
                            rows: &starts,
                            segments: &segments,
                            run: KERNEL * c,
                        };
                        let stride = BY * BY * n;
                        let mut made = vec![0f32; cells.len() * stride];
                        product(&left, kernel, Some(&self.bias), &mut made, stride);
                        for (cell, pixels) in cells.iter().zip(made.chunks_exact(stride)) {
                            for (r, pixels) in pixels.chunks_exact(BY * n).enumerate() {
                                let at = (BY * (cell / w) + r) * wide + BY * (cell % w) * n;
                                out[at..at + BY * n].copy_from_slice(pixels);
                            }
                        }
                    }
                }
            })
        })?
    }
}

/// What each place of the second kernel makes of each place of the first.
struct Products {
    /// (second's place, first's place, outputs, channels)
    values: Vec<f64>,
    channels: usize,
    outputs: usize,
}

impl Products {
    fn of(one: &[f32], two: &[f32], channels: usize, outputs: usize) -> Self {
        const AREA: usize = KERNEL * KERNEL;
        let mut values = vec![0f64; AREA * AREA * outputs * channels];
        let lines = values.chunks_exact_mut(channels).enumerate();
        for (index, sums) in lines {
            let output = index % outputs;
            let (p, a) = (index / outputs / AREA, index / outputs % AREA);
            for middle in 0..channels {
                let weight = f64::from(two[(output * channels + middle) * AREA + p]);
                for (input, sum) in sums.iter_mut().enumerate() {
                    *sum += weight * f64::from(one[(middle * channels + input) * AREA + a]);
                }
            }
        }
        Self {
            values,
            channels,
            outputs,
        }
    }

    /// The kernel of small pixels in a row and a column of these [`edge`]s.
    fn kernel(&self, row: usize, column: usize) -> Packed {
        let (c, n) = (self.channels, self.outputs);
        let columns = BY * BY * n;
        let mut sums = vec![0f64; KERNEL * KERNEL * c * columns];
        let (down, across) = (ways(row), ways(column));
        for &(r, p, a, i) in &down {
            for &(s, q, b, j) in &across {
                let (p, a) = (p * KERNEL + q, a * KERNEL + b);
                let own = &self.values[(p * KERNEL * KERNEL + a) * n * c..][..n * c];
                for (output, weights) in own.chunks_exact(c).enumerate() {
                    for (input, weight) in weights.iter().enumerate() {
                        let k = (i * KERNEL + j) * c + input;
                        sums[k * columns + (r * BY + s) * n + output] += weight;
                    }
                }
            }
        }
        Packed::new(KERNEL * KERNEL * c, columns, |k, n| {
            sums[k * columns + n] as f32
        })
    }
}

/// Along one side: which of the two pixels, the second kernel's place, the first's, and the place of the
/// small pixel that is read, all that lie within a picture at this [`edge`].
fn ways(edge: usize) -> Vec<(usize, usize, usize, usize)> {
    let (first, last) = (edge & 1 != 0, edge & 2 != 0);
    let mut ways = Vec::new();
    for r in 0..BY {
        for p in 0..KERNEL {
            let beyond = (first && r + p == 0) || (last && r + p == BY + KERNEL - 2);
            if !beyond {
                ways.extend((0..KERNEL).map(|a| (r, p, a, (r + p + a) / BY)));
            }
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::backbones::layers::conv::enlarge;

    #[test]
    fn it_is_the_three_in_a_row_at_every_edge() {
        let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let (channels, outputs) = (5, 3);
        let (one, two) = (
            random(&[channels, channels, 3, 3]),
            random(&[outputs, channels, 3, 3]),
        );
        let bias = random(&[outputs]);
        let fused = Fused::of(&one, &two, &bias).unwrap();
        let plain = |x: &Tensor| -> candle_core::Result<Tensor> {
            let x = x.permute((0, 3, 1, 2))?.contiguous()?;
            let y = x.conv2d(&one, 1, 1, 1, 1)?.conv2d(&two, 1, 1, 1, 1)?;
            y.permute((0, 2, 3, 1))?.broadcast_add(&bias)
        };
        for (h, w) in [(1, 1), (1, 4), (2, 2), (3, 5), (6, 2)] {
            let x = random(&[2, h, w, channels]);
            let plain = plain(&enlarge(&x, (2 * h, 2 * w)).unwrap()).unwrap();
            let ours = fused.forward(&x).unwrap();
            assert_eq!(ours.dims(), plain.dims());
            let gap = (ours - plain).and_then(|gap| gap.abs()?.max_all()?.to_scalar::<f32>());
            let gap = gap.unwrap();
            assert!(gap < 1e-3, "{h}×{w}: {gap}");
        }
    }
}
