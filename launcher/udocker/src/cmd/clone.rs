//! `udocker clone`.

use super::Outcome;
use crate::context::Context;

/// Make a copy of a container and print its ID.
///
/// Example: udocker clone --name=copy work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name the copy.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A container's ID or name.
    #[arg(value_name = "CONTAINER")]
    pub container: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("clone", "another command").into())
}
