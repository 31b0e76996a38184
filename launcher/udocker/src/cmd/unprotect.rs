//! `udocker unprotect`.

use super::Outcome;
use crate::context::Context;

/// Take the protection away from a container or an image.
///
/// Example: udocker unprotect work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A container's ID or name, or an image; a container's name wins.
    #[arg(value_name = "CONTAINER|IMAGE")]
    pub name: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    super::protect::protect(args.name.as_deref(), false, context)
}
