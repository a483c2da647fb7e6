//! What was observed, as numbers for the networks: everything on one grid, whatever the image's
//! size and the blocks' own resolutions.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::preview::Preview;
use crate::backbones::Word;
use crate::sampling::Observation;
use crate::{Error, Result};

/// A grid has so many cells at most, SDXL's at 1024 × 1024 pixels: where things stand is seen on it, and
/// the 4096 cells of FLUX and Qwen-Image would make a look four times as heavy to keep and to read.
const MOST_CELLS: usize = 32 * 32;

/// The widths of the networks' inputs; the same for all observations of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// Module paths of the blocks whose maps are read, in this order.
    pub blocks: Vec<String>,
    /// Text keys that are kept at most: the first ones.
    pub keys: usize,
    pub text_dim: usize,
    /// 0: the family has no pooled text.
    pub pooled_dim: usize,
    /// Channels of the predicted latents once laid out on the maps' grid.
    pub x0_channels: usize,
    /// 0: the middle activations are not read.
    pub middle_channels: usize,
    /// How many of the blocks, the first ones, a glimpse shows.
    pub early: usize,
    /// Whether the scored preview is read.
    pub preview: bool,
    /// The mean and deviation of the previews' values, by which they are normalised where their
    /// metric has no bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_scale: Option<(f32, f32)>,
}

impl Layout {
    /// What is left of it in a glimpse.
    pub fn glimpse(&self) -> Self {
        Self {
            blocks: self.blocks[..self.early.min(self.blocks.len())].to_vec(),
            ..self.clone()
        }
    }
}

/// A prompt as the networks read it; shared by all its seeds and steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Rows of `embeds`.
    pub keys: usize,
    /// (keys, text_dim)
    pub embeds: Vec<f32>,
    pub pooled: Vec<f32>,
    /// The text keys of each word.
    pub words: Vec<Range<usize>>,
}

/// One step of one candidate on the maps' grid of `height` × `width` cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub steps_done: usize,
    /// The maps and the middle are of the first half of the step after those done.
    pub glimpse: bool,
    pub height: usize,
    pub width: usize,
    /// (blocks, height × width, keys), heads averaged
    pub maps: Vec<f32>,
    /// (height × width, channels)
    pub x0: Vec<f32>,
    /// (height × width, channels)
    pub middle: Vec<f32>,
    /// Of `x0`, where it was scored.
    pub preview: Option<Preview>,
    /// What a glimpse of this very step had in place of `x0`, kept to train on.
    pub before: Option<Before>,
}

/// The predicted finished latents of the step before, laid out as [`Seen::x0`], and their preview.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    pub x0: Vec<f32>,
    pub preview: Option<Preview>,
}

impl Seen {
    /// The number of the step that was looked into.
    pub fn at_step(&self) -> usize {
        self.steps_done + usize::from(self.glimpse)
    }
}

/// An observation ready for the networks.
#[derive(Clone, Debug)]
pub struct Features {
    pub text: Arc<Text>,
    pub seen: Seen,
}

impl Features {
    /// What a glimpse of the same step would have shown, its maps those of the first `early` blocks.
    pub fn glimpse(&self, early: usize) -> Result<Self> {
        let seen = &self.seen;
        let missing = || Error::Internal("the step before was not kept".into());
        let before = seen.before.as_ref().ok_or_else(missing)?;
        let block = seen.height * seen.width * self.text.keys;
        let kept = (early * block).min(seen.maps.len());
        Ok(Self {
            text: self.text.clone(),
            seen: Seen {
                steps_done: seen.steps_done.saturating_sub(1),
                glimpse: true,
                height: seen.height,
                width: seen.width,
                maps: seen.maps[..kept].to_vec(),
                x0: before.x0.clone(),
                middle: seen.middle.clone(),
                preview: before.preview.clone(),
                before: None,
            },
        })
    }
}

impl Text {
    /// The first `keys` text keys of an observation's prompt.
    pub fn read(observation: &Observation, words: &[Word], keys: usize) -> Result<Self> {
        let embeds = observation.text.embeds.to_dtype(DType::F32)?;
        let (_, tokens, _) = embeds.dims3()?;
        let keys = keys.min(tokens);
        let pooled = match &observation.text.pooled {
            Some(pooled) => flat(pooled)?,
            None => Vec::new(),
        };
        let words = words
            .iter()
            .map(|word| word.tokens.start.min(keys)..word.tokens.end.min(keys))
            .collect();
        Ok(Self {
            keys,
            embeds: flat(&embeds.narrow(1, 0, keys)?)?,
            pooled,
            words,
        })
    }
}

impl Seen {
    /// Reads an observation's maps of `blocks`, its first `keys` text keys, on the grid of the finest
    /// of the first `early` of them (of all, where there is none), so that a glimpse lies on the same
    /// grid, halved while it has more than 1024 cells. Fails where a block was not tapped.
    pub fn read(
        observation: &Observation,
        (blocks, early): (&[String], usize),
        keys: usize,
        middle: bool,
        preview: Option<Preview>,
    ) -> Result<Self> {
        let (channels, rows, columns) = observation.x0.dims3()?;
        let mut tapped = Vec::with_capacity(blocks.len());
        for block in blocks {
            let map = observation.maps.get(block).ok_or_else(|| {
                Error::Internal(format!("block {block} was not tapped for the probe"))
            })?;
            let (_, queries, tokens) = map.dims3()?;
            let grid = grid_of(queries, rows, columns)?;
            tapped.push((grid, averaged(&flat(map)?, (queries, tokens), keys)));
        }
        let deciding = match early {
            0 => tapped.len(),
            early => early.min(tapped.len()),
        };
        let (height, width) = tapped[..deciding]
            .iter()
            .map(|(grid, _)| *grid)
            .max()
            .map(within_reason)
            .ok_or_else(|| Error::Internal("no block was tapped for the probe".into()))?;
        let mut maps = Vec::new();
        for (grid, map) in &tapped {
            maps.extend(resample(map, *grid, (height, width)));
        }
        let middle = match (&observation.middle, middle) {
            (_, false) => Vec::new(),
            (None, true) => {
                return Err(Error::Internal(
                    "the middle activations were not tapped for the probe".into(),
                ));
            }
            (Some(middle), true) => {
                let (_, h, w) = middle.dims3()?;
                let last = flat(&middle.to_dtype(DType::F32)?.permute((1, 2, 0))?)?;
                resample(&last, (h, w), (height, width))
            }
        };
        let x0 = flat(&observation.x0.to_dtype(DType::F32)?)?;
        Ok(Self {
            steps_done: observation.steps_done,
            glimpse: observation.glimpse,
            height,
            width,
            maps,
            x0: space_to_depth(&x0, (channels, rows, columns), (height, width)),
            middle,
            preview,
            before: None,
        })
    }

    /// The same with the step before, to train glimpses on; zeros where there was none.
    pub fn with_before(
        mut self,
        observation: &Observation,
        preview: Option<Preview>,
    ) -> Result<Self> {
        let x0 = match &observation.previous_x0 {
            None => vec![0.0; self.x0.len()],
            Some(x0) => {
                let shape = x0.dims3()?;
                space_to_depth(&flat(x0)?, shape, (self.height, self.width))
            }
        };
        self.before = Some(Before { x0, preview });
        Ok(self)
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?)
}

/// The mean over heads (heads, queries, tokens) → (queries, the first `keys` tokens). A plain loop:
/// candle's mean over the first dimension strides through memory for every one of its results.
fn averaged(map: &[f32], (queries, tokens): (usize, usize), keys: usize) -> Vec<f32> {
    let keys = keys.min(tokens);
    let mut out = vec![0.0; queries * keys];
    let head = (queries * tokens).max(1);
    for head in map.chunks_exact(head) {
        let rows = head.chunks_exact(tokens);
        for (out, row) in out.chunks_exact_mut(keys.max(1)).zip(rows) {
            out.iter_mut().zip(row).for_each(|(a, b)| *a += b);
        }
    }
    let share = head as f32 / map.len().max(1) as f32;
    out.iter_mut().for_each(|value| *value *= share);
    out
}

/// The grid that `queries` cells make, with the proportions of the latents.
fn grid_of(queries: usize, rows: usize, columns: usize) -> Result<(usize, usize)> {
    let exact = (queries as f64 * rows as f64 / columns as f64).sqrt();
    let height = exact.round().max(1.0) as usize;
    // Odd sizes round up in a strided convolution, so that the proportions are only nearly kept.
    [height, height + 1, height.saturating_sub(1)]
        .into_iter()
        .filter(|h| *h > 0 && queries.is_multiple_of(*h))
        .map(|h| (h, queries / h))
        .next()
        .ok_or_else(|| {
            Error::Internal(format!(
                "{queries} image queries make no grid for latents of {rows}×{columns}"
            ))
        })
}

/// Halved until it has no more than [`MOST_CELLS`].
fn within_reason((mut height, mut width): (usize, usize)) -> (usize, usize) {
    while height * width > MOST_CELLS {
        (height, width) = (height.div_ceil(2), width.div_ceil(2));
    }
    (height, width)
}

/// Channels-last values from one grid to another: repeated where the new one is finer, averaged
/// where it is coarser.
fn resample(values: &[f32], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let channels = values.len() / (from.0 * from.1);
    let span = |i: usize, from: usize, to: usize| {
        let start = i * from / to;
        start..((i + 1) * from / to).max(start + 1)
    };
    let mut out = vec![0.0; to.0 * to.1 * channels];
    for row in 0..to.0 {
        for column in 0..to.1 {
            let cell = &mut out[(row * to.1 + column) * channels..][..channels];
            let mut count = 0.0;
            for r in span(row, from.0, to.0) {
                for c in span(column, from.1, to.1) {
                    count += 1.0;
                    let source = &values[(r * from.1 + c) * channels..][..channels];
                    cell.iter_mut().zip(source).for_each(|(a, b)| *a += b);
                }
            }
            cell.iter_mut().for_each(|a| *a /= count);
        }
    }
    out
}

/// (channels, rows, columns) → (cells, channels × block), every cell holding the latents over it.
/// Where the grid does not divide the latents, the last cells repeat the edge.
fn space_to_depth(
    values: &[f32],
    (channels, rows, columns): (usize, usize, usize),
    (height, width): (usize, usize),
) -> Vec<f32> {
    let (tall, wide) = (rows.div_ceil(height), columns.div_ceil(width));
    let mut out = Vec::with_capacity(height * width * channels * tall * wide);
    for row in 0..height {
        for column in 0..width {
            for channel in 0..channels {
                for r in 0..tall {
                    for c in 0..wide {
                        let r = (row * tall + r).min(rows - 1);
                        let c = (column * wide + c).min(columns - 1);
                        out.push(values[(channel * rows + r) * columns + c]);
                    }
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_keeps_the_proportions() {
        assert_eq!(grid_of(64, 16, 16).unwrap(), (8, 8));
        assert_eq!(grid_of(24, 8, 12).unwrap(), (4, 6));
        assert_eq!(grid_of(6, 5, 3).unwrap(), (3, 2));
    }

    #[test]
    fn a_grid_of_more_cells_than_help_is_halved() {
        assert_eq!(within_reason((32, 32)), (32, 32));
        assert_eq!(within_reason((64, 64)), (32, 32));
        assert_eq!(within_reason((45, 81)), (23, 41));
    }

    #[test]
    fn a_finer_grid_repeats_and_a_coarser_one_averages() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let finer = resample(&values, (2, 2), (4, 2));
        assert_eq!(finer, [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
        assert_eq!(resample(&finer, (4, 2), (2, 2)), values);
        assert_eq!(resample(&values, (2, 2), (1, 1)), [2.5]);
    }

    #[test]
    fn a_cell_holds_the_latents_over_it() {
        let values: Vec<f32> = (0..16).map(|v| v as f32).collect();
        let cells = space_to_depth(&values, (1, 4, 4), (2, 2));
        assert_eq!(&cells[..4], [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(&cells[12..], [10.0, 11.0, 14.0, 15.0]);
    }
}
