//! Contact sheets: candidates side by side.

use image::{Rgb, RgbImage, imageops};

use super::Tile;
use super::lettering::{self, Face};
use super::thumbnail::fit;

const PAPER: Rgb<u8> = Rgb([250, 249, 246]);
const INK: Rgb<u8> = Rgb([34, 36, 40]);
const SOFT_INK: Rgb<u8> = Rgb([98, 102, 110]);
const HAIRLINE: Rgb<u8> = Rgb([214, 213, 208]);
const CHOSEN: Rgb<u8> = Rgb([20, 138, 92]);

const MARGIN: u32 = 24;
const GAP: u32 = 18;
const FRAME: u32 = 5;
/// The longer side of the pictures in a sheet, at most.
const SIDE: u32 = 256;

/// Lays tiles out in a grid under a title. Pictures of one sheet keep their proportions; a tile's
/// first line is written strong.
pub fn contact_sheet(title: &str, tiles: &[Tile]) -> RgbImage {
    // Many tiles are drawn smaller, so that a sheet of 64 stays a picture one can open.
    let side = if tiles.len() > 24 { SIDE / 2 } else { SIDE };
    let pictures: Vec<_> = tiles.iter().map(|t| fit(&t.picture, side)).collect();
    let cell_width = pictures
        .iter()
        .map(|p| p.width())
        .max()
        .unwrap_or(1)
        .max(160);
    let picture_height = pictures.iter().map(|p| p.height()).max().unwrap_or(1);
    let lines = tiles.iter().map(|t| t.lines.len()).max().unwrap_or(0) as u32;
    let text_height = if lines == 0 {
        0
    } else {
        6 + lines * Face::Plain.line()
    };
    let cell_height = picture_height + text_height;

    let columns = columns_for(tiles.len() as u32);
    let rows = (tiles.len() as u32).div_ceil(columns).max(1);
    let width = (2 * MARGIN + columns * (cell_width + GAP) - GAP).max(360);
    let title = lettering::wrap(title, Face::Title.columns(width - 2 * MARGIN), 3);
    let title_height = title.len() as u32 * Face::Title.line() + 18;
    let height = 2 * MARGIN + title_height + rows * (cell_height + GAP) - GAP;

    let mut sheet = RgbImage::from_pixel(width, height, PAPER);
    for (n, line) in title.iter().enumerate() {
        let y = MARGIN + n as u32 * Face::Title.line();
        lettering::write(
            &mut sheet,
            Face::Title,
            INK,
            (MARGIN, y),
            width - 2 * MARGIN,
            line,
        );
    }
    for (n, (tile, picture)) in tiles.iter().zip(&pictures).enumerate() {
        let n = n as u32;
        let x = MARGIN + n % columns * (cell_width + GAP);
        let y = MARGIN + title_height + n / columns * (cell_height + GAP);
        let left = x + (cell_width - picture.width()) / 2;
        let top = y + (picture_height - picture.height());
        let (frame, colour) = if tile.chosen {
            (FRAME, CHOSEN)
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
        for (n, line) in tile.lines.iter().enumerate() {
            let (face, ink) = match (n, tile.chosen) {
                (0, true) => (Face::Strong, CHOSEN),
                (0, false) => (Face::Strong, INK),
                _ => (Face::Plain, SOFT_INK),
            };
            let y = y + picture_height + 8 + n as u32 * face.line();
            lettering::write(
                &mut sheet,
                face,
                ink,
                (left, y),
                x + cell_width - left,
                line,
            );
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
                lines: vec![format!("#{n} seed {n}"), "predicted 0.82".into()],
                chosen: n == 0,
            })
            .collect()
    }

    #[test]
    fn every_tile_is_on_the_sheet_and_the_chosen_one_is_framed() {
        for count in [1, 3, 7, 16] {
            let sheet = contact_sheet("a red circle", &tiles(count, 64, 64));
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

    #[test]
    fn a_sheet_stays_of_a_size_that_can_be_looked_at() {
        for (count, width, height) in [(0, 1, 1), (64, 64, 64), (16, 1024, 768), (2, 64, 2048)] {
            let sheet = contact_sheet(&"word ".repeat(200), &tiles(count, width, height));
            let (width, height) = sheet.dimensions();
            assert!((1..=2400).contains(&width) && (1..=2400).contains(&height));
        }
    }
}
