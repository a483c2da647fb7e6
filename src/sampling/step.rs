//! One denoising step of many trajectories.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{Observation, Trajectory};
use crate::backbones::{Backbone, DenoiserInput, TapRequest, Tapped, TextState};
use crate::{Error, Result};

/// Steps every trajectory once and observes those for which there is a request (an empty one
/// observes the predicted finished latents alone). Trajectories may differ in prompt, size and step.
///
/// On the CPU each latent goes through the denoiser by itself, all of them in parallel, so that a
/// trajectory's numbers do not depend on the batch, to the bit. On an accelerator latents of equal
/// shape are one batch, whose rounding may depend on its size.
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
    let outputs = if backbone.device().is_cpu() {
        rows.par_iter()
            .map(|row| denoise(backbone, std::slice::from_ref(row)))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect()
    } else {
        denoise_grouped(backbone, &rows)?
    };
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
        let x0 = trajectory.advance(&output)?;
        observations.push(match tap {
            Some(tap) => Some(observe(trajectory, tap, x0, tapped)?),
            None => None,
        });
    }
    Ok(observations)
}

/// One latent to denoise.
#[derive(Clone)]
struct Row {
    /// (1, channels, height, width)
    latents: Tensor,
    timestep: f32,
    text: TextState,
    width: usize,
    height: usize,
    tap: TapRequest,
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

/// One call of the denoiser; outputs and maps are cut into rows again.
fn denoise(backbone: &dyn Backbone, rows: &[Row]) -> Result<Vec<(Tensor, Tapped)>> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let latents = match rows {
        [one] => one.latents.clone(),
        many => Tensor::cat(&many.iter().map(|r| &r.latents).collect::<Vec<_>>(), 0)?,
    };
    let timesteps: Vec<f32> = rows.iter().map(|r| r.timestep).collect();
    let texts: Vec<&TextState> = rows.iter().map(|r| &r.text).collect();
    let mut tap = TapRequest::default();
    for row in rows {
        tap.middle |= row.tap.middle;
        for block in &row.tap.blocks {
            if !tap.wants(block) {
                tap.blocks.push(block.clone());
            }
        }
    }
    let input = DenoiserInput {
        latents: &latents,
        timesteps: &timesteps,
        texts: &texts,
        width: first.width,
        height: first.height,
    };
    let (output, tapped) = backbone.denoise(&input, &tap)?;
    (0..rows.len())
        .map(|i| {
            let cut = |t: &Tensor| -> Result<Tensor> { Ok(t.narrow(0, i, 1)?) };
            let maps = tapped
                .maps
                .iter()
                .filter(|(path, _)| rows[i].tap.wants(path))
                .map(|(path, map)| Ok((path.clone(), cut(map)?)))
                .collect::<Result<_>>()?;
            let middle = match &tapped.middle {
                Some(middle) if rows[i].tap.middle => Some(cut(middle)?),
                _ => None,
            };
            let output = cut(&output)?.to_dtype(DType::F32)?;
            Ok((output, Tapped { maps, middle }))
        })
        .collect()
}

/// Rows of equal shape in one call each.
fn denoise_grouped(backbone: &dyn Backbone, rows: &[Row]) -> Result<Vec<(Tensor, Tapped)>> {
    let mut outputs: Vec<Option<(Tensor, Tapped)>> = rows.iter().map(|_| None).collect();
    let key = |row: &Row| {
        let tokens = row.text.embeds.dims().to_vec();
        (row.latents.dims().to_vec(), tokens, row.width, row.height)
    };
    for first in 0..rows.len() {
        if outputs[first].is_some() {
            continue;
        }
        let members: Vec<usize> = (first..rows.len())
            .filter(|i| outputs[*i].is_none() && key(&rows[*i]) == key(&rows[first]))
            .collect();
        let group: Vec<Row> = members.iter().map(|i| rows[*i].clone()).collect();
        for (i, output) in members.into_iter().zip(denoise(backbone, &group)?) {
            outputs[i] = Some(output);
        }
    }
    outputs
        .into_iter()
        .map(|o| o.ok_or_else(|| Error::Internal("a row was not denoised".into())))
        .collect()
}

fn observe(
    trajectory: &Trajectory,
    tap: &TapRequest,
    x0: Tensor,
    tapped: Tapped,
) -> Result<Observation> {
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
        x0: plain(&x0)?,
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
