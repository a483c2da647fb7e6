//! Multi-head attention, and the tap that keeps its probabilities.

use std::sync::Arc;

use candle_core::{D, DType, Tensor};
use candle_transformers::utils::build_additive_causal_mask;

use super::cpu;
use crate::Result;

/// Scores that are held at once where a device has no kernel of ours: at 1024² all scores of a block
/// would take gigabytes.
pub const SCORES: usize = 1 << 25;

/// What is attended to: the keys and values of some tokens.
#[derive(Clone, Debug)]
pub struct Context(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// f32 on the CPU, one a row.
    Packed(Vec<Arc<cpu::attention::Context>>),
    /// (rows, keys, heads·dim)
    Tensors { k: Tensor, v: Tensor },
}

impl Context {
    /// `k`, `v`: (rows, keys, heads·dim).
    pub fn new(k: &Tensor, v: &Tensor, heads: usize) -> Result<Self> {
        if !cpu::applies_to(k) {
            let (k, v) = (k.clone(), v.clone());
            return Ok(Self(Kind::Tensors { k, v }));
        }
        let (_, keys, width) = k.dims3()?;
        let size = keys * width;
        let packed = cpu::with_values(k, |k| {
            cpu::with_values(v, |v| {
                let rows = k.chunks_exact(size).zip(v.chunks_exact(size));
                rows.map(|(k, v)| Arc::new(cpu::attention::Context::new(k, v, keys, heads)))
                    .collect()
            })
        })??;
        Ok(Self(Kind::Packed(packed)))
    }

    /// The rows of several, all of one kind and length.
    pub fn stack(contexts: &[Self]) -> Result<Self> {
        if let [one] = contexts {
            return Ok(one.clone());
        }
        let (mut packed, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for context in contexts {
            match &context.0 {
                Kind::Packed(rows) => packed.extend(rows.iter().cloned()),
                Kind::Tensors { k, v } => {
                    keys.push(k);
                    values.push(v);
                }
            }
        }
        if keys.is_empty() {
            return Ok(Self(Kind::Packed(packed)));
        }
        let (k, v) = (Tensor::cat(&keys, 0)?, Tensor::cat(&values, 0)?);
        Ok(Self(Kind::Tensors { k, v }))
    }

    /// Whether attending to it holds the scores of a few queries at a time rather than of all.
    pub fn holds_few_scores(&self) -> bool {
        matches!(self.0, Kind::Packed(_))
    }

    pub fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Packed(rows) => rows.iter().map(|c| c.bytes()).sum(),
            Kind::Tensors { k, .. } => 2 * k.elem_count() * k.dtype().size_in_bytes(),
        }
    }
}

/// Scaled dot-product attention over tokens. `q`: (rows, queries, heads·dim). Gives (rows, queries,
/// heads·dim) and, where `keep` asks for them, the probabilities (rows, heads, queries, keys).
pub fn attend(
    q: &Tensor,
    context: &Context,
    heads: usize,
    keep: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    match &context.0 {
        Kind::Packed(rows) => attend_packed(q, rows, heads, keep, false),
        Kind::Tensors { k, v } => attend_masked(q, k, v, heads, keep, None),
    }
}

/// [`attend`] where a query sees the keys up to its own position only.
pub fn attend_causal(q: &Tensor, context: &Context, heads: usize) -> Result<Tensor> {
    match &context.0 {
        Kind::Packed(rows) => Ok(attend_packed(q, rows, heads, false, true)?.0),
        Kind::Tensors { k, v } => {
            let tokens = q.dim(1)?;
            let mask =
                build_additive_causal_mask(tokens, 0, None, q.device(), q.dtype())?.squeeze(0)?;
            let mask = mask.squeeze(0)?;
            Ok(attend_masked(q, k, v, heads, false, Some(&mask))?.0)
        }
    }
}

fn attend_packed(
    q: &Tensor,
    rows: &[Arc<cpu::attention::Context>],
    heads: usize,
    keep: bool,
    causal: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (_, queries, width) = q.dims3()?;
    let keys = rows.first().map_or(0, |c| c.keys());
    let (size, kept_size) = (queries * width, heads * queries * keys);
    let mut kept = vec![0f32; if keep { rows.len() * kept_size } else { 0 }];
    let out = cpu::with_values(q, |q_values| {
        cpu::tensor(q.dims(), |out| {
            for (row, context) in rows.iter().enumerate() {
                let own = row * size..(row + 1) * size;
                let kept = keep.then(|| &mut kept[row * kept_size..][..kept_size]);
                let (q, out) = (&q_values[own.clone()], &mut out[own]);
                cpu::attention::attend(q, context, causal, out, kept);
            }
        })
    })??;
    let kept = keep
        .then(|| Tensor::from_vec(kept, (rows.len(), heads, queries, keys), q.device()))
        .transpose()?;
    Ok((out, kept))
}

fn attend_masked(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    keep: bool,
    mask: Option<&Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    let at_once = queries_at_once(q.dim(0)?, heads, k.dim(1)?);
    attend_in_parts(q, (k, v), heads, keep, mask, at_once)
}

/// [`attend_masked`] with the scores of `at_once` queries in memory.
fn attend_in_parts(
    q: &Tensor,
    (k, v): (&Tensor, &Tensor),
    heads: usize,
    keep: bool,
    mask: Option<&Tensor>,
    at_once: usize,
) -> Result<(Tensor, Option<Tensor>)> {
    let queries = q.dim(1)?;
    if queries <= at_once {
        return attend_at_once(q, k, v, heads, keep, mask);
    }
    let (mut outs, mut maps) = (Vec::new(), Vec::new());
    for start in (0..queries).step_by(at_once) {
        let count = at_once.min(queries - start);
        let mask = mask.map(|mask| mask.narrow(0, start, count)).transpose()?;
        let part = q.narrow(1, start, count)?.contiguous()?;
        let (out, map) = attend_at_once(&part, k, v, heads, keep, mask.as_ref())?;
        outs.push(out);
        maps.extend(map);
    }
    let map = match keep {
        true => Some(Tensor::cat(&maps, 2)?),
        false => None,
    };
    Ok((Tensor::cat(&outs, 1)?, map))
}

/// Queries whose scores over so many keys are held at once.
pub fn queries_at_once(rows: usize, heads: usize, keys: usize) -> usize {
    (SCORES / (rows * heads * keys).max(1)).max(1)
}

fn attend_at_once(
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn some(at: usize, tokens: usize) -> Tensor {
        let values: Vec<f64> = (0..2 * tokens * 6)
            .map(|i| ((i * 37 + at * 11) % 23) as f64 / 11.0 - 1.0)
            .collect();
        Tensor::from_vec(values, (2, tokens, 6), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_causal_mask_of_tensors_hides_what_the_cpus_own_loop_does_not_visit() {
        let (q, k, v) = (some(1, 7), some(2, 7), some(3, 7));
        let causal = |dtype| {
            let [q, k, v] = [&q, &k, &v].map(|t| t.to_dtype(dtype).unwrap());
            let context = Context::new(&k, &v, 3).unwrap();
            let y = attend_causal(&q, &context, 3).unwrap();
            y.to_dtype(DType::F64).unwrap()
        };
        let apart = (causal(DType::F32) - causal(DType::F64))
            .unwrap()
            .abs()
            .unwrap();
        assert!(apart.max_all().unwrap().to_scalar::<f64>().unwrap() < 1e-6);
    }

    #[test]
    fn attending_in_parts_gives_what_attending_at_once_gives() {
        let (q, k, v) = (some(1, 7), some(2, 7), some(3, 7));
        let mask = Tensor::tril2(7, DType::F64, &Device::Cpu).unwrap();
        let of = |at_once, mask| attend_in_parts(&q, (&k, &v), 3, true, mask, at_once).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for mask in [None, Some(&mask)] {
            let (whole, whole_map) = of(7, mask);
            let (parts, map) = of(3, mask);
            assert_eq!(map.as_ref().unwrap().dims(), [2, 3, 7, 7]);
            let pairs = [(&whole, &parts), (&whole_map.unwrap(), &map.unwrap())];
            for (one, other) in pairs {
                let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
                assert!(flat(one).iter().zip(&flat(other)).all(near));
            }
        }
    }
}
