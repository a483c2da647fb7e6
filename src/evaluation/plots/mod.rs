//! An evaluation as three pictures: whether predictions agree with what was measured, whether chances
//! mean what they say, and what choosing by predictions delivers for its cost. SVG, read at a glance:
//! the title says what was found.

mod canvas;
mod frontier;
mod predicted;
mod reliability;

use std::path::{Path, PathBuf};

use super::{Evaluation, Measured};
use crate::pictures::write_whole;
use crate::{Error, Result};

/// Writes all plots into `folder`, which is made where it is not there, and names them.
pub fn write(folder: &Path, measured: &Measured, evaluation: &Evaluation) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let plots = [
        (
            "predicted-against-measured.svg",
            predicted::plot(&measured.held_out, evaluation)?,
        ),
        ("reliability.svg", reliability::plot(evaluation)?),
        ("frontier.svg", frontier::plot(evaluation)?),
    ];
    plots
        .into_iter()
        .map(|(name, svg)| {
            let path = folder.join(name);
            write_whole(&path, svg.as_bytes())?;
            Ok(path)
        })
        .collect()
}
