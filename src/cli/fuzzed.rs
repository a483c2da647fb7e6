//! What the fuzz targets in `tests/fuzz` read command lines with: they alone are built with
//! `--cfg fuzzing`.

use clap::Parser;

use super::Cli;

/// Whether these words after the program's name are a command.
pub fn read<'a>(words: impl Iterator<Item = &'a str>) -> bool {
    Cli::try_parse_from(std::iter::once("foreseed").chain(words)).is_ok()
}
