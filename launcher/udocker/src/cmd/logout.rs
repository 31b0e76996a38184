//! `udocker logout`.

use super::Outcome;
use crate::context::Context;

/// Forget the credentials of a registry.
///
/// Example: udocker logout --registry=https://quay.io
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of all registries.
    #[arg(short = 'a')]
    pub all: bool,
    /// The registry [default: Docker Hub, or UDOCKER_REGISTRY].
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("logout", "another command").into())
}
