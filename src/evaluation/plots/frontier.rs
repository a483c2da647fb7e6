//! What the delivered image is worth against what it cost, and next to that how far each race lies
//! above best-of-K, with the paired interval that the overlapping bands do not show.

use std::ops::Range;

use plotters::element::{Circle, PathElement, Polygon, Text};
use plotters::series::DashedLineSeries;
use plotters::style::{Color, RGBColor};

use super::canvas::{
    Area, Axis, BLUE, Chart, FAINT, GREEN, INK, Styled, VERMILION, axes, failed, page, text,
};
use crate::Result;
use crate::evaluation::{AgainstBestOfK, Evaluation, Kind, Policy};

/// Full renders that the cost's axis ends at.
const MOST_RENDERS: f64 = 5.0;
/// The share of the page's width that the frontier takes.
const LEFT: f64 = 0.6;

pub fn plot(e: &Evaluation) -> Result<String> {
    let about = format!(
        "{} held-out prompts × {} seeds of {}. Left: bands hold 95 %, over prompts. Right: the same \
         races, paired with best-of-K on the same prompts.",
        e.prompts, e.seeds, e.model
    );
    page(&title(e), &about, |area| {
        let width = f64::from(area.dim_in_pixel().0);
        let (left, right) = area.split_horizontally((width * LEFT) as i32);
        qualities(&left, e)?;
        differences(&right, e)
    })
}

/// What was found: the race that gains most over best-of-K, if any surely does.
fn title(e: &Evaluation) -> String {
    let best = races(e)
        .filter(|a| a.difference_ci[0] > 0.0)
        .max_by(|a, b| a.difference.total_cmp(&b.difference));
    let Some(best) = best else {
        return "Racing seeds does not surely beat best-of-K at equal cost".into();
    };
    let worth = match best.worth_renders {
        Some(renders) => format!("{renders:.1}"),
        None => format!("more than {}", e.seeds),
    };
    format!(
        "Racing {} seeds costs {:.1} renders, and delivers what the best of {worth} would",
        number(&best.policy),
        best.cost / e.full_evaluations,
    )
}

fn races(e: &Evaluation) -> impl Iterator<Item = &AgainstBestOfK> {
    let raced = |policy: &str| {
        let mut all = e.frontier.iter();
        all.any(|p| p.policy == policy && p.kind == Kind::Racing)
    };
    e.against_best_of_k.iter().filter(move |a| raced(&a.policy))
}

/// The number in a policy's name: its seeds, or its renders.
fn number(policy: &str) -> &str {
    let digits = |word: &&str| word.parse::<u32>().is_ok();
    policy.split(' ').find(digits).unwrap_or("1")
}

fn qualities(area: &Area, e: &Evaluation) -> Result<()> {
    let of = |kind| -> Vec<&Policy> {
        let shown = |p: &&Policy| p.kind == kind && p.renders <= MOST_RENDERS + 1e-9;
        e.frontier.iter().filter(shown).collect()
    };
    let (best_of, racing) = (of(Kind::BestOfK), of(Kind::Racing));
    let ends = best_of.iter().chain(&racing).flat_map(|p| p.quality_ci);
    let low = ends.clone().fold(f64::INFINITY, f64::min);
    let high = ends.fold(f64::NEG_INFINITY, f64::max);
    let oracle = of(Kind::Oracle);
    let high = oracle.iter().fold(high, |high, p| high.max(p.quality));
    let range = low..high + 0.05 * (high - low);
    let y = Axis {
        name: &format!("measured {} of the image delivered", e.metric),
        range: range.clone(),
        label: |quality| format!("{quality:.2}"),
        ticks: 8,
    };
    let mut chart = axes(area, &cost_axis(), &y)?;
    for oracle in oracle {
        let level = [(0.8, oracle.quality), (MOST_RENDERS + 0.1, oracle.quality)];
        let dashes = DashedLineSeries::new(level, 6, 5, FAINT.stroke_width(1));
        chart.draw_series(dashes).map_err(failed)?;
        let label = format!("the best of {} seeds, if it were known", e.seeds);
        write(
            &mut chart,
            &label,
            at((0.95, oracle.quality), 0.0, 0.022, &range),
            FAINT,
        )?;
    }
    let probing = of(Kind::Probing);
    chart
        .draw_series(probing.iter().map(|p| {
            let shade = GREEN.mix(0.6);
            Circle::new((p.renders, p.quality), 3, shade.filled())
        }))
        .map_err(failed)?;
    line(&mut chart, &best_of, BLUE)?;
    line(&mut chart, &racing, VERMILION)?;
    label(&mut chart, &best_of, 0.06, -0.03, &range)?;
    label(&mut chart, &racing, -0.1, 0.03, &range)?;
    let legend = [
        (BLUE, "● best of K full renders"),
        (VERMILION, "● N raced, the first rendered"),
        (GREEN, "● N probed at one step, 1 to 3 rendered"),
    ];
    for (i, (colour, what)) in legend.into_iter().enumerate() {
        let place = at((2.75, range.start), 0.0, 0.16 - 0.055 * i as f64, &range);
        let style = text(14.0, colour).bold();
        chart
            .draw_series([Text::new(what, place, style)])
            .map_err(failed)?;
    }
    Ok(())
}

fn differences(area: &Area, e: &Evaluation) -> Result<()> {
    let shown: Vec<&AgainstBestOfK> = races(e).collect();
    let ends = shown.iter().flat_map(|a| a.difference_ci);
    let low = ends.clone().fold(0.0, f64::min);
    let high = ends.fold(0.0, f64::max);
    let room = (0.08 * (high - low)).max(0.005);
    let range = low - room..high + room;
    let y = Axis {
        name: "quality above best-of-K at equal cost",
        range: range.clone(),
        label: |difference| format!("{difference:+.2}"),
        ticks: 8,
    };
    let mut chart = axes(area, &cost_axis(), &y)?;
    let zero = [(0.8, 0.0), (MOST_RENDERS + 0.1, 0.0)];
    chart
        .draw_series([PathElement::new(zero, BLUE.stroke_width(2))])
        .map_err(failed)?;
    for against in shown {
        let x = against.cost / e.full_evaluations;
        let [low, high] = against.difference_ci;
        let bar = PathElement::new([(x, low), (x, high)], VERMILION.stroke_width(2));
        chart.draw_series([bar]).map_err(failed)?;
        let dot = Circle::new((x, against.difference), 5, VERMILION.filled());
        chart.draw_series([dot]).map_err(failed)?;
        let place = (x + 0.1, against.difference);
        write(&mut chart, number(&against.policy), place, INK)?;
    }
    let place = at((MOST_RENDERS, 0.0), 0.0, -0.03, &range);
    let style = text(13.0, BLUE).to_the_left();
    chart
        .draw_series([Text::new("best of K", place, style)])
        .map_err(failed)?;
    Ok(())
}

fn cost_axis() -> Axis<'static> {
    Axis {
        name: "cost, in full renders",
        range: 0.8..MOST_RENDERS + 0.1,
        label: |renders| format!("{renders:.0}"),
        ticks: MOST_RENDERS as usize,
    }
}

/// `point` moved by so many renders, and up by a share of the height.
fn at(point: (f64, f64), across: f64, up: f64, range: &Range<f64>) -> (f64, f64) {
    (point.0 + across, point.1 + up * (range.end - range.start))
}

fn line(chart: &mut Chart<'_, '_>, policies: &[&Policy], colour: RGBColor) -> Result<()> {
    let top = policies.iter().map(|p| (p.renders, p.quality_ci[1]));
    let bottom = policies.iter().rev().map(|p| (p.renders, p.quality_ci[0]));
    let band: Vec<(f64, f64)> = top.chain(bottom).collect();
    chart
        .draw_series([Polygon::new(band, colour.mix(0.12).filled())])
        .map_err(failed)?;
    let points: Vec<(f64, f64)> = policies.iter().map(|p| (p.renders, p.quality)).collect();
    chart
        .draw_series([PathElement::new(points.clone(), colour.stroke_width(2))])
        .map_err(failed)?;
    chart
        .draw_series(
            points
                .into_iter()
                .map(|p| Circle::new(p, 5, colour.filled())),
        )
        .map_err(failed)?;
    Ok(())
}

/// Each point's number of seeds or renders beside it.
fn label(
    chart: &mut Chart<'_, '_>,
    policies: &[&Policy],
    across: f64,
    up: f64,
    range: &Range<f64>,
) -> Result<()> {
    for policy in policies {
        let place = at((policy.renders, policy.quality), across, up, range);
        write(chart, number(&policy.policy), place, INK)?;
    }
    Ok(())
}

fn write(chart: &mut Chart<'_, '_>, label: &str, at: (f64, f64), colour: RGBColor) -> Result<()> {
    chart
        .draw_series([Text::new(label.to_string(), at, text(13.0, colour))])
        .map_err(failed)?;
    Ok(())
}
