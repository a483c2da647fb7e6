//! One denoising step of many trajectories, or the first half of one.

use candle_core::{DType, Device, Tensor};

use super::rows::{Part, Row, denoise_grouped};
use super::trajectory::Glimpsed;
use super::{Observation, Trajectory};
use crate::backbones::{Backbone, TapRequest, Tapped, TextState};
use crate::{Error, Result};

/// Steps every trajectory once and observes those for which there is a request (an empty one
/// observes the predicted finished latents alone). Trajectories may differ in prompt, size and step.
/// One that was glimpsed goes on from the half that it keeps, as long as that holds all that is to
/// be observed; its step comes out the same, to the bit on the CPU.
///
/// On the CPU the layers compute every row by itself, in one order of summation, so that a
/// trajectory's numbers do not depend on the batch, to the bit; groups of rows run in parallel. On an
/// accelerator latents of equal shape are one batch, whose rounding may depend on its size.
pub fn step_all(
    backbone: &dyn Backbone,
    trajectories: &mut [&mut Trajectory],
    taps: &[Option<&TapRequest>],
) -> Result<Vec<Option<Observation>>> {
    check(trajectories, taps.len())?;
    let facts = backbone.facts();
    let mut rows = Vec::new();
    for (trajectory, tap) in trajectories.iter().zip(taps) {
        let conditioning = trajectory.conditioning();
        let tap = tap.cloned().unwrap_or_default();
        let (tap, part) = match trajectory.half_for(facts, &tap) {
            Some(glimpsed) => (
                tap.after_glimpse(facts),
                Part::Second(glimpsed.half.clone()),
            ),
            None => (tap, Part::Whole),
        };
        rows.push(Row::new(trajectory, &conditioning.positive, tap, part)?);
        if let Some(negative) = &conditioning.negative {
            let tap = TapRequest::default();
            rows.push(Row::new(trajectory, negative, tap, Part::Whole)?);
        }
    }
    let mut outputs = denoise_grouped(backbone, &rows)?.into_iter();
    let mut observations = Vec::with_capacity(taps.len());
    for (trajectory, tap) in trajectories.iter_mut().zip(taps) {
        let mut next = || {
            outputs
                .next()
                .ok_or_else(|| Error::Internal("the denoiser returned too few rows".into()))
        };
        let (positive, mut tapped) = next()?;
        let negative = match trajectory.conditioning().negative {
            Some(_) => Some(next()?.0.output()?),
            None => None,
        };
        if let Some(tap) = tap
            && let Some(glimpsed) = trajectory.half_for(facts, tap)
        {
            tapped.maps.extend(glimpsed.tapped.maps.clone());
            tapped.middle = glimpsed.tapped.middle.clone();
        }
        let output = trajectory.guided(backbone, positive.output()?, negative)?;
        trajectory.advance(&output)?;
        observations.push(match tap {
            Some(tap) => Some(observe(trajectory, tap, &tapped, false)?),
            None => None,
        });
    }
    Ok(observations)
}

/// Takes the conditional half of every trajectory's next step through the first half of the denoiser
/// and observes what can be seen there: the attention maps and the middle activations of that pass,
/// and the predicted finished latents of the step before it. Steps no trajectory; each keeps the
/// half for [`step_all`].
///
/// # Errors
/// A model whose denoiser is not run in halves: [`crate::backbones::Facts::glimpsed`] is empty.
pub fn glimpse_all(
    backbone: &dyn Backbone,
    trajectories: &mut [&mut Trajectory],
    taps: &[&TapRequest],
) -> Result<Vec<Observation>> {
    check(trajectories, taps.len())?;
    let facts = backbone.facts();
    let taps: Vec<TapRequest> = taps.iter().map(|tap| tap.of_glimpse(facts)).collect();
    let rows: Vec<Row> = trajectories
        .iter()
        .zip(&taps)
        .map(|(t, tap)| Row::new(t, &t.conditioning().positive, tap.clone(), Part::First))
        .collect::<Result<_>>()?;
    let passed = denoise_grouped(backbone, &rows)?;
    trajectories
        .iter_mut()
        .zip(taps)
        .zip(passed)
        .map(|((trajectory, tap), (passed, tapped))| {
            let seen = observe(trajectory, &tap, &tapped, true)?;
            trajectory.keep_half(Glimpsed {
                half: passed.half()?,
                tapped,
            });
            Ok(seen)
        })
        .collect()
}

fn check(trajectories: &[&mut Trajectory], taps: usize) -> Result<()> {
    if taps != trajectories.len() {
        return Err(Error::Internal(format!(
            "{} trajectories with {taps} tap requests",
            trajectories.len()
        )));
    }
    match trajectories.iter().find(|t| t.is_done()) {
        Some(done) => Err(Error::Internal(format!(
            "a trajectory has done all of its {} steps",
            done.steps()
        ))),
        None => Ok(()),
    }
}

fn observe(
    trajectory: &Trajectory,
    tap: &TapRequest,
    tapped: &Tapped,
    glimpse: bool,
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
    let maps = tapped.maps.iter();
    let maps = maps.map(|(path, map)| Ok((path.clone(), plain(map)?)));
    Ok(Observation {
        steps_done: trajectory.steps_done(),
        glimpse,
        x0: match trajectory.x0() {
            Some(x0) => plain(x0)?,
            None => plain(&trajectory.latents().zeros_like()?)?,
        },
        previous_x0: trajectory.previous_x0().map(plain).transpose()?,
        maps: maps.collect::<Result<_>>()?,
        middle: tapped.middle.as_ref().map(plain).transpose()?,
        text: TextState {
            embeds: cpu(&text.embeds)?,
            pooled: text.pooled.as_ref().map(cpu).transpose()?,
        },
    })
}
