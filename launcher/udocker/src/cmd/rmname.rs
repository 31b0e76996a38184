//! `udocker rmname`.

use super::Outcome;
use crate::context::Context;

/// Take a name away from a container, which stays.
///
/// Example: udocker rmname work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("rmname", "another command").into())
}
