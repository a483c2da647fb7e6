//! One denoising step of many trajectories.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{Observation, Trajectory};
use crate::backbones::{Backbone, DenoiserInput, TapRequest, Tapped, TextState};
use crate::{Error, Result};

/// Steps every trajectory once and observes those for which there is a request (an empty one
/// observes the predicted finished latents alone). Trajectories may differ in prompt, size and step.
///
/// On the CPU the layers compute every row by itself, in one order of summation, so that a
/// trajectory's numbers do not depend on the batch, to the bit; groups of rows run in parallel. On an
/// accelerator latents of equal shape are one batch, whose rounding may depend on its size.
pub fn step_all(
    backbone: &dyn Backbone,
    trajectories: &mut [&mut Trajectory],
    taps: &[Option<&TapRequest>],
) -> Result<Vec<Option<Observation>>> {
    if taps.len() != trajectories.len() {
        return Err(Error::Internal(format!(
            "{} trajectories with {} tap requests",
            trajectories.len(),
            taps.len()
        )));
    }
    if let Some(done) = trajectories.iter().find(|t| t.is_done()) {
        return Err(Error::Internal(format!(
            "a trajectory has done all of its {} steps",
            done.steps()
        )));
    }
    let rows = rows(trajectories, taps)?;
    let outputs = denoise_grouped(backbone, &rows)?;
    let mut outputs = outputs.into_iter();
    let mut observations = Vec::with_capacity(taps.len());
    for (trajectory, tap) in trajectories.iter_mut().zip(taps) {
        let mut next = || {
            outputs
                .next()
                .ok_or_else(|| Error::Internal("the denoiser returned too few rows".into()))
        };
        let (positive, tapped) = next()?;
        let negative = match trajectory.conditioning().negative {
            Some(_) => Some(next()?.0),
            None => None,
        };
        let output = trajectory.guided(backbone, positive, negative)?;
        let previous = trajectory.advance(&output)?;
        observations.push(match tap {
            Some(tap) => Some(observe(trajectory, tap, previous, tapped)?),
            None => None,
        });
    }
    Ok(observations)
}

/// One latent to denoise.
struct Row {
    /// (1, channels, height, width)
    latents: Tensor,
    timestep: f32,
    text: TextState,
    width: usize,
    height: usize,
    tap: TapRequest,
}

impl Row {
    /// Whether this row and another can go through the denoiser in one call.
    fn runs_with(&self, other: &Self) -> bool {
        self.latents.dims() == other.latents.dims()
            && self.text.embeds.dims() == other.text.embeds.dims()
            && (self.width, self.height) == (other.width, other.height)
            && self.tap == other.tap
    }
}

/// Each trajectory's positive row, then its negative one if it is guided.
fn rows(trajectories: &[&mut Trajectory], taps: &[Option<&TapRequest>]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (trajectory, tap) in trajectories.iter().zip(taps) {
        let row = |text: &TextState, tap: TapRequest| -> Result<Row> {
            Ok(Row {
                latents: trajectory.denoiser_input()?,
                timestep: trajectory.timestep(),
                text: text.clone(),
                width: trajectory.width(),
                height: trajectory.height(),
                tap,
            })
        };
        let conditioning = trajectory.conditioning();
        let tap = tap.cloned().unwrap_or_default();
        rows.push(row(&conditioning.positive, tap)?);
        if let Some(negative) = &conditioning.negative {
            rows.push(row(negative, TapRequest::default())?);
        }
    }
    Ok(rows)
}

/// One call of the denoiser for rows that run together; outputs and maps are cut into rows again.
fn denoise(backbone: &dyn Backbone, rows: &[&Row]) -> Result<Vec<(Tensor, Tapped)>> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let latents: Vec<&Tensor> = rows.iter().map(|r| &r.latents).collect();
    let timesteps: Vec<f32> = rows.iter().map(|r| r.timestep).collect();
    let texts: Vec<&TextState> = rows.iter().map(|r| &r.text).collect();
    let input = DenoiserInput {
        latents: &Tensor::cat(&latents, 0)?,
        timesteps: &timesteps,
        texts: &texts,
        width: first.width,
        height: first.height,
    };
    let (output, tapped) = backbone.denoise(&input, &first.tap)?;
    (0..rows.len())
        .map(|i| {
            let cut = |t: &Tensor| -> Result<Tensor> { Ok(t.narrow(0, i, 1)?) };
            let maps = tapped.maps.iter();
            let maps = maps.map(|(path, map)| Ok((path.clone(), cut(map)?)));
            let own = Tapped {
                maps: maps.collect::<Result<_>>()?,
                middle: tapped.middle.as_ref().map(cut).transpose()?,
            };
            Ok((cut(&output)?.to_dtype(DType::F32)?, own))
        })
        .collect()
}

/// Rows of a group that one thread takes through the denoiser together: as many as share its pass
/// over the weights before their activations no longer fit into a core's cache.
const ROWS_A_THREAD: usize = 8;

/// Rows of equal shape and tap together: on an accelerator in one call, on the CPU in as many as
/// there are threads to run them.
fn denoise_grouped(backbone: &dyn Backbone, rows: &[Row]) -> Result<Vec<(Tensor, Tapped)>> {
    let on_cpu = backbone.device().is_cpu();
    let mut calls: Vec<Vec<usize>> = Vec::new();
    let mut open: Vec<usize> = (0..rows.len()).collect();
    while let Some(&first) = open.first() {
        let (group, others): (Vec<usize>, Vec<usize>) = open
            .into_iter()
            .partition(|i| rows[*i].runs_with(&rows[first]));
        open = others;
        let size = match on_cpu {
            true => group
                .len()
                .div_ceil(rayon::current_num_threads())
                .min(ROWS_A_THREAD),
            false => group.len(),
        };
        calls.extend(group.chunks(size).map(<[usize]>::to_vec));
    }
    let run = |call: &Vec<usize>| {
        let rows: Vec<&Row> = call.iter().map(|i| &rows[*i]).collect();
        denoise(backbone, &rows)
    };
    let outputs: Vec<_> = match on_cpu {
        true => calls.par_iter().map(run).collect::<Result<_>>()?,
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

fn observe(
    trajectory: &Trajectory,
    tap: &TapRequest,
    previous_x0: Option<Tensor>,
    tapped: Tapped,
) -> Result<Observation> {
    let x0 = trajectory
        .x0()
        .ok_or_else(|| Error::Internal("an observation before the first step".into()))?;
    if let Some(missing) = tap.blocks.iter().find(|b| !tapped.maps.contains_key(*b)) {
        return Err(Error::Internal(format!(
            "the block {missing} was not tapped"
        )));
    }
    let plain = |t: &Tensor| -> Result<Tensor> {
        Ok(t.squeeze(0)?
            .to_dtype(DType::F32)?
            .to_device(&Device::Cpu)?)
    };
    let text = &trajectory.conditioning().positive;
    let cpu =
        |t: &Tensor| -> Result<Tensor> { Ok(t.to_dtype(DType::F32)?.to_device(&Device::Cpu)?) };
    Ok(Observation {
        steps_done: trajectory.steps_done(),
        x0: plain(x0)?,
        previous_x0: previous_x0.as_ref().map(plain).transpose()?,
        maps: tapped
            .maps
            .into_iter()
            .map(|(path, map)| Ok((path, plain(&map)?)))
            .collect::<Result<_>>()?,
        middle: tapped.middle.as_ref().map(plain).transpose()?,
        text: TextState {
            embeds: cpu(&text.embeds)?,
            pooled: text.pooled.as_ref().map(cpu).transpose()?,
        },
    })
}
