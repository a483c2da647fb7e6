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

/// Keys and values of one row, packed a head at a time: what attends to the same text again can keep
/// them.
#[derive(Debug)]
pub struct Context {
    heads: Vec<(Packed, Packed)>,
    keys: usize,
    /// Channels of one head.
    dim: usize,
}

impl Context {
    /// `k` and `v`: (keys, heads·dim).
    pub fn new(k: &[f32], v: &[f32], keys: usize, heads: usize) -> Self {
        let width = k.len() / keys;
        let dim = width / heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let head = |head: usize| {
            let at = head * dim;
            (
                Packed::new(dim, keys, |c, j| k[j * width + at + c] * scale),
                Packed::new(keys, dim, |j, c| v[j * width + at + c]),
            )
        };
        Self {
            heads: (0..heads).map(head).collect(),
            keys,
            dim,
        }
    }

    pub fn keys(&self) -> usize {
        self.keys
    }

    pub fn bytes(&self) -> usize {
        let pairs = self.heads.iter();
        pairs.map(|(k, v)| k.bytes() + v.bytes()).sum()
    }
}

/// One row: `q` (queries, heads·dim) → `out` like it; the probabilities (heads, queries, keys) go to
/// `kept` where it is given. Where `causal`, a query sees the keys up to its own position only.
pub fn attend(
    q: &[f32],
    context: &Context,
    causal: bool,
    out: &mut [f32],
    kept: Option<&mut [f32]>,
) {
    let (heads, dim, keys) = (context.heads.len(), context.dim, context.keys);
    let queries = q.len() / (heads * dim);
    // A head's output is scattered over the rows of `out`: it is made apart, then copied.
    let mut outs = vec![0f32; out.len()];
    let (mut rest, kept_size) = match kept {
        Some(kept) => (kept, queries * keys),
        None => (Default::default(), 0),
    };
    let mut tasks: Vec<(usize, &mut [f32], &mut [f32])> = Vec::with_capacity(heads);
    for (head, out) in outs.chunks_exact_mut(queries * dim).enumerate() {
        let (mine, others) = rest.split_at_mut(kept_size);
        rest = others;
        tasks.push((head, out, mine));
    }
    let run = |(head, out, kept): (usize, &mut [f32], &mut [f32])| {
        one_head(q, context, head, causal, out, kept);
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
    context: &Context,
    head: usize,
    causal: bool,
    out: &mut [f32],
    kept: &mut [f32],
) {
    let (heads, dim, keys) = (context.heads.len(), context.dim, context.keys);
    let (keys_across, values) = &context.heads[head];
    let width = heads * dim;
    let queries = q.len() / width;
    let starts: Vec<usize> = (0..queries).map(|i| i * width + head * dim).collect();
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
        product(&left, keys_across, None, scores, keys);
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
        let out = &mut out[first * dim..][..rows.len() * dim];
        product(&left, values, None, out, dim);
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
