//! `udocker pull`.

use std::process::ExitCode;

use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;

use super::{Outcome, RegistryArgs};
use crate::context::Context;
use crate::ui;

/// Pull an image from a registry into the store, ready to run.
///
/// Example: udocker pull docker.io/library/alpine:3.20
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Take the image for this platform [default: this machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// As `udocker -q pull`.
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Refused: name the tags one by one; `udocker search --list-tags` lists them.
    #[arg(short = 'a', long)]
    pub all_tags: bool,
    /// NAME[:TAG] or NAME@DIGEST, with a registry's host before it if it is not Docker Hub.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    if args.all_tags {
        return Err(crate::refused("--all-tags", "`udocker search --list-tags`, and pull each tag").into());
    }
    args.registry.apply(&mut context.settings)?;
    let reference = crate::image::parse_reference(args.image.as_deref())?;
    let platform = parse_platform(args.platform.as_deref())?;
    pull(context, &reference, &platform)?;
    Ok(ExitCode::SUCCESS)
}

/// Pulls into the user's store and says what came.
pub fn pull(
    context: &Context,
    reference: &ImageReference,
    platform: &Platform,
) -> Result<udocker_core::store::Record, udocker_core::error::Failure> {
    let store = context.writable_store()?;
    let progress = context.ui.progress();
    let since = std::time::Instant::now();
    let record = udocker_transfer::pull::pull(&store, reference, platform, &context.settings, progress.as_ref())?;
    context.ui.info(&format!(
        "pulled {reference} for {} in {:.1} s: {} layers, {} packed, {} in {} entries",
        record.platform,
        since.elapsed().as_secs_f64(),
        record.layers,
        ui::bytes(record.packed_bytes),
        ui::bytes(record.tree_bytes),
        record.entries,
    ));
    Ok(record)
}

/// The platform that was asked for, else this machine's.
pub fn parse_platform(text: Option<&str>) -> Result<Platform, udocker_core::error::Failure> {
    match text {
        Some(text) => Ok(text.parse().map_err(crate::usage)?),
        None => Ok(Platform::native()),
    }
}
