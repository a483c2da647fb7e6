//! Matrix products with packed weights, of which convolutions are a case: a row of the left side is
//! made of runs of values that lie anywhere in the input.

use std::sync::OnceLock;

use rayon::prelude::*;

/// The vector instructions that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub enum Instructions {
    Avx512,
    Avx2,
    Portable,
}

/// What this machine has, found once.
pub fn instructions() -> Instructions {
    static FOUND: OnceLock<Instructions> = OnceLock::new();
    *FOUND.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx512 && avx2 {
                return Instructions::Avx512;
            }
            if avx2 {
                return Instructions::Avx2;
            }
        }
        Instructions::Portable
    })
}

/// Columns of the right side that are computed together: two vectors.
fn panel() -> usize {
    match instructions() {
        Instructions::Avx512 => 32,
        Instructions::Avx2 | Instructions::Portable => PORTABLE_PANEL,
    }
}
const PORTABLE_PANEL: usize = 16;
/// Floating-point operations below which a product is not worth a second thread.
pub const SPLIT_OPERATIONS: usize = 16 << 20;

/// The right side of a product, (k, n), as panels of some columns, each row by row, the last filled up
/// with zeros.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    values: Vec<f32>,
    k: usize,
    n: usize,
}

impl Packed {
    /// From the value at (row, column).
    pub fn new(k: usize, n: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let wide = panel();
        let mut values = vec![0f32; n.next_multiple_of(wide) * k];
        for (p, panel) in values.chunks_exact_mut((wide * k).max(1)).enumerate() {
            let first = p * wide;
            let columns = wide.min(n - first);
            for (row, line) in panel.chunks_exact_mut(wide).enumerate() {
                for (j, value) in line[..columns].iter_mut().enumerate() {
                    *value = at(row, first + j);
                }
            }
        }
        Self { values, k, n }
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice())
    }
}

/// The left side of a product: row i is the runs of `run` values at `rows[i] + segment`, for each
/// of `segments`, one after another.
pub struct Left<'a> {
    pub values: &'a [f32],
    pub rows: &'a [usize],
    pub segments: &'a [usize],
    pub run: usize,
}

/// Writes left × right + bias to `out`, whose rows are `stride` apart, beginning with the first n
/// values of each. Every value is summed up in the order of k, whatever else is computed.
///
/// # Panics
/// Where the sizes do not go together: that is a bug in a layer.
pub fn product(
    left: &Left<'_>,
    right: &Packed,
    bias: Option<&[f32]>,
    out: &mut [f32],
    stride: usize,
) {
    let (k, n) = (right.k, right.n);
    let reach = |offsets: &[usize]| offsets.iter().max().copied().unwrap_or(0);
    assert_eq!(
        left.segments.len() * left.run,
        k,
        "left rows and right rows"
    );
    assert!(
        left.rows.is_empty()
            || reach(left.rows) + reach(left.segments) + left.run <= left.values.len(),
        "the left side reaches out of its values"
    );
    assert!(bias.is_none_or(|b| b.len() == n), "bias and columns");
    assert!(
        left.rows.is_empty() || (stride >= n && out.len() >= (left.rows.len() - 1) * stride + n),
        "the output is too small"
    );
    let mut padded = vec![0f32; n.next_multiple_of(panel())];
    if let Some(bias) = bias {
        padded[..n].copy_from_slice(bias);
    }
    let rows_a_task = (SPLIT_OPERATIONS / (2 * k * n).max(1)).max(TILE);
    let rows_a_task = rows_a_task.div_ceil(TILE) * TILE;
    if left.rows.len() <= rows_a_task {
        panels(left, left.rows, right, &padded, out, stride);
    } else {
        out.par_chunks_mut(rows_a_task * stride)
            .zip(left.rows.par_chunks(rows_a_task))
            .for_each(|(out, rows)| panels(left, rows, right, &padded, out, stride));
    }
}

/// Rows that are computed together.
const TILE: usize = 12;

fn panels(
    left: &Left<'_>,
    rows: &[usize],
    right: &Packed,
    bias: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    let kernel: Kernel = match instructions() {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => avx512::tile,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => avx2::tile,
        _ => portable,
    };
    let wide = panel();
    // A panel of the weights stays in the cache for all rows.
    for p in 0..right.n.div_ceil(wide) {
        let column = p * wide;
        let columns = wide.min(right.n - column);
        let weights = &right.values[column * right.k..][..wide * right.k];
        let bias = &bias[column..][..wide];
        let mut first = 0;
        while first < rows.len() {
            let count = match rows.len() - first {
                TILE.. => TILE,
                8.. => 8,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            let tile = &rows[first..first + count];
            let out = &mut out[first * stride + column..];
            // SAFETY: `product` checked that every run lies in the values; the slices are cut to
            // what the kernel reads, and `out` holds a row of `columns` at every stride.
            unsafe { kernel(left, tile, weights, bias, out, stride, columns) };
            first += count;
        }
    }
}

/// Computes 1, 2, 4, 8 or 12 rows of one panel.
type Kernel = unsafe fn(&Left<'_>, &[usize], &[f32], &[f32], &mut [f32], usize, usize);

unsafe fn portable(
    left: &Left<'_>,
    tile: &[usize],
    weights: &[f32],
    bias: &[f32],
    out: &mut [f32],
    stride: usize,
    columns: usize,
) {
    for (i, row) in tile.iter().enumerate() {
        let mut sums = [0f32; PORTABLE_PANEL];
        sums.copy_from_slice(bias);
        let mut weights = weights.chunks_exact(PORTABLE_PANEL);
        for segment in left.segments {
            for value in &left.values[row + segment..][..left.run] {
                if let Some(line) = weights.next() {
                    for (sum, weight) in sums.iter_mut().zip(line) {
                        *sum += value * weight;
                    }
                }
            }
        }
        out[i * stride..][..columns].copy_from_slice(&sums[..columns]);
    }
}

/// A kernel of explicit vector instructions: the sums of a tile stay in registers while the
/// weights stream by.
#[cfg(target_arch = "x86_64")]
macro_rules! vector_kernel {
    ($module:ident, $features:literal, $vector:ty, $lanes:literal, $rows:literal,
     $load:ident, $store:ident, $splat:ident, $fma:ident) => {
        mod $module {
            use std::arch::x86_64::*;

            use super::Left;

            const PANEL: usize = 2 * $lanes;

            /// # Safety
            /// The machine has the instructions; the slices hold what [`super::panels`] says.
            #[target_feature(enable = $features)]
            pub unsafe fn tile(
                left: &Left<'_>,
                tile: &[usize],
                weights: &[f32],
                bias: &[f32],
                out: &mut [f32],
                stride: usize,
                columns: usize,
            ) {
                let mut first = 0;
                while first < tile.len() {
                    // Two rows at a time take as long as four: 8 are not 6 and 2.
                    let count = match tile.len() - first {
                        8 if $rows < 8 => 4,
                        rest => rest.min($rows),
                    };
                    let rows = &tile[first..first + count];
                    // SAFETY: as for this function.
                    unsafe {
                        let (weights, bias) = (weights.as_ptr(), bias.as_ptr());
                        let out = out.as_mut_ptr().add(first * stride);
                        // One vector of columns where there are no more.
                        macro_rules! run {
                            ($m:literal) => {
                                if columns > $lanes {
                                    sums::<$m, 2>(left, rows, weights, bias, out, stride, columns)
                                } else {
                                    sums::<$m, 1>(left, rows, weights, bias, out, stride, columns)
                                }
                            };
                        }
                        match count {
                            12 => run!(12),
                            8 => run!(8),
                            6 => run!(6),
                            4 => run!(4),
                            2 => run!(2),
                            _ => {
                                for i in 0..count {
                                    let out = out.add(i * stride);
                                    let row = &rows[i..i + 1];
                                    if columns > $lanes {
                                        sums::<1, 2>(left, row, weights, bias, out, stride, columns)
                                    } else {
                                        sums::<1, 1>(left, row, weights, bias, out, stride, columns)
                                    }
                                }
                            }
                        }
                    }
                    first += count;
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn sums<const M: usize, const V: usize>(
                left: &Left<'_>,
                rows: &[usize],
                mut weights: *const f32,
                bias: *const f32,
                out: *mut f32,
                stride: usize,
                columns: usize,
            ) {
                // SAFETY: as for `tile`.
                unsafe {
                    let mut sums: [[$vector; V]; M] = std::array::from_fn(|_| {
                        std::array::from_fn(|j| $load(bias.add(j * $lanes)))
                    });
                    let values = left.values.as_ptr();
                    for segment in left.segments {
                        let runs: [*const f32; M] =
                            std::array::from_fn(|i| values.add(rows[i] + segment));
                        for c in 0..left.run {
                            let line: [$vector; V] =
                                std::array::from_fn(|j| $load(weights.add(j * $lanes)));
                            weights = weights.add(PANEL);
                            for i in 0..M {
                                let value = $splat(*runs[i].add(c));
                                for j in 0..V {
                                    sums[i][j] = $fma(value, line[j], sums[i][j]);
                                }
                            }
                        }
                    }
                    let columns = columns.min(V * $lanes);
                    for (i, sums) in sums.iter().enumerate() {
                        let out = out.add(i * stride);
                        if columns == V * $lanes {
                            for (j, sum) in sums.iter().enumerate() {
                                $store(out.add(j * $lanes), *sum);
                            }
                        } else {
                            let mut line = [0f32; PANEL];
                            for (j, sum) in sums.iter().enumerate() {
                                $store(line.as_mut_ptr().add(j * $lanes), *sum);
                            }
                            std::ptr::copy_nonoverlapping(line.as_ptr(), out, columns);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector_kernel!(
    avx512,
    "avx512f,avx512dq,avx512vl,avx2,fma",
    __m512,
    16,
    12,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
#[cfg(target_arch = "x86_64")]
vector_kernel!(
    avx2,
    "avx2,fma",
    __m256,
    8,
    6,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps
);

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(n: usize, salt: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 7919 + salt * 31) % 101) as f32 / 50.0 - 1.0)
            .collect()
    }

    #[test]
    fn products_of_every_shape_are_the_plain_sums_and_rows_do_not_depend_on_one_another() {
        for (m, k, n) in [
            (1, 3, 1),
            (5, 8, 33),
            (13, 20, 16),
            (31, 9, 70),
            (12, 64, 32),
            (700, 300, 48),
        ] {
            let (x, w, b) = (pattern(m * k, 1), pattern(k * n, 2), pattern(n, 3));
            let right = Packed::new(k, n, |i, j| w[i * n + j]);
            let rows: Vec<usize> = (0..m).map(|i| i * k).collect();
            let left = |rows| Left {
                values: &x,
                rows,
                segments: &[0],
                run: k,
            };
            let mut out = vec![0f32; m * n];
            product(&left(&rows), &right, Some(&b), &mut out, n);
            for i in 0..m {
                for j in 0..n {
                    let sum = (0..k).fold(b[j], |s, l| s + x[i * k + l] * w[l * n + j]);
                    let ours = out[i * n + j];
                    assert!(
                        (ours - sum).abs() < 1e-4,
                        "{m}×{k}×{n} at {i},{j}: {ours}, not {sum}"
                    );
                }
                let mut alone = vec![0f32; n];
                product(&left(&rows[i..i + 1]), &right, Some(&b), &mut alone, n);
                assert_eq!(alone, out[i * n..][..n], "row {i} of {m}×{k}×{n}");
            }
        }
    }
}
