//! `udocker unprotect`.

use super::Outcome;
use crate::context::Context;

/// Take the protection away from a container or an image.
///
/// Example: udocker unprotect work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A container's ID or name, or an image.
    #[arg(value_name = "CONTAINER|IMAGE")]
    pub name: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("unprotect", "another command").into())
}
