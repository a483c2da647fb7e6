//! Where in the picture each word is attended to.

use image::{Rgb, RgbImage};

use super::Tile;
use super::thumbnail::fit;

/// A word and how much each place of the picture attends to it: its heat, `height` rows of `width`.
pub struct WordHeat {
    pub word: String,
    /// The chance that it is not drawn as it says, where that is known.
    pub risk: Option<f64>,
    pub width: usize,
    pub height: usize,
    pub heat: Vec<f32>,
}

/// The longer side of a tile.
const SIDE: u32 = 192;

/// From cold to hot: dark blue, purple, orange, yellow.
const SCALE: [[f32; 3]; 5] = [
    [12.0, 8.0, 60.0],
    [96.0, 22.0, 118.0],
    [196.0, 56.0, 82.0],
    [246.0, 138.0, 32.0],
    [252.0, 244.0, 158.0],
];

/// The tiles of a sheet: the picture itself, then one a word: the picture in gray under the word's
/// attention, scaled to the word's own coldest and hottest place.
pub fn attention_tiles(picture: &RgbImage, words: &[WordHeat]) -> Vec<Tile> {
    let picture = fit(picture, SIDE);
    let tile = |picture, word: &str, note: String| Tile {
        picture,
        lines: vec![word.to_owned(), note],
        chosen: false,
    };
    let mut tiles = vec![tile(
        picture.as_ref().clone(),
        "picture",
        "as foreseen".into(),
    )];
    tiles.extend(words.iter().map(|word| {
        let risk = word.risk.map(|risk| format!("risk {risk:.2}"));
        tile(heated(&picture, word), &word.word, risk.unwrap_or_default())
    }));
    tiles
}

fn heated(picture: &RgbImage, word: &WordHeat) -> RgbImage {
    let heat = scaled(word);
    let (width, height) = picture.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let at = |n: u32, of: u32, cells: usize| {
            ((n as f32 + 0.5) / of as f32 * cells as f32 - 0.5).clamp(0.0, (cells - 1) as f32)
        };
        let heat = match &heat {
            Some(heat) => {
                let (x, y) = (at(x, width, word.width), at(y, height, word.height));
                bilinear(heat, word.width, x, y)
            }
            None => 0.0,
        };
        let Rgb([r, g, b]) = *picture.get_pixel(x, y);
        let gray = 0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b);
        let colour = colour_of(heat);
        Rgb(colour.map(|c| (0.3 * gray + 0.7 * c).round().clamp(0.0, 255.0) as u8))
    })
}

/// The heat in 0–1, its coldest place at 0 and its hottest at 1; `None` where there is nothing to
/// show: a map of another size than it says, or one that is the same everywhere.
fn scaled(word: &WordHeat) -> Option<Vec<f32>> {
    let cells = word.width.checked_mul(word.height)?;
    if cells == 0 || word.heat.len() != cells || word.heat.iter().any(|h| !h.is_finite()) {
        return None;
    }
    let low = word.heat.iter().copied().fold(f32::INFINITY, f32::min);
    let high = word.heat.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let span = high - low;
    (span > 0.0).then(|| word.heat.iter().map(|h| (h - low) / span).collect())
}

fn bilinear(heat: &[f32], width: usize, x: f32, y: f32) -> f32 {
    let height = heat.len() / width;
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
    let (u, v) = (x - left as f32, y - top as f32);
    let row = |y: usize| heat[y * width + left] * (1.0 - u) + heat[y * width + right] * u;
    row(top) * (1.0 - v) + row(bottom) * v
}

fn colour_of(heat: f32) -> [f32; 3] {
    let place = heat.clamp(0.0, 1.0) * (SCALE.len() - 1) as f32;
    let below = (place as usize).min(SCALE.len() - 2);
    let part = place - below as f32;
    std::array::from_fn(|c| SCALE[below][c] * (1.0 - part) + SCALE[below + 1][c] * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_place_of_a_map_is_the_brightest_of_its_tile() {
        let word = WordHeat {
            word: "circle".into(),
            risk: None,
            width: 4,
            height: 2,
            heat: vec![0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1],
        };
        let tile = heated(&RgbImage::from_pixel(64, 32, Rgb([128; 3])), &word);
        let light = |x, y| {
            tile.get_pixel(x, y)
                .0
                .iter()
                .map(|c| u32::from(*c))
                .sum::<u32>()
        };
        assert!(light(60, 4) > light(4, 4) + 200);
        assert_eq!(light(4, 4), light(4, 28));
    }

    #[test]
    fn maps_that_show_nothing_are_drawn_cold() {
        let picture = RgbImage::from_pixel(8, 8, Rgb([128; 3]));
        for heat in [vec![], vec![0.5; 4], vec![f32::NAN; 4], vec![0.5; 3]] {
            let word = WordHeat {
                word: "circle".into(),
                risk: None,
                width: 2,
                height: 2,
                heat,
            };
            let tile = heated(&picture, &word);
            assert!(tile.pixels().all(|p| p == tile.get_pixel(0, 0)));
        }
    }
}
