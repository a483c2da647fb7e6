//! Attention of text and image among themselves, and the tap on what the image reads of the text.

use candle_core::Tensor;

use super::attention::{Context, attend, queries_at_once};
use crate::Result;

/// Attention over tokens of which the first `text_tokens` are the text's. `q`, `k`, `v`: (rows,
/// tokens, heads·dim). Gives a tensor like `q` and, where `keep` asks for them, the probabilities of
/// the image's queries over the text's keys, (rows, heads, image queries, text keys), out of one
/// softmax over all keys.
pub fn attend_joint(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    text_tokens: usize,
    keep: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let context = Context::new(k, v, heads)?;
    let (rows, tokens, _) = q.dims3()?;
    let at_once = queries_at_once(rows, heads, tokens);
    if !keep && context.holds_few_scores() {
        return attend(q, &context, heads, false);
    }
    let (mut outs, mut maps) = (Vec::new(), Vec::new());
    for (from, to, keep) in [(0, text_tokens, false), (text_tokens, tokens, keep)] {
        for start in (from..to).step_by(at_once) {
            let part = q.narrow(1, start, at_once.min(to - start))?;
            let (out, map) = attend(&part, &context, heads, keep)?;
            outs.push(out);
            if let Some(map) = map {
                maps.push(map.narrow(3, 0, text_tokens)?.contiguous()?);
            }
        }
    }
    let map = match keep {
        true => Some(Tensor::cat(&maps, 2)?),
        false => None,
    };
    Ok((Tensor::cat(&outs, 1)?, map))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn what_is_kept_is_the_images_part_of_the_text_and_changes_no_output() {
        let random = |at: u64| {
            let values: Vec<f32> = (0..7 * 8)
                .map(|i| ((i as u64 * 37 + at * 11) % 23) as f32 / 11.0 - 1.0)
                .collect();
            Tensor::from_vec(values, (1, 7, 8), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (random(1), random(2), random(3));
        let (plain, none) = attend_joint(&q, &k, &v, 2, 3, false).unwrap();
        let (tapped, map) = attend_joint(&q, &k, &v, 2, 3, true).unwrap();
        assert!(none.is_none());
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(&plain), flat(&tapped));
        let map = map.unwrap();
        assert_eq!(map.dims(), [1, 2, 4, 3]);
        let sums = flat(&map.sum(3).unwrap());
        assert!(sums.iter().all(|s| *s > 0.0 && *s < 1.0), "{sums:?}");
        let double = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let (_, other) = attend_joint(&double(&q), &double(&k), &double(&v), 2, 3, true).unwrap();
        let other = flat(&other.unwrap().to_dtype(DType::F32).unwrap());
        let near = flat(&map)
            .iter()
            .zip(&other)
            .all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near);
    }
}
