//! What the attention maps say of the words: the same for every network that reads them, and without
//! weights, so that it is worked out once for a batch, in plain loops over small arrays.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::Result;

/// Keeps what nobody attends to from being divided by.
const EPSILON: f32 = 1e-6;

/// Of a batch's maps.
#[derive(Clone, Debug)]
pub struct Attended {
    /// (rows, cells × blocks, keys): of what a cell attends to words at all, each key's share. Most of
    /// a map goes to the first key, which means nothing and has none.
    pub share: Tensor,
    /// (rows, cells × blocks, 1): how much a cell attends to words at all.
    pub mass: Tensor,
    /// (rows, words, cells): where a word is looked at, the mean over the blocks of maps that each
    /// sum to 1.
    pub looked: Tensor,
    /// (rows, words, blocks): how much of the attention a word gets, averaged over the cells.
    pub word_mass: Tensor,
    /// (rows, words, blocks): the word's peak over that mean.
    pub concentration: Tensor,
}

/// The attention that one row's maps give to its words.
pub struct Row<'a> {
    /// (blocks, cells, keys)
    pub maps: &'a [f32],
    /// (keys): whether one carries a word.
    pub is_key: &'a [f32],
    /// The keys of each word; a word that was cut off has none.
    pub words: &'a [Range<usize>],
}

impl Attended {
    /// Of rows that are alike in blocks, cells and keys; to `most_words` words each.
    pub fn of(
        rows: &[Row<'_>],
        (blocks, cells, keys): (usize, usize, usize),
        most_words: usize,
    ) -> Result<Self> {
        let n = rows.len();
        let mut share = vec![0f32; n * cells * blocks * keys];
        let mut mass = vec![0f32; n * cells * blocks];
        let mut looked = vec![0f32; n * most_words * cells];
        let mut word_mass = vec![0f32; n * most_words * blocks];
        let mut concentration = vec![0f32; n * most_words * blocks];
        let mut seen = vec![0f32; cells];
        for (i, row) in rows.iter().enumerate() {
            for (at, map) in row.maps.chunks_exact(keys).enumerate() {
                let to = (i * cells + at % cells) * blocks + at / cells;
                let own = &mut share[to * keys..][..keys];
                for ((own, value), is_key) in own.iter_mut().zip(map).zip(row.is_key) {
                    *own = value * is_key;
                }
                let sum: f32 = own.iter().sum();
                mass[to] = sum;
                let scale = 1.0 / (sum + EPSILON);
                own.iter_mut().for_each(|value| *value *= scale);
            }
            for (w, word) in row.words.iter().enumerate().filter(|(_, w)| !w.is_empty()) {
                let own = i * most_words + w;
                let looked = &mut looked[own * cells..][..cells];
                let each = 1.0 / word.len() as f32;
                for (block, map) in row.maps.chunks_exact(cells * keys).enumerate() {
                    for (seen, cell) in seen.iter_mut().zip(map.chunks_exact(keys)) {
                        *seen = cell[word.clone()].iter().sum::<f32>() * each;
                    }
                    let sum: f32 = seen.iter().sum();
                    let peak = seen.iter().copied().fold(0.0, f32::max);
                    let mean = sum / cells as f32;
                    word_mass[own * blocks + block] = mean;
                    concentration[own * blocks + block] = peak / (mean + EPSILON);
                    let scale = 1.0 / ((sum + EPSILON) * blocks as f32);
                    looked
                        .iter_mut()
                        .zip(&seen)
                        .for_each(|(a, b)| *a += b * scale);
                }
            }
        }
        let tensor =
            |values, shape: (usize, usize, usize)| Tensor::from_vec(values, shape, &Device::Cpu);
        Ok(Self {
            share: tensor(share, (n, cells * blocks, keys))?,
            mass: tensor(mass, (n, cells * blocks, 1))?,
            looked: tensor(looked, (n, most_words, cells))?,
            word_mass: tensor(word_mass, (n, most_words, blocks))?,
            concentration: tensor(concentration, (n, most_words, blocks))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_looked_at_where_its_keys_are() {
        // Two blocks of two cells and three keys; the first key means nothing.
        let maps = [
            [0.8, 0.2, 0.0],
            [0.4, 0.3, 0.3], //
            [0.5, 0.5, 0.0],
            [1.0, 0.0, 0.0f32],
        ];
        let row = Row {
            maps: maps.as_flattened(),
            is_key: &[0.0, 1.0, 1.0],
            words: &[1..3, 2..2],
        };
        let seen = Attended::of(&[row], (2, 2, 3), 2).unwrap();
        let all = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let near = |t: &Tensor, wanted: &[f32]| {
            let found = all(t);
            let far = found.iter().zip(wanted).any(|(a, b)| (a - b).abs() > 1e-4);
            assert!(
                found.len() == wanted.len() && !far,
                "{found:?} for {wanted:?}"
            );
        };
        near(&seen.mass, &[0.2, 0.5, 0.6, 0.0]);
        let share = [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0];
        near(&seen.share, &share);
        // The first word: maps of 0.1 and 0.3, then of 0.25 and 0. The second was cut off.
        near(&seen.word_mass, &[0.2, 0.125, 0.0, 0.0]);
        near(&seen.concentration, &[1.5, 2.0, 0.0, 0.0]);
        near(&seen.looked, &[0.625, 0.375, 0.0, 0.0]);
    }
}
