//! `udocker resolve`.

use std::process::ExitCode;

use udocker_core::run::{PullPolicy, is_path};
use udocker_transfer::resolve::{Source, resolve};

use super::{Outcome, RegistryArgs};
use crate::context::Context;
use crate::image::parse_reference;
use crate::submission;

/// Print an image's name with the digest that it stands for now, as NAME@DIGEST.
///
/// The stores are asked first, then the registry, which has 5 s to answer. The digest is that of the image's index if it
/// has one. The name of a container and a path stand for themselves and are printed as they are.
///
/// Example: udocker resolve docker.io/library/debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Ask the registry: missing (if no store has the image), always, never.
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: PullPolicy,
    /// Look for the image of this platform in the stores [default: this machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Instead of IMAGE take the request in SLURM_UDOCKER_REQUEST, and print it as it is to be sent: what Slurm's plugin runs when a job is submitted.
    #[arg(long, conflicts_with_all = ["image", "pull", "platform"])]
    pub request: bool,
    /// NAME[:TAG] or NAME@DIGEST.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    args.registry.apply(&mut context.settings)?;
    if args.request {
        return submission::run(context);
    }
    let text = args.image.as_deref().unwrap_or_default();
    let stores = context.stores()?;
    if is_path(text) || !text.is_empty() && stores.find_container(text)?.is_some() {
        context.ui.result(text);
        return Ok(ExitCode::SUCCESS);
    }
    let reference = parse_reference(args.image.as_deref())?;
    let platform = super::pull::parse_platform(args.platform.as_deref())?;
    let resolved = resolve(&stores, &reference, &platform, args.pull, &context.settings)?;
    match &resolved.source {
        Source::Reference => {}
        Source::Store(name) => context.ui.info(&format!("{reference}: as the store `{name}` has it")),
        Source::Registry => context.ui.info(&format!("{reference}: as its registry has it")),
        Source::Memory => context.ui.info(&format!("{reference}: as its registry had it a moment ago")),
    }
    context.ui.result(reference.with_digest(resolved.digest).to_string());
    Ok(ExitCode::SUCCESS)
}
