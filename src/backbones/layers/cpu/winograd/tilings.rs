//! The transforms of F(2×2, 3×3) and F(4×4, 3×3). Those of the first add and halve, so that f32 keeps its
//! digits; those of the second multiply by up to 8 and divide by up to 24, which costs one of them.

use super::super::vectorized;
use super::lanes::{Lanes, load, minus, plus, times};

/// How an output is cut into tiles, and what each is made of.
#[derive(Debug)]
pub struct Tiling {
    /// Lines and columns of a tile of the output.
    pub side: usize,
    /// G: for each line or column of points its weights of the kernel's.
    pub kernel: &'static [[f64; 3]],
    /// A line or column of points that is nothing but a difference of neighbours which, in an image that
    /// is doubled, are the same: a tile's lines and columns are a b b c c … there, and Bᵀ makes b − b of them.
    between_doubles: usize,
    /// Bᵀ d B of the tile whose lines are `stride` apart, for each of `c` channels.
    pub into_points: fn(d: &[f32], stride: usize, c: usize, out: &mut [f32]),
    /// Adds Aᵀ m A and a bias of one tile to `pixels` of each line of `out` that is there, `stride` apart.
    pub out_of_points: fn(m: &[f32], bias: &[f32], out: &mut [f32], stride: usize, pixels: usize),
}

impl Tiling {
    /// Lines and columns of the points.
    pub fn points(&self) -> usize {
        self.side + 2
    }

    /// Whether a point is nothing where an image is doubled.
    pub fn is_between_doubles(&self, point: usize) -> bool {
        let side = self.points();
        point / side == self.between_doubles || point % side == self.between_doubles
    }
}

/// 16 multiplications for 36.
pub static TWO: Tiling = Tiling {
    side: 2,
    kernel: &[
        [1.0, 0.0, 0.0],
        [0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5],
        [0.0, 0.0, 1.0],
    ],
    between_doubles: 2,
    into_points: into_16,
    out_of_points: out_of_16,
};

/// 36 multiplications for 144.
pub static FOUR: Tiling = Tiling {
    side: 4,
    kernel: &[
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ],
    between_doubles: 2,
    into_points: into_36,
    out_of_points: out_of_36,
};

/// Bᵀ times a column, or B times a row.
#[inline(always)]
fn spread_4<const L: usize>([a, b, c, d]: [Lanes<L>; 4]) -> [Lanes<L>; 4] {
    [minus(a, c), plus(b, c), minus(c, b), minus(b, d)]
}

/// Aᵀ times a column, or A times a row.
#[inline(always)]
fn gather_4<const L: usize>([a, b, c, d]: [Lanes<L>; 4]) -> [Lanes<L>; 2] {
    [plus(plus(a, b), c), minus(minus(b, c), d)]
}

/// Bᵀ times a column, or B times a row.
#[inline(always)]
fn spread_6<const L: usize>([a, b, c, d, e, f]: [Lanes<L>; 6]) -> [Lanes<L>; 6] {
    let (sum, difference) = (minus(e, times(c, 4.0)), minus(d, times(b, 4.0)));
    let (wide, twice) = (minus(e, c), times(minus(d, b), 2.0));
    [
        plus(minus(times(a, 4.0), times(c, 5.0)), e),
        plus(sum, difference),
        // Written so that it is exactly 0 where b is c and d is e.
        plus(times(minus(b, c), 4.0), minus(e, d)),
        plus(wide, twice),
        minus(wide, twice),
        plus(minus(times(b, 4.0), times(d, 5.0)), f),
    ]
}

/// Aᵀ times a column, or A times a row.
#[inline(always)]
fn gather_6<const L: usize>([a, b, c, d, e, f]: [Lanes<L>; 6]) -> [Lanes<L>; 4] {
    let (near, apart) = (plus(b, c), minus(b, c));
    let (far, far_apart) = (plus(d, e), minus(d, e));
    [
        plus(plus(a, near), far),
        plus(apart, times(far_apart, 2.0)),
        plus(near, times(far, 4.0)),
        plus(plus(apart, times(far_apart, 8.0)), f),
    ]
}

/// Channels are transformed by so many where they go into them evenly, else by half as many.
pub const LANES: usize = 16;

/// The two directions of a tiling's transforms; macros, since what is compiled for the vectors at hand is
/// a function without parameters of type.
macro_rules! transforms {
    ($into:ident, $out_of:ident, $points:literal, $side:literal, $spread:ident, $gather:ident) => {
        vectorized! {
            fn $into(d: &[f32], stride: usize, c: usize, out: &mut [f32]) {
                #[inline(always)]
                fn by<const L: usize>(d: &[f32], stride: usize, c: usize, out: &mut [f32]) {
                    let out = &mut out[..$points * $points * c];
                    for at in (0..c).step_by(L) {
                        let mut columns = [[[0.0; L]; $points]; $points];
                        for (x, column) in columns.iter_mut().enumerate() {
                            let mut lines = [[0.0; L]; $points];
                            for (y, line) in lines.iter_mut().enumerate() {
                                *line = load(d, y * stride + x * c + at);
                            }
                            *column = $spread(lines);
                        }
                        for y in 0..$points {
                            let mut row = [[0.0; L]; $points];
                            for (value, column) in row.iter_mut().zip(&columns) {
                                *value = column[y];
                            }
                            for (x, point) in $spread(row).iter().enumerate() {
                                let to = ($points * y + x) * c + at;
                                out[to..to + L].copy_from_slice(point);
                            }
                        }
                    }
                }
                match c.is_multiple_of(LANES) {
                    true => by::<LANES>(d, stride, c, out),
                    false => by::<{ LANES / 2 }>(d, stride, c, out),
                }
            }
        }

        vectorized! {
            fn $out_of(m: &[f32], bias: &[f32], out: &mut [f32], stride: usize, pixels: usize) {
                #[inline(always)]
                fn by<const L: usize>(
                    m: &[f32],
                    bias: &[f32],
                    out: &mut [f32],
                    stride: usize,
                    pixels: usize,
                ) {
                    let n = bias.len();
                    let m = &m[..$points * $points * n];
                    for at in (0..n).step_by(L) {
                        let mut columns = [[[0.0; L]; $side]; $points];
                        for (x, column) in columns.iter_mut().enumerate() {
                            let mut lines = [[0.0; L]; $points];
                            for (y, line) in lines.iter_mut().enumerate() {
                                *line = load(m, ($points * y + x) * n + at);
                            }
                            *column = $gather(lines);
                        }
                        let bias: Lanes<L> = load(bias, at);
                        for (y, line) in out.chunks_mut(stride).take($side).enumerate() {
                            let mut row = [[0.0; L]; $points];
                            for (value, column) in row.iter_mut().zip(&columns) {
                                *value = column[y];
                            }
                            let own = $gather(row);
                            for (x, pixel) in own.into_iter().enumerate().take(pixels) {
                                let out = &mut line[x * n + at..][..L];
                                out.copy_from_slice(&plus(load(out, 0), plus(pixel, bias)));
                            }
                        }
                    }
                }
                match bias.len().is_multiple_of(LANES) {
                    true => by::<LANES>(m, bias, out, stride, pixels),
                    false => by::<{ LANES / 2 }>(m, bias, out, stride, pixels),
                }
            }
        }
    };
}

transforms!(into_16, out_of_16, 4, 2, spread_4, gather_4);
transforms!(into_36, out_of_36, 6, 4, spread_6, gather_6);
