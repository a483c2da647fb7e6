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
    /// max(x, 0), element by element, in its place; what is no number stays none.
    pub fn rectify(x: &mut [f32]) {
        for x in x {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
    }
}

vectorized! {
    /// x + y, element by element.
    pub fn add(x: &[f32], y: &[f32], out: &mut [f32]) {
        for ((sum, x), y) in out.iter_mut().zip(x).zip(y) {
            *sum = x + y;
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

/// Repeats the nearest of `w` pixels of `c` channels, up or down to as many as `out` has room for.
pub fn nearest(x: &[f32], w: usize, c: usize, out: &mut [f32]) {
    let to_w = out.len() / c;
    for (j, pixel) in out.chunks_exact_mut(c).enumerate() {
        pixel.copy_from_slice(&x[j * w / to_w * c..][..c]);
    }
}
