//! `udocker save`.

use std::path::PathBuf;

use super::Outcome;
use crate::context::Context;

/// Save images with their layers in a docker-archive.
///
/// Example: udocker save -o debian.tar debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to this file; `-` is standard output, as is no file at all.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Images of a store; `-` before them for standard output.
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("save", "another command").into())
}
