//! Operations of the probe's own, forward and back: what candle lacks, or does slowly on small tensors
//! (a broadcast's gradient is a strided sum there).

use crate::backbones::layers::cpu::norm::{layer_norm, sum};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Shape, Tensor};

type Out<T> = candle_core::Result<T>;

/// Keeps a constant input from dividing by nothing.
const EPSILON: f32 = 1e-5;

/// The 3×3 neighbourhood of every cell, zeros beyond the edge:
/// (rows, height, width, c) → (rows, height, width, 9c).
pub struct Unfold;

/// The transpose of [`Unfold`]: adds every neighbourhood back to the cells it was read from.
struct Fold;

/// Calls `copy(cell, neighbour, offset)` for each pair of cells of a grid that are neighbours.
fn neighbours(
    (rows, height, width): (usize, usize, usize),
    mut copy: impl FnMut(usize, usize, usize),
) {
    for row in 0..rows {
        for y in 0..height {
            for x in 0..width {
                let cell = (row * height + y) * width + x;
                for offset in 0..9 {
                    let (ny, nx) = (y + offset / 3, x + offset % 3);
                    if (1..=height).contains(&ny) && (1..=width).contains(&nx) {
                        copy(cell, (row * height + ny - 1) * width + nx - 1, offset);
                    }
                }
            }
        }
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Out<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("a 3×3 neighbourhood is read from contiguous f32 only"),
    }
}

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold-3x3"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Out<(CpuStorage, Shape)> {
        let source = values(storage, layout)?;
        let (rows, height, width, c) = layout.shape().dims4()?;
        let mut out = vec![0f32; rows * height * width * 9 * c];
        neighbours((rows, height, width), |cell, neighbour, offset| {
            out[(cell * 9 + offset) * c..][..c].copy_from_slice(&source[neighbour * c..][..c]);
        });
        Ok((
            CpuStorage::F32(out),
            Shape::from((rows, height, width, 9 * c)),
        ))
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Out<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&Fold)?))
    }
}

impl CustomOp1 for Fold {
    fn name(&self) -> &'static str {
        "fold-3x3"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Out<(CpuStorage, Shape)> {
        let source = values(storage, layout)?;
        let (rows, height, width, c9) = layout.shape().dims4()?;
        let c = c9 / 9;
        let mut out = vec![0f32; rows * height * width * c];
        neighbours((rows, height, width), |cell, neighbour, offset| {
            let from = &source[(cell * 9 + offset) * c..][..c];
            let into = &mut out[neighbour * c..][..c];
            into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        });
        Ok((CpuStorage::F32(out), Shape::from((rows, height, width, c))))
    }
}

/// (x − mean) / deviation over the last dimension, times a scale, plus a shift.
pub struct Normalize;

/// The mean of a row, and one over its deviation.
fn moments(row: &[f32]) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum(row, |v| v) / n;
    let variance = sum(row, |v| (v - mean) * (v - mean)) / n;
    (mean, 1.0 / (variance + EPSILON).sqrt())
}

impl CustomOp3 for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Out<(CpuStorage, Shape)> {
        let x = values(x, x_layout)?;
        let (scale, shift) = (values(scale, scale_layout)?, values(shift, shift_layout)?);
        let mut out = vec![0f32; x.len()];
        layer_norm(x, scale, shift, EPSILON, &mut out);
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _shift: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Out<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        let (values, scales, grads) = (flat(x)?, flat(scale)?, flat(grad)?);
        let c = scales.len();
        let mut to_x = vec![0f32; values.len()];
        let (mut to_scale, mut to_shift) = (vec![0f32; c], vec![0f32; c]);
        let rows = values.chunks_exact(c).zip(grads.chunks_exact(c));
        for ((row, grad), out) in rows.zip(to_x.chunks_exact_mut(c)) {
            let (mean, inverse) = moments(row);
            let (mut sum, mut product) = (0.0, 0.0);
            for i in 0..c {
                let unit = (row[i] - mean) * inverse;
                to_scale[i] += grad[i] * unit;
                to_shift[i] += grad[i];
                sum += grad[i] * scales[i];
                product += grad[i] * scales[i] * unit;
            }
            let (sum, product) = (sum / c as f32, product / c as f32);
            for i in 0..c {
                let unit = (row[i] - mean) * inverse;
                out[i] = inverse * (grad[i] * scales[i] - sum - unit * product);
            }
        }
        let tensor = |v: Vec<f32>, like: &Tensor| Tensor::from_vec(v, like.shape(), like.device());
        Ok((
            Some(tensor(to_x, x)?),
            Some(tensor(to_scale, scale)?),
            Some(tensor(to_shift, scale)?),
        ))
    }
}

/// Adds row g of (groups, channels) to the g-th equal share of the rows of (…, channels).
pub struct AddRows;

impl CustomOp2 for AddRows {
    fn name(&self) -> &'static str {
        "add-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        added: &CpuStorage,
        added_layout: &Layout,
    ) -> Out<(CpuStorage, Shape)> {
        let (x, rows) = (values(x, x_layout)?, values(added, added_layout)?);
        let (groups, c) = added_layout.shape().dims2()?;
        if groups == 0 || c == 0 || x.len() % (groups * c) != 0 {
            candle_core::bail!("{groups} rows of {c} added to {} values", x.len());
        }
        let share = x.len() / groups;
        let mut out = x.to_vec();
        for (group, row) in out.chunks_exact_mut(share).zip(rows.chunks_exact(c)) {
            for cell in group.chunks_exact_mut(c) {
                cell.iter_mut().zip(row).for_each(|(a, b)| *a += b);
            }
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        added: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Out<(Option<Tensor>, Option<Tensor>)> {
        let (groups, c) = added.dims2()?;
        let grads = grad.flatten_all()?.to_vec1::<f32>()?;
        let mut sums = vec![0f32; groups * c];
        let share = grads.len() / groups;
        for (group, sum) in grads.chunks_exact(share).zip(sums.chunks_exact_mut(c)) {
            for cell in group.chunks_exact(c) {
                sum.iter_mut().zip(cell).for_each(|(a, b)| *a += b);
            }
        }
        let sums = Tensor::from_vec(sums, (groups, c), added.device())?;
        Ok((Some(grad.clone()), Some(sums)))
    }
}
