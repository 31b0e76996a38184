//! `udocker verify`.

use super::Outcome;
use crate::context::Context;

/// Check the blobs of an image against their digests.
///
/// Example: udocker verify debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image of a store.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("verify", "another command").into())
}
