//! 3×3 convolutions by minimal filtering, F(2×2, 3×3) of Lavin & Gray 2016 ("Fast Algorithms for
//! Convolutional Neural Networks"): four outputs from 16 multiplications a channel rather than 36.
//!
//! ```text
//! tile 4×4 of the input   d ─ Bᵀ d B ─┐
//! kernel 3×3              g ─ G g Gᵀ ─┴ 16 products over the channels ─ Aᵀ m A ─ 2×2 of the output
//! ```
//!
//! The transforms add and halve, so that f32 keeps its digits.

use rayon::prelude::*;

use super::product::{Left, Packed, SPLIT_OPERATIONS, product};
use super::scratch::Scratch;
use super::vectorized;

/// Values of a tile of the input, and products of each.
const POINTS: usize = 16;
/// Channels that are transformed together.
const LANES: usize = 8;
/// Tiles that are transformed before they are multiplied, at least: enough for the products to pay, and
/// few enough to stay in a core's cache.
const STRIP_TILES: usize = 64;
/// Kernels of fewer channels are not worth the transforms; those of more would take too much memory,
/// 16 numbers for 9.
const CHANNELS: std::ops::RangeInclusive<usize> = 16..=320;

/// The kernel of a convolution of stride 1 that keeps the size, transformed.
#[derive(Clone, Debug)]
pub struct Winograd {
    /// (in, out) of each point.
    points: Vec<Packed>,
    inputs: usize,
    outputs: usize,
}

impl Winograd {
    /// Whether it is worth it.
    pub fn suits(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> bool {
        kernel == 3
            && stride == 1
            && inputs.is_multiple_of(LANES)
            && outputs.is_multiple_of(LANES)
            && CHANNELS.contains(&inputs)
            && CHANNELS.contains(&outputs)
    }

    /// From the weight at (output, input, row, column).
    pub fn new(
        inputs: usize,
        outputs: usize,
        at: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Self {
        // G g Gᵀ
        const G: [[f64; 3]; 4] = [
            [1.0, 0.0, 0.0],
            [0.5, 0.5, 0.5],
            [0.5, -0.5, 0.5],
            [0.0, 0.0, 1.0],
        ];
        let point = |i: usize, j: usize, input: usize, output: usize| -> f32 {
            let mut sum = 0.0;
            for (row, by_row) in G[i].iter().enumerate() {
                for (column, by_column) in G[j].iter().enumerate() {
                    sum += by_row * by_column * f64::from(at(output, input, row, column));
                }
            }
            sum as f32
        };
        let points = (0..POINTS)
            .map(|p| Packed::new(inputs, outputs, |k, n| point(p / 4, p % 4, k, n)))
            .collect();
        Self {
            points,
            inputs,
            outputs,
        }
    }

    /// Adds to `out` the convolution of images (height, width, in) that are padded by a pixel on the left and on top, and by at
    /// least one, to an even number, on the right and below. `biases` holds a row of `outputs` for each
    /// image, `out` its (height, width, out).
    ///
    /// # Panics
    /// Where the sizes do not go together: that is a bug in a layer.
    pub fn forward_onto(
        &self,
        images: &Padded<'_>,
        (h, w): (usize, usize),
        biases: &[f32],
        out: &mut [f32],
    ) {
        let n = self.outputs;
        assert_eq!(images.channels, self.inputs, "the channels of an image");
        // What two lines of the output are made of, from the first image to the last.
        let mut lines: Vec<Line<'_>> = out
            .chunks_exact_mut(h * w * n)
            .zip(biases.chunks_exact(n))
            .enumerate()
            .flat_map(|(image, (out, bias))| {
                let lines = out.chunks_mut(2 * w * n).enumerate();
                lines.map(move |(y, out)| Line {
                    from: images.line(image, 2 * y),
                    bias,
                    out,
                })
            })
            .collect();
        let tiles = w.div_ceil(2);
        let strip = (STRIP_TILES / tiles).max(1);
        let operations = 2 * POINTS * lines.len() * tiles * self.inputs * n;
        if operations <= SPLIT_OPERATIONS {
            for lines in lines.chunks_mut(strip) {
                self.strip(images, lines, w);
            }
        } else {
            lines
                .par_chunks_mut(strip)
                .for_each(|lines| self.strip(images, lines, w));
        }
    }

    fn strip(&self, images: &Padded<'_>, lines: &mut [Line<'_>], w: usize) {
        let (c, n) = (self.inputs, self.outputs);
        let tiles = w.div_ceil(2);
        let count = lines.len() * tiles;
        let (from_tile, to_tile) = (POINTS * c, POINTS * n);
        let mut scratch = Scratch::take(count * (from_tile + to_tile));
        let (transformed, products) = scratch.split(count * from_tile, count * to_tile);
        for (i, tile) in transformed.chunks_exact_mut(from_tile).enumerate() {
            let from = lines[i / tiles].from + i % tiles * 2 * c;
            into_points(&images.values[from..], images.width * c, c, tile);
        }
        let rows: Vec<usize> = (0..count).map(|i| i * from_tile).collect();
        for (p, weights) in self.points.iter().enumerate() {
            if images.doubled && is_between_doubles(p) {
                for tile in products.chunks_exact_mut(to_tile) {
                    tile[p * n..][..n].fill(0.0);
                }
                continue;
            }
            let left = Left {
                values: &transformed[p * c..],
                rows: &rows,
                segments: &[0],
                run: c,
            };
            product(&left, weights, None, &mut products[p * n..], to_tile);
        }
        for (i, tile) in products.chunks_exact(to_tile).enumerate() {
            let line = &mut lines[i / tiles];
            let (first, second) = line.out.split_at_mut(w * n);
            let pixels = i % tiles * 2 * n;
            let first = &mut first[pixels..];
            let second = second.get_mut(pixels..).unwrap_or_default();
            out_of_points(tile, line.bias, first, second);
        }
    }
}

/// Two lines of an output.
struct Line<'a> {
    /// Where the first of the four lines that it is made of begins in the images.
    from: usize,
    bias: &'a [f32],
    /// One line where the height is odd and this is the last.
    out: &'a mut [f32],
}

/// Images (height, width, channels), one after another.
pub struct Padded<'a> {
    pub values: &'a [f32],
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Whether they are images of half the size, each pixel of which is there four times.
    pub doubled: bool,
}

/// Whether a point of a tile is nothing but a difference of neighbours which, in an image that is doubled,
/// are the same: a tile's lines and columns are a b b c there, and Bᵀ makes b − b of the middle ones.
fn is_between_doubles(point: usize) -> bool {
    point / 4 == 2 || point % 4 == 2
}

impl Padded<'_> {
    fn line(&self, image: usize, y: usize) -> usize {
        (image * self.height + y) * self.width * self.channels
    }
}

/// One number of each of some channels. What follows is written out, without closures over arrays: what
/// the standard library makes of those is not compiled for the vectors that are at hand.
type Lanes = [f32; LANES];

const ZERO: Lanes = [0.0; LANES];

#[inline(always)]
fn load(from: &[f32], at: usize) -> Lanes {
    let mut lanes = ZERO;
    lanes.copy_from_slice(&from[at..at + LANES]);
    lanes
}

#[inline(always)]
fn plus(mut x: Lanes, y: Lanes) -> Lanes {
    for (x, y) in x.iter_mut().zip(&y) {
        *x += y;
    }
    x
}

#[inline(always)]
fn minus(mut x: Lanes, y: Lanes) -> Lanes {
    for (x, y) in x.iter_mut().zip(&y) {
        *x -= y;
    }
    x
}

/// Bᵀ times a column, or B times a row.
#[inline(always)]
fn spread([a, b, c, d]: [Lanes; 4]) -> [Lanes; 4] {
    [minus(a, c), plus(b, c), minus(c, b), minus(b, d)]
}

/// Aᵀ times a column, or A times a row.
#[inline(always)]
fn gather([a, b, c, d]: [Lanes; 4]) -> [Lanes; 2] {
    [plus(plus(a, b), c), minus(minus(b, c), d)]
}

vectorized! {
    /// Bᵀ d B of the tile whose lines are `stride` apart, for each of `c` channels.
    fn into_points(d: &[f32], stride: usize, c: usize, out: &mut [f32]) {
        let line = |y: usize| &d[y * stride..][..4 * c];
        let (first, second, third, fourth) = (line(0), line(1), line(2), line(3));
        let out = &mut out[..POINTS * c];
        for at in (0..c).step_by(LANES) {
            let mut columns = [[ZERO; 4]; 4];
            for (x, column) in columns.iter_mut().enumerate() {
                let from = x * c + at;
                *column = spread([
                    load(first, from),
                    load(second, from),
                    load(third, from),
                    load(fourth, from),
                ]);
            }
            let row = |y: usize| [columns[0][y], columns[1][y], columns[2][y], columns[3][y]];
            for y in 0..4 {
                let points = spread(row(y));
                for (x, point) in points.iter().enumerate() {
                    let to = (4 * y + x) * c + at;
                    out[to..to + LANES].copy_from_slice(point);
                }
            }
        }
    }
}

vectorized! {
    /// Adds Aᵀ m A and a bias of one tile: to two pixels of each line, or one where it ends.
    fn out_of_points(m: &[f32], bias: &[f32], first: &mut [f32], second: &mut [f32]) {
        let n = bias.len();
        let m = &m[..POINTS * n];
        for at in (0..n).step_by(LANES) {
            let mut columns = [[ZERO; 2]; 4];
            for (x, column) in columns.iter_mut().enumerate() {
                let from = x * n + at;
                *column = gather([
                    load(m, from),
                    load(m, from + 4 * n),
                    load(m, from + 8 * n),
                    load(m, from + 12 * n),
                ]);
            }
            let bias = load(bias, at);
            let row = |y: usize| [columns[0][y], columns[1][y], columns[2][y], columns[3][y]];
            for y in 0..2 {
                let pixels = gather(row(y));
                let line = if y == 0 { &mut *first } else { &mut *second };
                for (x, pixel) in pixels.into_iter().enumerate() {
                    if let Some(out) = line.get_mut(x * n + at..x * n + at + LANES) {
                        out.copy_from_slice(&plus(load(out, 0), plus(pixel, bias)));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(n: usize, salt: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 7919 + salt * 31) % 1009) as f32 / 504.5 - 1.0)
            .collect()
    }

    #[test]
    fn images_of_every_size_are_convolved_as_by_the_definition() {
        let (c, n) = (32, 40);
        let (weights, biases) = (pattern(n * c * 9, 1), pattern(3 * n, 2));
        let kernel =
            |o: usize, i: usize, y: usize, x: usize| weights[((o * c + i) * 3 + y) * 3 + x];
        let winograd = Winograd::new(c, n, kernel);
        for (rows, h, w) in [
            (1, 1, 1),
            (1, 2, 2),
            (3, 5, 3),
            (2, 8, 8),
            (1, 4, 131),
            (2, 33, 64),
        ] {
            let x = pattern(rows * h * w * c, 3);
            let (ph, pw) = (h.next_multiple_of(2) + 2, w.next_multiple_of(2) + 2);
            let mut padded = vec![0f32; rows * ph * pw * c];
            for i in 0..rows * h * w {
                let (row, y, x_at) = (i / (h * w), i / w % h, i % w);
                let to = ((row * ph + y + 1) * pw + x_at + 1) * c;
                padded[to..to + c].copy_from_slice(&x[i * c..][..c]);
            }
            let images = Padded {
                values: &padded,
                height: ph,
                width: pw,
                channels: c,
                doubled: false,
            };
            let before = pattern(rows * h * w * n, 4);
            let mut out = before.clone();
            winograd.forward_onto(&images, (h, w), &biases[..rows * n], &mut out);
            for (at, ours) in out.iter().enumerate() {
                let (pixel, o) = (at / n, at % n);
                let (row, y, x_at) = (pixel / (h * w), pixel / w % h, pixel % w);
                let mut sum = f64::from(before[at]) + f64::from(biases[row * n + o]);
                for (dy, dx) in (0..9).map(|i| (i / 3, i % 3)) {
                    for i in 0..c {
                        let value = padded[((row * ph + y + dy) * pw + x_at + dx) * c + i];
                        sum += f64::from(value) * f64::from(kernel(o, i, dy, dx));
                    }
                }
                assert!(
                    (f64::from(*ours) - sum).abs() < 2e-5,
                    "{rows}×{h}×{w} at {at}: {ours}, not {sum}"
                );
            }
            // An image alone is the same to the bit.
            let mut alone = before[..h * w * n].to_vec();
            let image = Padded {
                values: &padded[..ph * pw * c],
                ..images
            };
            winograd.forward_onto(&image, (h, w), &biases[..n], &mut alone);
            assert_eq!(alone, out[..h * w * n]);
        }
    }

    #[test]
    fn a_doubled_image_is_convolved_with_fewer_products_and_the_same_result() {
        let (c, n, h, w) = (16, 24, 5, 7);
        let weights = pattern(n * c * 9, 1);
        let kernel =
            |o: usize, i: usize, y: usize, x: usize| weights[((o * c + i) * 3 + y) * 3 + x];
        let winograd = Winograd::new(c, n, kernel);
        let (x, bias) = (pattern(h * w * c, 2), pattern(n, 3));
        let (ph, pw) = (2 * h + 2, 2 * w + 2);
        let mut padded = vec![0f32; ph * pw * c];
        for (y, x_at) in (0..4 * h * w).map(|i| (i / (2 * w), i % (2 * w))) {
            let from = (y / 2 * w + x_at / 2) * c;
            padded[((y + 1) * pw + x_at + 1) * c..][..c].copy_from_slice(&x[from..][..c]);
        }
        let convolved = |doubled| {
            let images = Padded {
                values: &padded,
                height: ph,
                width: pw,
                channels: c,
                doubled,
            };
            let mut out = vec![0.0; 4 * h * w * n];
            winograd.forward_onto(&images, (2 * h, 2 * w), &bias, &mut out);
            out
        };
        assert_eq!(convolved(true), convolved(false));
    }
}
