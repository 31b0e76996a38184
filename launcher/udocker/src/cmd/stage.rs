//! `udocker stage`: what `udocker-launch` asks for, across an exec.

use std::process::ExitCode;

use super::Outcome;
use crate::context::Context;
use crate::image::{ImageError, parse_reference, stored};

/// Extract an image of a store, so that it is ready to run; nothing is pulled.
///
/// Example: udocker stage debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take the image for this platform [default: this machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// An image of a store.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let reference = parse_reference(args.image.as_deref())?;
    let platform = super::pull::parse_platform(args.platform.as_deref())?;
    match stored(context, &reference, &platform)? {
        Some(_) => Ok(ExitCode::SUCCESS),
        None => Err(ImageError::NotFound(reference).into()),
    }
}
