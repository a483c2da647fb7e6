//! Normalisation of channels-last rows.

use super::math;
use super::vectorized;

/// What a group norm takes away from each channel of one feature map, and multiplies the rest with.
pub struct Grouped {
    means: Vec<f32>,
    scales: Vec<f32>,
}

impl Grouped {
    /// Of the feature map `x` (pixels, channels).
    pub fn new(x: &[f32], weight: &[f32], groups: usize, eps: f32) -> Self {
        let mut grouped = Self {
            means: vec![0.0; weight.len()],
            scales: vec![0.0; weight.len()],
        };
        grouped_into(
            x,
            weight,
            groups,
            eps,
            &mut grouped.means,
            &mut grouped.scales,
        );
        grouped
    }

    /// Normalises pixels of the map, then SiLU if `silu`.
    pub fn normalise(&self, x: &[f32], bias: &[f32], silu: bool, out: &mut [f32]) {
        normalise(x, (&self.means, &self.scales), bias, silu, out);
    }
}

vectorized! {
    fn grouped_into(
        x: &[f32],
        weight: &[f32],
        groups: usize,
        eps: f32,
        means: &mut [f32],
        scales: &mut [f32],
    ) {
        let channels = weight.len();
        let size = channels / groups;
        let count = (x.len() / groups) as f64;
        let mut sums = vec![0f64; channels];
        channel_sums(x, means, |v, _| v, &mut sums);
        for (means, sums) in means.chunks_exact_mut(size).zip(sums.chunks_exact(size)) {
            means.fill((sums.iter().sum::<f64>() / count) as f32);
        }
        channel_sums(x, means, |v, mean| (v - mean) * (v - mean), &mut sums);
        for (group, sums) in sums.chunks_exact(size).enumerate() {
            let variance = sums.iter().sum::<f64>() / count;
            let inverse = 1.0 / (variance + f64::from(eps)).sqrt();
            let own = group * size..(group + 1) * size;
            for (scale, weight) in scales[own.clone()].iter_mut().zip(&weight[own]) {
                *scale = (inverse * f64::from(*weight)) as f32;
            }
        }
    }
}

vectorized! {
    fn normalise(
        x: &[f32],
        grouped: (&[f32], &[f32]),
        bias: &[f32],
        silu: bool,
        out: &mut [f32],
    ) {
        let (means, scales) = grouped;
        let channels = bias.len();
        for (pixel, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
            let parameters = means.iter().zip(scales).zip(bias);
            if silu {
                for ((y, v), ((mean, scale), bias)) in out.iter_mut().zip(pixel).zip(parameters) {
                    *y = math::silu((v - mean) * scale + bias);
                }
            } else {
                for ((y, v), ((mean, scale), bias)) in out.iter_mut().zip(pixel).zip(parameters) {
                    *y = (v - mean) * scale + bias;
                }
            }
        }
    }
}

/// Sums of `f(value, mean)` over the pixels, a channel each: in f32 over a few pixels at a time, and
/// those in f64, so that large maps do not lose digits.
#[inline(always)]
fn channel_sums(x: &[f32], means: &[f32], f: impl Fn(f32, f32) -> f32, sums: &mut [f64]) {
    const PIXELS: usize = 32;
    let channels = means.len();
    let mut part = vec![0f32; channels];
    sums.fill(0.0);
    for pixels in x.chunks(PIXELS * channels) {
        part.fill(0.0);
        for pixel in pixels.chunks_exact(channels) {
            for ((sum, v), mean) in part.iter_mut().zip(pixel).zip(means) {
                *sum += f(*v, *mean);
            }
        }
        for (sum, part) in sums.iter_mut().zip(&part) {
            *sum += f64::from(*part);
        }
    }
}

vectorized! {
    /// Layer norm of rows of channels.
    pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        let channels = weight.len();
        for (row, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
            let mean = sum(row, |v| v) / channels as f32;
            let variance = sum(row, |v| (v - mean) * (v - mean)) / channels as f32;
            let inverse = 1.0 / (variance + eps).sqrt();
            for ((y, v), (weight, bias)) in out.iter_mut().zip(row).zip(weight.iter().zip(bias)) {
                *y = (v - mean) * inverse * weight + bias;
            }
        }
    }
}

/// A sum in sixteen running parts, which are added up by halves: floating-point addition is not reordered by
/// the compiler, so one running sum would not become vector instructions.
#[inline(always)]
pub fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    const PARTS: usize = 16;
    let mut parts = [0f32; PARTS];
    let chunks = values.chunks_exact(PARTS);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (part, v) in parts.iter_mut().zip(chunk) {
            *part += f(*v);
        }
    }
    let half = rest.chunks_exact(PARTS / 2);
    let last = half.remainder();
    for chunk in half {
        for (part, v) in parts.iter_mut().zip(chunk) {
            *part += f(*v);
        }
    }
    let mut eight = [0f32; 8];
    for (i, sum) in eight.iter_mut().enumerate() {
        *sum = parts[i] + parts[i + 8];
    }
    let mut four = [0f32; 4];
    for (i, sum) in four.iter_mut().enumerate() {
        *sum = eight[i] + eight[i + 4];
    }
    let last = last.iter().map(|v| f(*v)).sum::<f32>();
    (four[0] + four[2]) + (four[1] + four[3]) + last
}
