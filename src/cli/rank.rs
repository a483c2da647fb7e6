use super::Globals;
use crate::{Error, Result};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _globals: &Globals) -> Result<()> {
    Err(Error::Internal("rank is not built".into()))
}
