//! How much of Foreseed is served.

use std::sync::Arc;
use std::time::Duration;

use super::Globals;
use crate::Result;
use crate::engine::Limits;
use crate::server::Server;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct SurfaceArgs {
    /// Write no file: pictures are only shown in the answers, and records go with the process.
    #[arg(long)]
    pub read_only: bool,

    /// Serve these tools alone, e.g. predict_quality,rank_seeds.
    #[arg(long, value_delimiter = ',', value_name = "TOOL,…")]
    pub tools: Option<Vec<String>>,
}

impl SurfaceArgs {
    /// The server, with no more than was asked for.
    pub fn server(&self, globals: &Globals, limits: Limits, patience: Duration) -> Result<Server> {
        let foresight = match self.read_only {
            true => globals.foresight_read_only(limits)?,
            false => globals.foresight_within(limits)?,
        };
        let server = Server::new(Arc::new(foresight), patience);
        match &self.tools {
            Some(names) => server.with_tools(names),
            None => Ok(server),
        }
    }
}
