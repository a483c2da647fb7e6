//! What the plots share: a page with a title that says what was found, and axes.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{Cartesian2d, DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, TextStyle};

use crate::{Error, Result};

/// Pixels of a page, and of the head that the title takes.
const SIZE: (u32, u32) = (960, 600);
const HEAD: i32 = 84;
const FONT: &str = "sans-serif";

pub const INK: RGBColor = RGBColor(34, 34, 34);
pub const FAINT: RGBColor = RGBColor(110, 110, 110);
// Okabe and Ito's colours, which colour-blind people tell apart.
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const VERMILION: RGBColor = RGBColor(213, 94, 0);
pub const GREEN: RGBColor = RGBColor(0, 158, 115);

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Chart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// What an axis shows, and from where to where.
pub struct Axis<'a> {
    pub name: &'a str,
    pub range: Range<f64>,
    /// How its numbers are written.
    pub label: fn(&f64) -> String,
    pub ticks: usize,
}

/// A page: `title` above `about`, and below it what `draw` draws.
pub fn page(title: &str, about: &str, draw: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&plotters::style::WHITE).map_err(failed)?;
        let title_style = text(21.0, INK).bold();
        root.draw_text(title, &title_style, (24, 26))
            .map_err(failed)?;
        root.draw_text(about, &text(14.0, FAINT), (24, 56))
            .map_err(failed)?;
        let (_, below) = root.split_vertically(HEAD);
        draw(&below)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Axes on `area`, with faint lines behind them.
pub fn axes<'a, 'b>(area: &'a Area<'b>, x: &Axis<'_>, y: &Axis<'_>) -> Result<Chart<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(10)
        .margin_right(24)
        .margin_bottom(10)
        .margin_left(12)
        .x_label_area_size(48)
        .y_label_area_size(62)
        .build_cartesian_2d(x.range.clone(), y.range.clone())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(plotters::style::TRANSPARENT)
        .bold_line_style(INK.mix(0.08))
        .axis_style(INK.mix(0.5))
        .x_labels(x.ticks)
        .y_labels(y.ticks)
        .x_label_formatter(&x.label)
        .y_label_formatter(&y.label)
        .label_style(text(13.0, INK))
        .axis_desc_style(text(14.0, INK))
        .x_desc(x.name)
        .y_desc(y.name)
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

/// Text whose left end and middle are where it is put.
pub fn text(size: f64, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(HPos::Left, VPos::Center))
}

/// Changes to a text's style.
pub trait Styled {
    fn bold(self) -> Self;
    /// Its right end is where it is put.
    fn to_the_left(self) -> Self;
}

impl Styled for TextStyle<'static> {
    fn bold(mut self) -> Self {
        self.font = self.font.style(FontStyle::Bold);
        self
    }

    fn to_the_left(self) -> Self {
        self.pos(Pos::new(HPos::Right, VPos::Center))
    }
}

pub fn failed(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("a plot could not be drawn: {error}"))
}

/// `80 %`
pub fn percent(share: &f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// `0.8`
pub fn tenths(value: &f64) -> String {
    format!("{value:.1}")
}
