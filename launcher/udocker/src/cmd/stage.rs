//! `udocker stage`: what `udocker-launch` asks for, across an exec.

use std::process::ExitCode;

use udocker_core::error::Failure;
use udocker_core::run::PullPolicy;
use udocker_transfer::node_copy::copy_to_node;
use udocker_transfer::pull::DigestTag;

use super::Outcome;
use crate::context::Context;
use crate::image::{ImageError, own, parse_reference, pulled, ready};

/// Make an image ready to run: extract what a store has, pull what none has.
///
/// Of the processes of a cluster one pulls, and the others wait for it. If the site has a cache on each node, a copy is put there. An image that is named by its digest gets no tag.
///
/// Example: udocker stage debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take the image for this platform [default: this machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Ask the registry: missing (if no store has the image), always, never.
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: PullPolicy,
    /// Wait no longer for others that get the image [default: `limits.wait_timeout` of site.toml, 900].
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Make a tree that belongs to the caller, as a writable layer over it needs one.
    #[arg(long)]
    pub own: bool,
    /// NAME[:TAG] or NAME@DIGEST.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    let reference = parse_reference(args.image.as_deref())?;
    let platform = super::pull::parse_platform(args.platform.as_deref())?;
    if let Some(seconds) = args.wait {
        context.settings.limits.wait = std::time::Duration::from_secs(seconds);
    }
    // What a digest names does not change.
    let pull = match (args.pull, reference.digest()) {
        (PullPolicy::Always, Some(_)) => PullPolicy::Missing,
        (pull, _) => pull,
    };
    ready(context, &reference, &platform, pull, DigestTag::Omit)?;
    let mut is_copied = false;
    if let Some(cache) = context.settings.usable_node_cache() {
        let (stores, progress) = (context.stores()?, context.ui.progress());
        let wanted = (cache, &context.settings);
        match copy_to_node(&stores, &reference, &platform, wanted, progress.as_ref()) {
            Ok(copied) => is_copied = copied,
            Err(error) => context.ui.warning(&Failure::from(error).report()),
        }
    }
    // A copy on this node is the caller's as well.
    if args.own && !is_copied && own(context, &reference, &platform)?.is_none() {
        if pull == PullPolicy::Never {
            return Err(ImageError::NotOwn(reference).into());
        }
        pulled(context, &reference, &platform, pull, DigestTag::Omit)?;
    }
    Ok(ExitCode::SUCCESS)
}
