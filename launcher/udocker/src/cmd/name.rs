//! `udocker name`.

use super::Outcome;
use crate::context::Context;

/// Give a container a name.
///
/// Example: udocker name 4b6f0c9e-1f1e-4a55-9b0e-5d0c3a1f6f1a work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A container's ID, or another name of it.
    #[arg(value_name = "CONTAINER")]
    pub container: Option<String>,
    /// The new name.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("name", "another command").into())
}
