//! Contact sheets: candidates side by side.

use std::borrow::Cow;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::Tile;
use super::lettering::{self, Face};
use super::thumbnail::fit;

const PAPER: Rgb<u8> = Rgb([250, 249, 246]);
const INK: Rgb<u8> = Rgb([34, 36, 40]);
const SOFT_INK: Rgb<u8> = Rgb([98, 102, 110]);
const HAIRLINE: Rgb<u8> = Rgb([214, 213, 208]);
const CHOSEN: Rgb<u8> = Rgb([20, 138, 92]);

/// The longer side of the pictures in a sheet, at most.
const SIDE: u32 = 256;
/// More tiles than this are not told apart in a small sheet.
pub const TOLD_APART: usize = 25;

/// Pixels that "seed 4294967295" takes in small letters.
const LEAST_CELL: u32 = 90;

/// How a sheet is set.
struct Style {
    margin: u32,
    gap: u32,
    frame: u32,
    title: Face,
    strong: Face,
    plain: Face,
    title_lines: usize,
    under_title: u32,
    /// Of a tile's lines.
    lines: usize,
}

const LARGE: Style = Style {
    margin: 24,
    gap: 18,
    frame: 5,
    title: Face::Title,
    strong: Face::Strong,
    plain: Face::Plain,
    title_lines: 3,
    under_title: 18,
    lines: usize::MAX,
};

const SMALL: Style = Style {
    margin: 8,
    gap: 8,
    frame: 2,
    title: Face::SmallStrong,
    strong: Face::SmallStrong,
    plain: Face::Small,
    title_lines: 1,
    under_title: 6,
    lines: 2,
};

/// Lays tiles out in a grid under a title. Pictures of one sheet keep their proportions; a tile's
/// first line is written strong.
pub fn contact_sheet(title: &str, tiles: &[Tile]) -> RgbImage {
    // Many tiles are drawn smaller, so that a sheet of 64 stays a picture one can open.
    let side = if tiles.len() > 24 { SIDE / 2 } else { SIDE };
    let pictures: Vec<_> = tiles.iter().map(|t| fit(&t.picture, side)).collect();
    let widest = pictures.iter().map(|p| p.width()).max();
    let cell_width = widest.unwrap_or(1).max(160);
    let columns = columns_for(tiles.len() as u32);
    lay_out(title, tiles, &pictures, &LARGE, (columns, cell_width, 360))
}

/// The same within `side` pixels a side, so that its letters are still read where the large one would
/// have to be shrunk: of each tile the first two lines, and no more than [`TOLD_APART`] tiles.
pub fn small_sheet(title: &str, tiles: &[Tile], side: u32) -> RgbImage {
    let shown = &tiles[..tiles.len().min(TOLD_APART)];
    let title = match tiles.len() - shown.len() {
        0 => Cow::Borrowed(title),
        _ => format!("best {} of {}: {title}", shown.len(), tiles.len()).into(),
    };
    let (columns, cell_width, scale) = closest_grid(shown, side);
    let pictures: Vec<_> = shown
        .iter()
        .map(|t| Cow::Owned(scaled(&t.picture, scale)))
        .collect();
    lay_out(&title, shown, &pictures, &SMALL, (columns, cell_width, 240))
}

/// Columns, the width of a cell and the scale of the pictures that make them largest.
fn closest_grid(tiles: &[Tile], side: u32) -> (u32, u32, f64) {
    let count = (tiles.len() as u32).max(1);
    let longest = |of: fn(&RgbImage) -> u32| tiles.iter().map(|t| of(&t.picture)).max();
    let wide = longest(RgbImage::width).unwrap_or(1).max(1);
    let high = longest(RgbImage::height).unwrap_or(1).max(1);
    let room = side.saturating_sub(2 * SMALL.margin);
    let under_title = room.saturating_sub(SMALL.title.line() + SMALL.under_title);
    let of_column = |columns: u32| {
        let rows = count.div_ceil(columns);
        let cell = room.saturating_sub((columns - 1) * SMALL.gap) / columns;
        let row = under_title.saturating_sub((rows - 1) * SMALL.gap) / rows;
        let picture = row.saturating_sub(text_height(tiles, &SMALL));
        let scale = (f64::from(cell) / f64::from(wide)).min(f64::from(picture) / f64::from(high));
        (columns, cell, scale)
    };
    // No narrower than a line of the longest seed.
    (1..=count)
        .map(of_column)
        .filter(|(columns, cell, _)| *columns == 1 || *cell >= LEAST_CELL)
        .max_by(|a, b| a.2.total_cmp(&b.2))
        .unwrap_or((1, room, 1.0))
}

fn scaled(picture: &RgbImage, scale: f64) -> RgbImage {
    let of = |n: u32| ((f64::from(n) * scale) as u32).max(1);
    let (width, height) = (of(picture.width()), of(picture.height()));
    imageops::resize(picture, width, height, FilterType::CatmullRom)
}

/// What the lines under the pictures take.
fn text_height(tiles: &[Tile], style: &Style) -> u32 {
    let lines = tiles.iter().map(|t| t.lines.len().min(style.lines)).max();
    match lines.unwrap_or(0) as u32 {
        0 => 0,
        lines => 6 + lines * style.plain.line(),
    }
}

fn lay_out(
    title: &str,
    tiles: &[Tile],
    pictures: &[Cow<'_, RgbImage>],
    style: &Style,
    (columns, cell_width, least_width): (u32, u32, u32),
) -> RgbImage {
    let (margin, gap) = (style.margin, style.gap);
    let picture_height = pictures.iter().map(|p| p.height()).max().unwrap_or(1);
    let cell_height = picture_height + text_height(tiles, style);
    let rows = (tiles.len() as u32).div_ceil(columns).max(1);
    let width = (2 * margin + columns * (cell_width + gap) - gap).max(least_width);
    let title = lettering::wrap(
        title,
        style.title.columns(width - 2 * margin),
        style.title_lines,
    );
    let title_height = title.len() as u32 * style.title.line() + style.under_title;
    let height = 2 * margin + title_height + rows * (cell_height + gap) - gap;

    let mut sheet = RgbImage::from_pixel(width, height, PAPER);
    for (n, line) in title.iter().enumerate() {
        let at = (margin, margin + n as u32 * style.title.line());
        lettering::write(&mut sheet, style.title, INK, at, width - 2 * margin, line);
    }
    for (n, (tile, picture)) in tiles.iter().zip(pictures).enumerate() {
        let n = n as u32;
        let x = margin + n % columns * (cell_width + gap);
        let y = margin + title_height + n / columns * (cell_height + gap);
        let left = x + (cell_width - picture.width()) / 2;
        let top = y + (picture_height - picture.height());
        let (frame, colour) = if tile.chosen {
            (style.frame, CHOSEN)
        } else {
            (1, HAIRLINE)
        };
        fill(
            &mut sheet,
            (left - frame, top - frame),
            (picture.width() + 2 * frame, picture.height() + 2 * frame),
            colour,
        );
        imageops::replace(&mut sheet, picture.as_ref(), left.into(), top.into());
        // A narrow picture's lines may take the whole of its cell.
        let text = match tile
            .lines
            .iter()
            .take(style.lines)
            .any(|line| line.chars().count() > style.strong.columns(x + cell_width - left))
        {
            true => x,
            false => left,
        };
        for (n, line) in tile.lines.iter().take(style.lines).enumerate() {
            let (face, ink) = match (n, tile.chosen) {
                (0, true) => (style.strong, CHOSEN),
                (0, false) => (style.strong, INK),
                _ => (style.plain, SOFT_INK),
            };
            let at = (
                text,
                y + picture_height + 3 + frame + n as u32 * face.line(),
            );
            lettering::write(&mut sheet, face, ink, at, x + cell_width - text, line);
        }
    }
    sheet
}

/// So many tiles side by side that the sheet is a little wider than high.
fn columns_for(tiles: u32) -> u32 {
    match tiles {
        0..=4 => tiles.max(1),
        5..=8 => 4,
        9..=10 => 5,
        _ => (f64::from(tiles) * 1.5).sqrt().ceil() as u32,
    }
}

fn fill(picture: &mut RgbImage, (x, y): (u32, u32), (width, height): (u32, u32), ink: Rgb<u8>) {
    let patch = RgbImage::from_pixel(width, height, ink);
    imageops::replace(picture, &patch, x.into(), y.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiles(count: usize, width: u32, height: u32) -> Vec<Tile> {
        (0..count)
            .map(|n| Tile {
                picture: RgbImage::from_pixel(width, height, Rgb([n as u8, 90, 200])),
                lines: vec![
                    format!("#{} 0.82", n + 1),
                    format!("seed {}", u32::MAX - n as u32),
                    "at step 5".into(),
                ],
                chosen: n == 0,
            })
            .collect()
    }

    #[test]
    fn every_tile_is_on_the_sheet_and_the_chosen_one_is_framed() {
        for count in [1, 3, 7, 16] {
            let all = tiles(count, 64, 64);
            for sheet in [
                contact_sheet("a red circle", &all),
                small_sheet("a red circle", &all, 512),
            ] {
                let has = |pixel: Rgb<u8>| sheet.pixels().any(|p| *p == pixel);
                for n in 0..count {
                    assert!(
                        has(Rgb([n as u8, 90, 200])),
                        "tile {n} of {count} is missing"
                    );
                }
                assert!(has(CHOSEN));
            }
        }
    }

    #[test]
    fn a_sheet_stays_of_a_size_that_can_be_looked_at() {
        for (count, width, height) in [(0, 1, 1), (64, 64, 64), (16, 1024, 768), (2, 64, 2048)] {
            let sheet = contact_sheet(&"word ".repeat(200), &tiles(count, width, height));
            let (width, height) = sheet.dimensions();
            assert!((1..=2400).contains(&width) && (1..=2400).contains(&height));
        }
    }

    #[test]
    fn a_small_sheet_needs_no_shrinking_and_its_pictures_are_not_stamps() {
        for (count, width, height) in [
            (0, 1, 1),
            (1, 64, 64),
            (2, 64, 2048),
            (10, 768, 512),
            (16, 64, 64),
            (25, 1024, 1024),
            (64, 64, 64),
        ] {
            let all = tiles(count, width, height);
            let sheet = small_sheet(&"word ".repeat(200), &all, 512);
            let (w, h) = sheet.dimensions();
            assert!(w <= 512 && h <= 512, "{count} of {width}×{height}: {w}×{h}");
            let (_, cell, scale) = closest_grid(&all[..count.min(TOLD_APART)], 512);
            let longer = f64::from(width.max(height)) * scale;
            assert!(count == 0 || longer >= 50.0, "{count}: {longer}");
            // "seed 4294967295" is read whole.
            assert!(
                count == 2 || Face::Small.columns(cell) >= 15,
                "{count}: {cell}"
            );
        }
    }
}
