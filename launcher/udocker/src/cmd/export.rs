//! `udocker export`.

use std::path::PathBuf;

use super::Outcome;
use crate::context::Context;

/// Write a container's root as a tar.
///
/// Example: udocker export -o work.tar work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to this file; without it, to standard output.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The whole container with its settings, for `udocker import --clone`.
    #[arg(long)]
    pub clone: bool,
    /// `-` for standard output, and a container's ID or name.
    #[arg(value_name = "CONTAINER", num_args = 0..=2)]
    pub words: Vec<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("export", "another command").into())
}
