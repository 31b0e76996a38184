//! `udocker tag`.

use super::Outcome;
use crate::context::Context;

/// Give an image another name; nothing is copied.
///
/// Example: udocker tag debian:12 mydebian:1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image of a store.
    #[arg(value_name = "SOURCE")]
    pub source: Option<String>,
    /// NAME[:TAG] that is not taken yet.
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("tag", "another command").into())
}
