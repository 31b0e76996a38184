//! `udocker install`.

use super::Outcome;
use crate::context::Context;

/// Leave in the store what scripts of udocker look for; nothing is downloaded.
///
/// Example: udocker install
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write it anew.
    #[arg(long)]
    pub force: bool,
    /// Remove what an installation left first.
    #[arg(long)]
    pub purge: bool,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("install", "another command").into())
}
