//! Multi-head attention, and the tap that keeps its probabilities.

use candle_core::{D, DType, Tensor};

use super::cpu;
use super::cpu::attention::Shape;
use crate::Result;

/// Scaled dot-product attention over tokens. `q`: (rows, queries, heads·dim); `k`, `v`: (rows,
/// keys, heads·dim). Gives (rows, queries, heads·dim) and, where `keep` asks for them, the
/// probabilities (rows, heads, queries, keys).
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    keep: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    if cpu::applies_to(q) {
        return attend_cpu(q, k, v, heads, keep, false);
    }
    attend_masked(q, k, v, heads, keep, None)
}

/// [`attend`] where a query sees the keys up to its own position only.
pub fn attend_causal(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    if cpu::applies_to(q) {
        return Ok(attend_cpu(q, k, v, heads, false, true)?.0);
    }
    let tokens = q.dim(1)?;
    let mask: Vec<f32> = (0..tokens)
        .flat_map(|i| (0..tokens).map(move |j| if j <= i { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    let mask = Tensor::from_vec(mask, (tokens, tokens), q.device())?.to_dtype(q.dtype())?;
    Ok(attend_masked(q, k, v, heads, false, Some(&mask))?.0)
}

fn attend_cpu(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    keep: bool,
    causal: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (rows, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    let shape = Shape {
        queries,
        keys,
        heads,
        dim: width / heads,
        causal,
    };
    let kept_size = heads * queries * keys;
    let mut kept = vec![0f32; if keep { rows * kept_size } else { 0 }];
    let out = cpu::with_values(q, |q_values| {
        cpu::with_values(k, |k| {
            cpu::with_values(v, |v| {
                cpu::tensor(q.dims(), |out| {
                    for row in 0..rows {
                        cpu::attention::attend(
                            &q_values[row * queries * width..][..queries * width],
                            &k[row * keys * width..][..keys * width],
                            &v[row * keys * width..][..keys * width],
                            shape,
                            &mut out[row * queries * width..][..queries * width],
                            keep.then(|| &mut kept[row * kept_size..][..kept_size]),
                        );
                    }
                })
            })
        })
    })???;
    let kept = keep
        .then(|| Tensor::from_vec(kept, (rows, heads, queries, keys), q.device()))
        .transpose()?;
    Ok((out?, kept))
}

fn attend_masked(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    keep: bool,
    mask: Option<&Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    let (rows, queries, width) = q.dims3()?;
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    let split = |x: &Tensor| -> Result<Tensor> {
        let tokens = x.dim(1)?;
        Ok(x.reshape((rows, tokens, heads, width / heads))?
            .transpose(1, 2)?
            .contiguous()?)
    };
    let scores = (split(q)?.matmul(&split(k)?.t()?)? * scale)?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    let probabilities = softmax(&scores)?;
    let out = probabilities
        .matmul(&split(v)?)?
        .transpose(1, 2)?
        .reshape((rows, queries, width))?;
    Ok((out, keep.then_some(probabilities)))
}

/// Softmax over the last dimension, in f32 at least.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let dtype = scores.dtype();
    let scores = match dtype {
        DType::F16 | DType::BF16 => scores.to_dtype(DType::F32)?,
        _ => scores.clone(),
    };
    debug_assert!(scores.dim(D::Minus1)? > 0);
    Ok(candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(dtype)?)
}
