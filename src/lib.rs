//! Foreseed lets an agent see how an image will turn out before paying for it.
//!
//! The modules depend on one another in one direction only, from the people and agents at the top
//! down to the tensors:
//!
//! ```text
//! cli, server          a command line, and an MCP server: the only one that knows MCP
//!   └ evaluation       measures the predictions, and what the jobs built on them deliver
//!   └ foresight        the four jobs: predict, rank, refine, render
//!       ├ engine       one thread that owns the device and steps trajectories in batches
//!       ├ store        the records behind the handles, on disk
//!       ├ models       which models there are, where they lie, how they are fetched
//!       ├ pictures     PNGs with metadata, thumbnails, contact sheets
//!       ├ probe        the learned predictor: its features, network and training
//!       └ scorers      what measures a finished image
//!            └ world   the embedded model's world of shapes: scenes, wordings, renders
//!   engine
//!       ├ sampling     schedules, guidance, the resumable trajectory
//!       └ backbones    the denoisers, a folder a family, behind one trait
//!            └ device  which device computes, and how much memory it has
//! ```

pub mod backbones;
pub mod candidate;
pub mod cli;
pub mod device;
pub mod engine;
pub mod error;
pub mod evaluation;
pub mod foresight;
pub mod models;
pub mod pictures;
pub mod probe;
pub mod sampling;
pub mod scorers;
pub mod server;
pub mod store;
pub mod world;

pub use error::{Error, Result};
