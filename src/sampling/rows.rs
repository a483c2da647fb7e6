//! Rows through the denoiser: whole passes and halves of one, in as few calls as their shapes allow.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::Trajectory;
use crate::backbones::{Backbone, DenoiserInput, Half, TapRequest, Tapped, TextState};
use crate::{Error, Result, device};

/// One latent to denoise.
pub(super) struct Row {
    /// (1, channels, height, width)
    latents: Tensor,
    timestep: f32,
    guidance: f32,
    text: TextState,
    width: usize,
    height: usize,
    tap: TapRequest,
    part: Part,
}

/// How much of an evaluation.
pub(super) enum Part {
    Whole,
    First,
    /// From what the first left.
    Second(Half),
}

/// What came of a row.
pub(super) enum Passed {
    /// (1, channels, height, width), f32
    Output(Tensor),
    Half(Half),
}

impl Passed {
    pub(super) fn output(self) -> Result<Tensor> {
        match self {
            Self::Output(output) => Ok(output),
            Self::Half(_) => Err(Error::Internal("half an evaluation gives no output".into())),
        }
    }

    pub(super) fn half(self) -> Result<Half> {
        match self {
            Self::Half(half) => Ok(half),
            Self::Output(_) => Err(Error::Internal("a whole evaluation leaves no half".into())),
        }
    }
}

impl Row {
    /// The trajectory's latents in its next step, read with `text`.
    pub(super) fn new(
        trajectory: &Trajectory,
        text: &TextState,
        tap: TapRequest,
        part: Part,
    ) -> Result<Self> {
        Ok(Self {
            latents: trajectory.denoiser_input()?,
            timestep: trajectory.timestep(),
            guidance: trajectory.guidance() as f32,
            text: text.clone(),
            width: trajectory.width(),
            height: trajectory.height(),
            tap,
            part,
        })
    }

    /// Whether this row and another can go through the denoiser in one call.
    fn runs_with(&self, other: &Self) -> bool {
        self.latents.dims() == other.latents.dims()
            && self.text.embeds.dims() == other.text.embeds.dims()
            && (self.width, self.height) == (other.width, other.height)
            && self.tap == other.tap
            && std::mem::discriminant(&self.part) == std::mem::discriminant(&other.part)
    }
}

/// Rows of a group that one thread takes through the denoiser together: as many as share its pass
/// over the weights before their activations no longer fit into a core's cache.
const ROWS_A_THREAD: usize = 8;

/// Rows of equal shape, tap and part together: on an accelerator in one call, on the CPU in as many
/// as there are threads to run them; and no more at once than the device's free memory holds.
pub(super) fn denoise_grouped(
    backbone: &dyn Backbone,
    rows: &[Row],
) -> Result<Vec<(Passed, Tapped)>> {
    let on_cpu = backbone.device().is_cpu();
    let mut calls: Vec<Vec<usize>> = Vec::new();
    let mut open: Vec<usize> = (0..rows.len()).collect();
    let mut at_once = usize::MAX;
    while let Some(&first) = open.first() {
        let (group, others): (Vec<usize>, Vec<usize>) = open
            .into_iter()
            .partition(|i| rows[*i].runs_with(&rows[first]));
        open = others;
        let room = room_for(backbone, &rows[first]);
        let size = match on_cpu {
            true => group
                .len()
                .div_ceil(rayon::current_num_threads())
                .min(ROWS_A_THREAD),
            false => group.len(),
        };
        let size = size.min(room);
        at_once = at_once.min((room / size).max(1));
        calls.extend(group.chunks(size).map(<[usize]>::to_vec));
    }
    let run = |call: &Vec<usize>| {
        let rows: Vec<&Row> = call.iter().map(|i| &rows[*i]).collect();
        denoise(backbone, &rows)
    };
    let outputs: Vec<_> = match on_cpu {
        true => {
            let mut outputs = Vec::with_capacity(calls.len());
            for calls in calls.chunks(at_once) {
                outputs.extend(calls.par_iter().map(run).collect::<Result<Vec<_>>>()?);
            }
            outputs
        }
        false => calls.iter().map(run).collect::<Result<_>>()?,
    };
    let mut placed: Vec<_> = calls
        .concat()
        .into_iter()
        .zip(outputs.into_iter().flatten())
        .collect();
    placed.sort_by_key(|(i, _)| *i);
    Ok(placed.into_iter().map(|(_, output)| output).collect())
}

/// How many rows like this one the device's free memory holds at once, one at least.
fn room_for(backbone: &dyn Backbone, row: &Row) -> usize {
    /// Of the free memory, what is planned with.
    const PLANNED: f64 = 0.8;
    let one = backbone.evaluation_cost();
    let one = one.map_or(0, |cost| cost.bytes(row.width, row.height));
    if one <= device::LITTLE {
        return usize::MAX;
    }
    let memory = device::memory(backbone.device());
    memory.map_or(usize::MAX, |memory| {
        ((memory.free as f64 * PLANNED / one as f64) as usize).max(1)
    })
}

/// One call of the denoiser for rows that run together; all that it gives is cut into rows again.
fn denoise(backbone: &dyn Backbone, rows: &[&Row]) -> Result<Vec<(Passed, Tapped)>> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let latents: Vec<&Tensor> = rows.iter().map(|r| &r.latents).collect();
    let timesteps: Vec<f32> = rows.iter().map(|r| r.timestep).collect();
    let guidance: Vec<f32> = rows.iter().map(|r| r.guidance).collect();
    let texts: Vec<&TextState> = rows.iter().map(|r| &r.text).collect();
    let input = DenoiserInput {
        latents: &Tensor::cat(&latents, 0)?,
        timesteps: &timesteps,
        guidance: &guidance,
        texts: &texts,
        width: first.width,
        height: first.height,
    };
    let (passed, tapped) = match &first.part {
        Part::Whole => {
            let (output, tapped) = backbone.denoise(&input, &first.tap)?;
            (Passed::Output(output), tapped)
        }
        Part::First => {
            let (half, tapped) = backbone.begin(&input, &first.tap)?;
            (Passed::Half(half), tapped)
        }
        Part::Second(_) => {
            let (output, tapped) = backbone.complete(&joined(rows)?, &input, &first.tap)?;
            (Passed::Output(output), tapped)
        }
    };
    (0..rows.len())
        .map(|i| {
            let cut = |t: &Tensor| -> Result<Tensor> { Ok(t.narrow(0, i, 1)?) };
            let own = match &passed {
                Passed::Output(output) => Passed::Output(cut(output)?.to_dtype(DType::F32)?),
                Passed::Half(half) => {
                    // A copy: a row that is kept must not keep the others in memory.
                    let rows = half.state.iter().map(|t| Ok(cut(t)?.copy()?));
                    Passed::Half(Half {
                        state: rows.collect::<Result<_>>()?,
                    })
                }
            };
            let maps = tapped.maps.iter();
            let maps = maps.map(|(path, map)| Ok((path.clone(), cut(map)?)));
            let tapped = Tapped {
                maps: maps.collect::<Result<_>>()?,
                middle: tapped.middle.as_ref().map(cut).transpose()?,
            };
            Ok((own, tapped))
        })
        .collect()
}

/// The halves of several rows as one.
fn joined(rows: &[&Row]) -> Result<Half> {
    let mut states: Vec<Vec<&Tensor>> = Vec::new();
    for row in rows {
        if let Part::Second(half) = &row.part {
            states.resize(half.state.len(), Vec::new());
            states
                .iter_mut()
                .zip(&half.state)
                .for_each(|(s, t)| s.push(t));
        }
    }
    let state = states.iter().map(|rows| Ok(Tensor::cat(rows, 0)?));
    Ok(Half {
        state: state.collect::<Result<_>>()?,
    })
}
