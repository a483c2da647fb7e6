//! Text in pictures.

use embedded_graphics::Drawable;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::iso_8859_1::{
    FONT_6X12, FONT_6X13_BOLD, FONT_9X15, FONT_9X15_BOLD, FONT_10X20,
};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::Pixel;
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage};

/// A fixed-width face.
#[derive(Clone, Copy)]
pub(super) enum Face {
    Title,
    Strong,
    Plain,
    SmallStrong,
    Small,
}

impl Face {
    fn font(self) -> &'static MonoFont<'static> {
        match self {
            Self::Title => &FONT_10X20,
            Self::Strong => &FONT_9X15_BOLD,
            Self::Plain => &FONT_9X15,
            Self::SmallStrong => &FONT_6X13_BOLD,
            Self::Small => &FONT_6X12,
        }
    }

    /// Pixels from one line to the next.
    pub(super) fn line(self) -> u32 {
        self.font().character_size.height + 2
    }

    /// Characters that stand side by side in so many pixels.
    pub(super) fn columns(self, width: u32) -> usize {
        (width / self.font().character_size.width) as usize
    }
}

/// Writes one line with its upper left corner at (`x`, `y`), cut at `width` pixels.
pub(super) fn write(
    picture: &mut RgbImage,
    face: Face,
    ink: Rgb<u8>,
    (x, y): (u32, u32),
    width: u32,
    line: &str,
) {
    let text = cut(line, face.columns(width));
    let ink = Rgb888::new(ink[0], ink[1], ink[2]);
    let style = MonoTextStyle::new(face.font(), ink);
    let at = Point::new(x as i32, y as i32);
    // The canvas takes every pixel: drawing cannot fail.
    let _ = Text::with_baseline(&text, at, style, Baseline::Top).draw(&mut Canvas(picture));
}

/// `text` in lines of at most `columns` characters, broken between words, at most `lines` of them.
pub(super) fn wrap(text: &str, columns: usize, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let line = wrapped.len() - 1;
        let used = wrapped[line].chars().count();
        let room = used + usize::from(used > 0) + word.chars().count() <= columns;
        if used == 0 || room || wrapped.len() == lines {
            if used > 0 {
                wrapped[line].push(' ');
            }
            wrapped[line].push_str(word);
        } else {
            wrapped.push(word.to_owned());
        }
    }
    for line in &mut wrapped {
        *line = cut(line, columns);
    }
    wrapped
}

fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(2)).collect();
    format!("{}..", kept.trim_end())
}

struct Canvas<'a>(&'a mut RgbImage);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Self::Color>>,
    {
        for Pixel(Point { x, y }, ink) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
                continue;
            };
            if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
                *pixel = Rgb([ink.r(), ink.g(), ink.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_titles_are_broken_between_words_and_cut_at_the_last_line() {
        assert_eq!(wrap("a red circle", 20, 2), ["a red circle"]);
        assert_eq!(wrap("a red circle", 8, 2), ["a red", "circle"]);
        assert_eq!(wrap("a red circle and a star", 8, 2), ["a red", "circle.."]);
        assert_eq!(wrap("", 8, 2), [""]);
        assert_eq!(wrap("unbreakable", 6, 2), ["unbr.."]);
    }
}
