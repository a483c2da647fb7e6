use super::Globals;
use crate::{Error, Result};

/// `foreseed serve`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The longest that a call may take before it answers with what it has.
    #[arg(long, value_name = "SECONDS", default_value_t = 45.0)]
    pub call_seconds: f64,
}

pub fn run(_args: Args, _globals: &Globals) -> Result<()> {
    Err(Error::Internal("serve is not built".into()))
}
