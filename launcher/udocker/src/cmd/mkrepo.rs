//! `udocker mkrepo`.

use std::path::PathBuf;

use super::Outcome;
use crate::context::Context;

/// Make an empty store in a new directory.
///
/// Example: udocker mkrepo /data/store
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory that does not exist.
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("mkrepo", "another command").into())
}
