//! Pictures: PNGs that say what they are, thumbnails, contact sheets and heat maps.

use std::collections::BTreeMap;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;

mod file;
mod heat;
mod lettering;
mod sheet;
mod thumbnail;

pub use file::{
    picture_name, read_metadata, write_named_by_content, write_plain_png, write_png, write_whole,
};
pub use heat::{WordHeat, attention_tiles};
pub use sheet::{contact_sheet, small_sheet};
pub use thumbnail::thumbnail;

/// Pixels a side of what is shown in an answer, at most.
pub const SHOWN_SIDE: u32 = 512;
/// What of base64 a picture in an answer takes, at most.
pub const SHOWN_BASE64: usize = 100_000;

/// What is written into a PNG's text chunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureMetadata {
    pub candidate: Candidate,
    pub handle: String,
    pub predicted: Option<f64>,
    /// metric → score.
    pub measured: BTreeMap<String, f64>,
    pub software: String,
}

/// A tile of a contact sheet: its lines of text stand under the picture.
#[derive(Clone)]
pub struct Tile {
    pub picture: RgbImage,
    pub lines: Vec<String>,
    /// Drawn with a frame: the chosen one.
    pub chosen: bool,
}
