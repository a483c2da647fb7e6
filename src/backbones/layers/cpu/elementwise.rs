//! Element-wise functions.

use super::math;
use super::vectorized;

vectorized! {
    /// x·σ(x), element by element.
    pub fn silu(x: &[f32], out: &mut [f32]) {
        for (y, x) in out.iter_mut().zip(x) {
            *y = math::silu(*x);
        }
    }
}

vectorized! {
    /// GELU by the error function, element by element.
    pub fn gelu(x: &[f32], out: &mut [f32]) {
        for (y, x) in out.iter_mut().zip(x) {
            *y = math::gelu(*x);
        }
    }
}

vectorized! {
    /// Each row of `x` holds a half and its gate: half·gelu(gate) goes to `out`, rows of `width`.
    pub fn geglu(x: &[f32], width: usize, out: &mut [f32]) {
        for (row, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (half, gate) = row.split_at(width);
            for ((y, half), gate) in out.iter_mut().zip(half).zip(gate) {
                *y = half * math::gelu(*gate);
            }
        }
    }
}

/// Repeats nearest pixels of (height, width, channels) up or down to another size.
pub fn nearest(
    x: &[f32],
    (h, w, c): (usize, usize, usize),
    (to_h, to_w): (usize, usize),
    out: &mut [f32],
) {
    for (i, line) in out.chunks_exact_mut(to_w * c).enumerate() {
        let from = &x[i * h / to_h * w * c..][..w * c];
        for (j, pixel) in line.chunks_exact_mut(c).enumerate() {
            pixel.copy_from_slice(&from[j * w / to_w * c..][..c]);
        }
    }
}
