//! The chance of a good image as predicted, against how often it came.

use plotters::element::{Circle, PathElement, Text};
use plotters::series::DashedLineSeries;
use plotters::style::{Color, RGBColor};

use super::canvas::{
    Axis, BLUE, Chart, FAINT, Styled, VERMILION, axes, failed, page, percent, text,
};
use crate::Result;
use crate::evaluation::{Calibration, Evaluation};

/// Which steps are shown, and how.
const STEPS: [(usize, RGBColor); 2] = [(5, BLUE), (10, VERMILION)];

pub fn plot(e: &Evaluation) -> Result<String> {
    let shown: Vec<(&Calibration, RGBColor)> = STEPS
        .into_iter()
        .filter_map(|(step, colour)| {
            let found = e.calibration.iter().find(|c| c.step == step);
            found.map(|c| (c, colour))
        })
        .collect();
    let gaps: Vec<String> = shown
        .iter()
        .map(|(c, _)| format!("{:.1} points after step {}", 100.0 * c.ece, c.step))
        .collect();
    let title = match gaps.is_empty() {
        true => "Nothing is calibrated".into(),
        false => format!("Predicted chances are off by {}", gaps.join(", by ")),
    };
    let about = format!(
        "Chance of a good image ({} ≥ {}) of {}, on {} held-out prompts × {} seeds. Ten equal groups; bars \
         hold 95 %, over prompts.",
        e.metric, e.good, e.model, e.prompts, e.seeds
    );
    page(&title, &about, |area| {
        let axis = |name| Axis {
            name,
            range: 0.0..1.0,
            label: percent,
            ticks: 6,
        };
        let x = axis("predicted chance of a good image");
        let mut chart = axes(area, &x, &axis("share that came out good"))?;
        let diagonal = DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 5, 5, FAINT.stroke_width(1));
        chart.draw_series(diagonal).map_err(failed)?;
        chart
            .draw_series([
                Text::new("it came more often", (0.08, 0.62), text(13.0, FAINT)),
                Text::new("it came less often", (0.72, 0.16), text(13.0, FAINT)),
            ])
            .map_err(failed)?;
        for (i, (step, colour)) in shown.into_iter().enumerate() {
            draw(&mut chart, step, colour, i as f64, e.steps)?;
        }
        Ok(())
    })
}

fn draw(
    chart: &mut Chart<'_, '_>,
    step: &Calibration,
    colour: RGBColor,
    nth: f64,
    steps: usize,
) -> Result<()> {
    let points: Vec<(f64, f64)> = step.reliability.iter().map(|b| (b.said, b.came)).collect();
    chart
        .draw_series(step.reliability.iter().map(|bin| {
            let [low, high] = bin.came_ci;
            let ends = [(bin.said, low), (bin.said, high)];
            PathElement::new(ends, colour.mix(0.45).stroke_width(2))
        }))
        .map_err(failed)?;
    chart
        .draw_series([PathElement::new(points.clone(), colour.stroke_width(2))])
        .map_err(failed)?;
    chart
        .draw_series(points.iter().map(|p| Circle::new(*p, 5, colour.filled())))
        .map_err(failed)?;
    let label = format!("● after step {} of {steps}", step.step);
    chart
        .draw_series([Text::new(
            label,
            (0.04, 0.95 - 0.06 * nth),
            text(16.0, colour).bold(),
        )])
        .map_err(failed)?;
    Ok(())
}
