//! `udocker save`.

use std::path::PathBuf;
use std::process::ExitCode;

use udocker_core::reference::ImageReference;
use udocker_transfer::archive::{Existing, Output, save};

use super::Outcome;
use crate::context::Context;

/// Save images with their layers in a docker-archive.
///
/// Docker, podman, skopeo and udocker load it. Layers that several images have are in it once.
///
/// Example: udocker save -o debian.tar debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to this file; `-` is standard output, as is no file at all.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Images of a store; `-` before them for standard output.
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let (to_stdout, words) = match args.images.split_first() {
        Some((dash, rest)) if dash == "-" => (true, rest),
        _ => (false, args.images.as_slice()),
    };
    if words.is_empty() {
        return Err(crate::usage_text("must specify image:tag or repository/image:tag").into());
    }
    let parsed = words.iter().map(|word| crate::image::parse_reference(Some(word)));
    let images = parsed.collect::<Result<Vec<ImageReference>, _>>()?;
    let output = Output::of(args.output.as_deref().filter(|_| !to_stdout), Existing::Refuse)?;
    save(&context.stores()?, &images, output)?;
    Ok(ExitCode::SUCCESS)
}
