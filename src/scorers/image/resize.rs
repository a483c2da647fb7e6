//! Bicubic resampling with antialiasing, as Pillow does it on bytes and torch on floats: a separable
//! filter, widened by the factor by which a picture shrinks (Keys 1981, a = −0.5).

/// Half the filter's width at no shrinking.
const SUPPORT: f64 = 2.0;
const A: f64 = -0.5;

/// Bits behind the point of Pillow's fixed-point weights: 32, less 8 of a sample and 2 of headroom.
const PRECISION: u32 = 32 - 8 - 2;

/// A picture of interleaved samples, three a pixel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples<T> {
    pub values: Vec<T>,
    pub width: usize,
    pub height: usize,
}

/// What a picture is made of, and how samples are weighed: bytes as Pillow does, to the bit, and
/// floats as torch does.
pub trait Sample: Copy {
    type Weight: Copy;
    type Sum: Copy;
    /// What a sum begins with.
    const EMPTY: Self::Sum;
    fn weight(weight: f64) -> Self::Weight;
    fn add(sum: Self::Sum, sample: Self, weight: Self::Weight) -> Self::Sum;
    fn sample(sum: Self::Sum) -> Self;
}

impl Sample for u8 {
    type Weight = i32;
    type Sum = i32;
    /// A half, so that the shift rounds.
    const EMPTY: i32 = 1 << (PRECISION - 1);

    fn weight(weight: f64) -> i32 {
        (weight * f64::from(1u32 << PRECISION)).round() as i32
    }

    fn add(sum: i32, sample: u8, weight: i32) -> i32 {
        sum.wrapping_add(i32::from(sample).wrapping_mul(weight))
    }

    fn sample(sum: i32) -> u8 {
        (sum >> PRECISION).clamp(0, 255) as u8
    }
}

impl Sample for f32 {
    type Weight = f32;
    type Sum = f32;
    const EMPTY: f32 = 0.0;

    fn weight(weight: f64) -> f32 {
        weight as f32
    }

    fn add(sum: f32, sample: f32, weight: f32) -> f32 {
        sum + sample * weight
    }

    fn sample(sum: f32) -> f32 {
        sum
    }
}

/// `picture` at another size. Along the rows first, then along the columns, unless the height loses
/// more than twice what the width does, and a direction that keeps its length is left alone: as in
/// Pillow since 13.0, where bytes are rounded in between. Older ones never begin with the columns.
pub fn bicubic<T: Sample>(picture: &Samples<T>, width: usize, height: usize) -> Samples<T> {
    let mut values = picture.values.clone();
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    let (narrower, lower) = (lost(picture.width, width), lost(picture.height, height));
    let columns_first = lower > 0 && lower > 2 * narrower;
    if columns_first {
        values = along(&values, picture.height, height, 3 * picture.width);
    }
    if width != picture.width {
        values = along(&values, picture.width, width, 3);
    }
    if height != picture.height && !columns_first {
        values = along(&values, picture.height, height, 3 * width);
    }
    Samples {
        values,
        width,
        height,
    }
}

/// Resamples the middle one of the dimensions (…, `from`, `inner`) to `to`.
fn along<T: Sample>(values: &[T], from: usize, to: usize, inner: usize) -> Vec<T> {
    let taps: Vec<(usize, Vec<T::Weight>)> = taps(from, to)
        .into_iter()
        .map(|(start, weights)| (start, weights.into_iter().map(T::weight).collect()))
        .collect();
    let mut out = Vec::with_capacity(values.len() / from * to);
    for block in values.chunks_exact(from * inner) {
        for (start, weights) in &taps {
            for i in 0..inner {
                let column = block[start * inner + i..].iter().step_by(inner);
                let sum = column.zip(weights).fold(T::EMPTY, |sum, (sample, weight)| {
                    T::add(sum, *sample, *weight)
                });
                out.push(T::sample(sum));
            }
        }
    }
    out
}

/// For each of `to` samples, the first of the `from` ones that it is made of, and their weights.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let (support, narrow) = (SUPPORT * stretch, 1.0 / stretch);
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let mut weights: Vec<f64> = (start..end)
                .map(|x| cubic((x as f64 - centre + 0.5) * narrow))
                .collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            (start, weights)
        })
        .collect()
}

/// Keys' cubic convolution kernel.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[derive(serde::Deserialize)]
    struct Resized {
        from: [usize; 2],
        to: [usize; 2],
        sha256: String,
    }

    /// `tests/goldens/make_scorers.py` says what Pillow gives.
    #[test]
    fn bytes_are_pillows_to_the_bit() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/goldens/scorers/resized.json"
        );
        let cases: Vec<Resized> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(cases.len() > 5);
        for Resized { from, to, sha256 } in cases {
            let mut values = Vec::new();
            for (y, x) in (0..from[1]).flat_map(|y| (0..from[0]).map(move |x| (y, x))) {
                for c in 0..3 {
                    let waves = x * 4 + y * (5 + 2 * c) + x * y / (4 + c);
                    let blocks = (x / 7 + y / 5 + 1) % 3 * 60 * (c + 1);
                    values.push(((waves + blocks) % 256) as u8);
                }
            }
            let picture = Samples {
                values,
                width: from[0],
                height: from[1],
            };
            let digest = Sha256::digest(bicubic(&picture, to[0], to[1]).values);
            let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(digest, sha256, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn an_even_picture_stays_even_at_every_size() {
        for (width, height) in [(1, 1), (3, 9), (40, 7), (64, 64)] {
            let picture = Samples {
                values: vec![201u8; 3 * 20 * 13],
                width: 20,
                height: 13,
            };
            let resized = bicubic(&picture, width, height);
            assert_eq!(resized.values, vec![201; 3 * width * height]);
        }
    }

    #[test]
    fn bytes_are_kept_in_their_range_and_floats_may_leave_it() {
        let edge = |high: f32| (0..24).map(move |i| if i < 12 { 0.0 } else { high });
        let floats = Samples {
            values: edge(1.0).collect(),
            width: 8,
            height: 1,
        };
        let most = bicubic(&floats, 32, 1).values.into_iter().reduce(f32::max);
        assert!(most.unwrap() > 1.01);
        let bytes = Samples {
            values: edge(255.0).map(|v| v as u8).collect(),
            width: 8,
            height: 1,
        };
        let wide = bicubic(&bytes, 32, 1).values;
        assert!(wide.contains(&0) && wide.contains(&255));
    }
}
