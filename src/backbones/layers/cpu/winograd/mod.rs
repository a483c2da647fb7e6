//! 3×3 convolutions by minimal filtering, F(m×m, 3×3) of Lavin & Gray 2016 ("Fast Algorithms for
//! Convolutional Neural Networks"): m² outputs from (m + 2)² multiplications a channel rather than 9m².
//!
//! ```text
//! tile of the input   d ─ Bᵀ d B ─┐
//! kernel 3×3          g ─ G g Gᵀ ─┴ a product over the channels for each point ─ Aᵀ m A ─ m×m of the output
//! ```

mod lanes;
mod tilings;

use rayon::prelude::*;

use super::product::{Left, Packed, SPLIT_OPERATIONS, product};
use super::scratch::Scratch;
use tilings::{LANES, Tiling};

/// Tiles that are transformed before they are multiplied, at least: enough for the products to pay, and
/// few enough to stay in a core's cache.
const STRIP_TILES: usize = 64;
/// Kernels of fewer channels are not worth the transforms; those of more would take too much memory,
/// 16 numbers for 9.
const CHANNELS: std::ops::RangeInclusive<usize> = 16..=320;
/// Up to so many channels the larger tiles are worth their memory, 36 numbers for 9.
const CHANNELS_OF_LARGE_TILES: usize = 128;

/// The kernel of a convolution of stride 1 that keeps the size, transformed.
#[derive(Clone, Debug)]
pub struct Winograd {
    tiling: &'static Tiling,
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
            && inputs.is_multiple_of(LANES / 2)
            && outputs.is_multiple_of(LANES / 2)
            && CHANNELS.contains(&inputs)
            && CHANNELS.contains(&outputs)
    }

    /// From the weight at (output, input, row, column).
    pub fn new(
        inputs: usize,
        outputs: usize,
        at: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Self {
        let tiling = match inputs.max(outputs) <= CHANNELS_OF_LARGE_TILES {
            true => &tilings::FOUR,
            false => &tilings::TWO,
        };
        Self::tiled(tiling, inputs, outputs, at)
    }

    fn tiled(
        tiling: &'static Tiling,
        inputs: usize,
        outputs: usize,
        at: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Self {
        // G g Gᵀ
        let point = |i: usize, j: usize, input: usize, output: usize| -> f32 {
            let mut sum = 0.0;
            for (row, by_row) in tiling.kernel[i].iter().enumerate() {
                for (column, by_column) in tiling.kernel[j].iter().enumerate() {
                    sum += by_row * by_column * f64::from(at(output, input, row, column));
                }
            }
            sum as f32
        };
        let side = tiling.points();
        let points = (0..side * side)
            .map(|p| Packed::new(inputs, outputs, |k, n| point(p / side, p % side, k, n)))
            .collect();
        Self {
            tiling,
            points,
            inputs,
            outputs,
        }
    }

    /// Of how many lines and columns of the output a tile is: images are padded to a multiple of them.
    pub fn side(&self) -> usize {
        self.tiling.side
    }

    /// Adds to `out` the convolution of images (height, width, in) that are padded by a pixel on the left
    /// and on top, and by at least one, to a multiple of [`Self::side`] and two, on the right and below.
    /// `biases` holds a row of `outputs` for each image, `out` its (height, width, out).
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
        let (n, side) = (self.outputs, self.tiling.side);
        assert_eq!(images.channels, self.inputs, "the channels of an image");
        // What a tile's lines of the output are made of, from the first image to the last.
        let mut lines: Vec<Lines<'_>> = out
            .chunks_exact_mut(h * w * n)
            .zip(biases.chunks_exact(n))
            .enumerate()
            .flat_map(|(image, (out, bias))| {
                let lines = out.chunks_mut(side * w * n).enumerate();
                lines.map(move |(y, out)| Lines {
                    from: images.line(image, side * y),
                    bias,
                    out,
                })
            })
            .collect();
        let tiles = w.div_ceil(side);
        let strip = (STRIP_TILES / tiles).max(1);
        let operations = 2 * self.points.len() * lines.len() * tiles * self.inputs * n;
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

    fn strip(&self, images: &Padded<'_>, lines: &mut [Lines<'_>], w: usize) {
        let (c, n, side) = (self.inputs, self.outputs, self.tiling.side);
        let tiles = w.div_ceil(side);
        let count = lines.len() * tiles;
        let (from_tile, to_tile) = (self.points.len() * c, self.points.len() * n);
        let mut scratch = Scratch::take(count * (from_tile + to_tile));
        let (transformed, products) = scratch.split(count * from_tile, count * to_tile);
        for (i, tile) in transformed.chunks_exact_mut(from_tile).enumerate() {
            let from = lines[i / tiles].from + i % tiles * side * c;
            (self.tiling.into_points)(&images.values[from..], images.width * c, c, tile);
        }
        let rows: Vec<usize> = (0..count).map(|i| i * from_tile).collect();
        for (p, weights) in self.points.iter().enumerate() {
            if images.doubled && self.tiling.is_between_doubles(p) {
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
            let lines = &mut lines[i / tiles];
            let first = i % tiles * side;
            let pixels = side.min(w - first);
            let out = &mut lines.out[first * n..];
            (self.tiling.out_of_points)(tile, lines.bias, out, w * n, pixels);
        }
    }
}

/// As many lines of an output as a tile has.
struct Lines<'a> {
    /// Where the first of the lines that they are made of begins in the images.
    from: usize,
    bias: &'a [f32],
    /// Fewer where these are the last.
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

impl Padded<'_> {
    fn line(&self, image: usize, y: usize) -> usize {
        (image * self.height + y) * self.width * self.channels
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
        for (tiling, bar) in [(&tilings::TWO, 2e-5), (&tilings::FOUR, 1e-4)] {
            convolves_as_by_the_definition(tiling, bar);
        }
    }

    fn convolves_as_by_the_definition(tiling: &'static Tiling, bar: f64) {
        let (c, n) = (32, 40);
        let (weights, biases) = (pattern(n * c * 9, 1), pattern(3 * n, 2));
        let kernel =
            |o: usize, i: usize, y: usize, x: usize| weights[((o * c + i) * 3 + y) * 3 + x];
        let winograd = Winograd::tiled(tiling, c, n, kernel);
        let padded_size = |size: usize| size.next_multiple_of(winograd.side()) + 2;
        for (rows, h, w) in [
            (1, 1, 1),
            (1, 2, 2),
            (3, 5, 3),
            (2, 8, 8),
            (1, 4, 131),
            (2, 33, 64),
        ] {
            let x = pattern(rows * h * w * c, 3);
            let (ph, pw) = (padded_size(h), padded_size(w));
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
                    (f64::from(*ours) - sum).abs() < bar,
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
        let (x, bias) = (pattern(h * w * c, 2), pattern(n, 3));
        for tiling in [&tilings::TWO, &tilings::FOUR] {
            let winograd = Winograd::tiled(tiling, c, n, kernel);
            let padded_size = |size: usize| size.next_multiple_of(winograd.side()) + 2;
            let (ph, pw) = (padded_size(2 * h), padded_size(2 * w));
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
}
