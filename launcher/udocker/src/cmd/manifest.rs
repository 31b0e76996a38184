//! `udocker manifest`.

use super::{Outcome, RegistryArgs};
use crate::context::Context;

/// Print the manifest of an image in a registry.
///
/// Example: udocker manifest inspect docker.io/library/debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// The manifest of this platform, not the index [default: what the registry has under the name].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// `inspect`, and the image.
    #[arg(value_name = "inspect IMAGE", num_args = 0..=2)]
    pub words: Vec<String>,
}

pub fn run(_args: &Args, _context: &mut Context) -> Outcome {
    Err(crate::refused("manifest", "another command").into())
}
