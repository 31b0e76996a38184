//! `udocker protect`.

use super::Outcome;
use crate::context::Context;

/// Protect a container or an image against removal.
///
/// Example: udocker protect work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A container's ID or name, or an image.
    #[arg(value_name = "CONTAINER|IMAGE")]
    pub name: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("protect", "another command").into())
}
