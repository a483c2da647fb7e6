//! Attention without the matrix of all scores: a block of queries at a time.

use rayon::prelude::*;

use super::math;
use super::norm::sum;
use super::product::{Left, Packed, product};
use super::vectorized;

/// Queries of which the scores are held at once.
const BLOCK: usize = 48;
/// Floating-point operations below which heads are not worth a second thread.
const SPLIT_OPERATIONS: usize = 16 << 20;

/// The shape of one attention.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    /// Channels of one head.
    pub dim: usize,
    /// A query sees the keys up to its own position only.
    pub causal: bool,
}

/// One row: `q` (queries, heads·dim), `k` and `v` (keys, heads·dim) → `out` like `q`; the
/// probabilities (heads, queries, keys) go to `kept` where it is given.
pub fn attend(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: Shape,
    out: &mut [f32],
    kept: Option<&mut [f32]>,
) {
    let Shape {
        queries,
        keys,
        heads,
        dim,
        ..
    } = shape;
    // A head's output is scattered over the rows of `out`: it is made apart, then copied.
    let mut outs = vec![0f32; out.len()];
    let mut none: Vec<f32> = Vec::new();
    let (kept, kept_size) = match kept {
        Some(kept) => (kept, queries * keys),
        None => (none.as_mut_slice(), 0),
    };
    let mut tasks: Vec<(usize, &mut [f32], &mut [f32])> = Vec::with_capacity(heads);
    let mut rest = kept;
    for (head, out) in outs.chunks_exact_mut(queries * dim).enumerate() {
        let (mine, others) = rest.split_at_mut(kept_size);
        rest = others;
        tasks.push((head, out, mine));
    }
    let run = |(head, out, kept): (usize, &mut [f32], &mut [f32])| {
        one_head(q, k, v, shape, head, out, kept);
    };
    if 4 * queries * keys * dim * heads > SPLIT_OPERATIONS {
        tasks.into_par_iter().for_each(run);
    } else {
        tasks.into_iter().for_each(run);
    }
    for (head, from) in outs.chunks_exact(queries * dim).enumerate() {
        for (i, line) in from.chunks_exact(dim).enumerate() {
            out[(i * heads + head) * dim..][..dim].copy_from_slice(line);
        }
    }
}

fn one_head(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: Shape,
    head: usize,
    out: &mut [f32],
    kept: &mut [f32],
) {
    let Shape {
        queries,
        keys,
        heads,
        dim,
        causal,
    } = shape;
    let width = heads * dim;
    let scale = 1.0 / (dim as f32).sqrt();
    let at = head * dim;
    let keys_across = Packed::new(dim, keys, |c, j| k[j * width + at + c] * scale);
    let values = Packed::new(keys, dim, |j, c| v[j * width + at + c]);
    let starts: Vec<usize> = (0..queries).map(|i| i * width + at).collect();
    let score_starts: Vec<usize> = (0..BLOCK).map(|i| i * keys).collect();
    let mut scores = vec![0f32; BLOCK.min(queries) * keys];
    for (block, rows) in starts.chunks(BLOCK).enumerate() {
        let first = block * BLOCK;
        let scores = &mut scores[..rows.len() * keys];
        let left = Left {
            values: q,
            rows,
            segments: &[0],
            run: dim,
        };
        product(&left, &keys_across, None, scores, keys);
        softmax(scores, keys, if causal { Some(first) } else { None });
        if !kept.is_empty() {
            kept[first * keys..][..scores.len()].copy_from_slice(scores);
        }
        let left = Left {
            values: scores,
            rows: &score_starts[..rows.len()],
            segments: &[0],
            run: keys,
        };
        product(
            &left,
            &values,
            None,
            &mut out[first * dim..][..rows.len() * dim],
            dim,
        );
    }
}

/// The largest value, in sixteen running parts like [`sum`].
#[inline(always)]
fn max(values: &[f32]) -> f32 {
    const PARTS: usize = 16;
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut parts = [f32::NEG_INFINITY; PARTS];
    let chunks = values.chunks_exact(PARTS);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (part, v) in parts.iter_mut().zip(chunk) {
            *part = larger(*part, *v);
        }
    }
    parts
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, larger)
}

vectorized! {
    /// Softmax of each row; where `causal` is given, row i sees `causal + i + 1` keys.
    fn softmax(scores: &mut [f32], keys: usize, causal: Option<usize>) {
        for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
            let seen = causal.map_or(keys, |first| (first + i + 1).min(keys));
            let (row, unseen) = row.split_at_mut(seen);
            unseen.fill(0.0);
            let max = max(row);
            for score in row.iter_mut() {
                *score = math::exp(*score - max);
            }
            let inverse = 1.0 / sum(row, |v| v);
            for score in row.iter_mut() {
                *score *= inverse;
            }
        }
    }
}
