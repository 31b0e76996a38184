//! `udocker rename`.

use super::Outcome;
use crate::context::Context;

/// Change a name of a container.
///
/// Example: udocker rename work old_work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name that it has.
    #[arg(value_name = "OLD")]
    pub old: Option<String>,
    /// The name that it gets.
    #[arg(value_name = "NEW")]
    pub new: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("rename", "another command").into())
}
