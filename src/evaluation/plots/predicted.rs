//! Predicted against measured quality, as a density with the mean of what was measured over it.

use std::ops::Range;

use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::series::DashedLineSeries;
use plotters::style::{Color, ShapeStyle};

use super::canvas::{
    Area, Axis, BLUE, FAINT, INK, Styled, VERMILION, axes, failed, page, tenths, text,
};
use crate::Result;
use crate::evaluation::candidates::{Candidates, part};
use crate::evaluation::resampled::mean_with_interval;
use crate::evaluation::{Evaluation, Row};
use crate::foresight::measure;

/// The steps of the two panels.
const STEPS: [usize; 2] = [5, 10];
/// Cells of the density along each axis, and bins of equal mass for the mean.
const CELLS: usize = 25;
const BINS: usize = 8;

pub fn plot(all: &Candidates, e: &Evaluation) -> Result<String> {
    let row = |step: usize| {
        let mut rows = e.table.iter();
        rows.find(|r| r.predictor == "probe" && r.step == step)
    };
    let title = match row(STEPS[0]) {
        Some(Row { srcc, step, .. }) => format!(
            "After {step} of {} steps, what is foreseen ranks the finished images with a \
             correlation of {srcc:.2}",
            e.steps
        ),
        None => "What is foreseen, and what came".into(),
    };
    let about = format!(
        "{} of {}: {} held-out prompts × {} seeds. Darker: more images. Points: mean measured, with 95 %.",
        e.metric, e.model, e.prompts, e.seeds
    );
    page(&title, &about, |area| {
        let panels = area.split_evenly((1, STEPS.len()));
        for (panel, step) in panels.iter().zip(STEPS) {
            if let Some(index) = all.at_steps.iter().position(|&s| s == step) {
                let said = part(&all.foreseen[index], |p| p.quality);
                draw(panel, &e.metric, &said, &all.scores, (row(step), e.steps))?;
            }
        }
        Ok(())
    })
}

fn draw(
    area: &Area,
    metric: &str,
    said: &[Vec<f64>],
    scores: &[Vec<f64>],
    (row, steps): (Option<&Row>, usize),
) -> Result<()> {
    let range = range(metric, said, scores);
    let (low, wide) = (range.start, range.end - range.start);
    let axis = |name| Axis {
        name,
        range: range.clone(),
        label: if wide < 0.5 { hundredths } else { tenths },
        ticks: 6,
    };
    let mut chart = axes(area, &axis("predicted quality"), &axis("measured quality"))?;
    let points: Vec<(f64, f64)> = said.concat().into_iter().zip(scores.concat()).collect();

    let cell = |value: f64| (((value - low) / wide * CELLS as f64) as usize).min(CELLS - 1);
    let mut counts = vec![0u32; CELLS * CELLS];
    for &(x, y) in &points {
        counts[cell(x) * CELLS + cell(y)] += 1;
    }
    let most = f64::from(counts.iter().copied().max().unwrap_or(1).max(1));
    let side = wide / CELLS as f64;
    let cells = counts.iter().enumerate().filter(|(_, n)| **n > 0);
    chart
        .draw_series(cells.map(|(i, &n)| {
            let (x, y) = (
                low + (i / CELLS) as f64 * side,
                low + (i % CELLS) as f64 * side,
            );
            // By the root, so that single images are seen next to crowds.
            let shade = BLUE.mix(0.08 + 0.82 * (f64::from(n) / most).sqrt());
            Rectangle::new([(x, y), (x + side, y + side)], shade.filled())
        }))
        .map_err(failed)?;
    let dashes = DashedLineSeries::new(
        [(range.start, range.start), (range.end, range.end)],
        5,
        5,
        FAINT.stroke_width(1),
    );
    chart.draw_series(dashes).map_err(failed)?;

    let means = binned(said, scores);
    let thick = |width| -> ShapeStyle { VERMILION.stroke_width(width) };
    for &(x, y, [low, high]) in &means {
        chart
            .draw_series([PathElement::new([(x, low), (x, high)], thick(2))])
            .map_err(failed)?;
        chart
            .draw_series([Circle::new((x, y), 4, VERMILION.filled())])
            .map_err(failed)?;
    }
    let line: Vec<(f64, f64)> = means.iter().map(|&(x, y, _)| (x, y)).collect();
    chart
        .draw_series([PathElement::new(line, thick(1))])
        .map_err(failed)?;
    if let Some(row) = row {
        let label = format!("step {} of {steps}", row.step);
        let at = |x: f64, y: f64| (low + x * wide, low + y * wide);
        chart
            .draw_series([
                Text::new(label, at(0.03, 0.96), text(16.0, INK).bold()),
                Text::new(
                    format!(
                        "Spearman {:.2}, within a prompt {:.2}",
                        row.srcc, row.within
                    ),
                    at(0.03, 0.91),
                    text(13.0, INK),
                ),
            ])
            .map_err(failed)?;
    }
    Ok(())
}

/// What the axes show: what the metric can take or, where it has no bounds, what was said and seen.
fn range(metric: &str, said: &[Vec<f64>], scores: &[Vec<f64>]) -> Range<f64> {
    if let Some([low, high]) = measure::range(metric) {
        return low..high;
    }
    let all = || said.iter().chain(scores).flatten().copied();
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    match high > low {
        true => low..high,
        false => 0.0..1.0,
    }
}

fn hundredths(value: &f64) -> String {
    format!("{value:.2}")
}

/// The mean prediction and the mean measured score, with its interval over prompts, of bins of equal
/// mass.
fn binned(said: &[Vec<f64>], scores: &[Vec<f64>]) -> Vec<(f64, f64, [f64; 2])> {
    let mut points: Vec<(f64, usize, f64)> = said
        .iter()
        .zip(scores)
        .enumerate()
        .flat_map(|(prompt, (said, scores))| {
            said.iter().zip(scores).map(move |(x, y)| (*x, prompt, *y))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    (0..BINS)
        .map(|bin| &points[bin * points.len() / BINS..(bin + 1) * points.len() / BINS])
        .filter(|members| !members.is_empty())
        .map(|members| {
            let x = members.iter().map(|m| m.0).sum::<f64>() / members.len() as f64;
            let y = members.iter().map(|m| m.2).sum::<f64>() / members.len() as f64;
            // Seeds of one prompt come out alike: its mean is one observation.
            let mut of_prompt: std::collections::BTreeMap<usize, Vec<f64>> = Default::default();
            for &(_, prompt, score) in members {
                of_prompt.entry(prompt).or_default().push(score);
            }
            let means: Vec<f64> = of_prompt
                .values()
                .map(|scores| crate::probe::stats::mean(scores))
                .collect();
            let (middle, [low, high]) = mean_with_interval(&means);
            (x, y, [y + low - middle, y + high - middle])
        })
        .collect()
}
