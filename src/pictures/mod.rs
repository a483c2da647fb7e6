//! Pictures: PNGs that say what they are, thumbnails, and contact sheets.

use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;
use crate::{Error, Result};

/// What is written into a PNG's text chunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureMetadata {
    pub candidate: Candidate,
    pub handle: String,
    pub predicted: Option<f64>,
    /// metric → score.
    pub measured: std::collections::BTreeMap<String, f64>,
    pub software: String,
}

/// Writes a PNG whole or not at all.
pub fn write_png(_path: &Path, _picture: &RgbImage, _metadata: &PictureMetadata) -> Result<()> {
    Err(Error::Internal("pictures are not built".into()))
}

pub fn read_metadata(_path: &Path) -> Result<PictureMetadata> {
    Err(Error::Internal("pictures are not built".into()))
}

/// JPEG bytes of at most `side` pixels a side whose base64 is at most `base64_bytes`.
pub fn thumbnail(_picture: &RgbImage, _side: u32, _base64_bytes: usize) -> Result<Vec<u8>> {
    Err(Error::Internal("pictures are not built".into()))
}

/// A tile of a contact sheet: its lines of text stand under the picture.
pub struct Tile {
    pub picture: RgbImage,
    pub lines: Vec<String>,
    /// Drawn with a frame: the chosen one.
    pub chosen: bool,
}

/// Lays tiles out in a grid under a title.
pub fn contact_sheet(_title: &str, _tiles: &[Tile]) -> RgbImage {
    RgbImage::new(1, 1)
}

/// A word and how much each place of the picture attends to it: its heat, `height` rows of `width`.
pub struct WordHeat {
    pub word: String,
    pub width: usize,
    pub height: usize,
    pub heat: Vec<f32>,
}

/// One tile a word: the picture, and the word's attention over it.
pub fn attention_over_words(_picture: &RgbImage, _words: &[WordHeat]) -> RgbImage {
    RgbImage::new(1, 1)
}
