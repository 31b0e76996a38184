//! `udocker stage`: what `udocker-launch` asks for, across an exec, and a scheduler's prolog.

use std::process::ExitCode;
use std::time::Duration;

use udocker_core::env_vars::UDOCKER_REQUEST;
use udocker_core::error::Failure;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::{PullPolicy, RunRequest, is_path};
use udocker_core::settings::StageWhen;
use udocker_transfer::node_copy::copy_to_node;
use udocker_transfer::pull::DigestTag;

use super::Outcome;
use crate::context::Context;
use crate::image::{parse_reference, ready};
use crate::{usage, usage_text};

/// Make an image ready to run: extract what a store has, pull what none has.
///
/// Of the processes of a cluster one pulls, and the others wait for it. It goes into the store that `stage.store` of site.toml names, else into the first that you may write. If the site has a cache on each node, a copy is put there. An image that is named by its digest gets no tag.
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
    /// Take the image and all options from the job's request in UDOCKER_REQUEST, and do nothing unless `stage.when` of site.toml is this: submit, prolog.
    #[arg(long, value_name = "WHEN", value_parser = before_start, conflicts_with_all = ["platform", "pull", "wait", "image"])]
    pub when: Option<StageWhen>,
    /// NAME[:TAG] or NAME@DIGEST.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

fn before_start(text: &str) -> Result<StageWhen, String> {
    let when = StageWhen::named(text).filter(|when| *when != StageWhen::Start);
    when.ok_or_else(|| format!("`{text}` is neither `submit` nor `prolog`"))
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    if let Some(when) = args.when {
        let text = std::env::var_os(UDOCKER_REQUEST).ok_or_else(|| {
            usage_text(&format!("--when={} is for a job, and {UDOCKER_REQUEST} is not set", when.name()))
        })?;
        for_job(&RunRequest::from_json(text.as_encoded_bytes())?, when, context)?;
        return Ok(ExitCode::SUCCESS);
    }
    let reference = parse_reference(args.image.as_deref())?;
    let platform = super::pull::parse_platform(args.platform.as_deref())?;
    if let Some(seconds) = args.wait {
        context.settings.limits.wait = Duration::from_secs(seconds);
    }
    stage(&reference, &platform, args.pull, context)?;
    copy(&reference, &platform, context)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the image of the job ready that `request` is for, if the site wants that `when`; what is no image is ready.
pub fn for_job(request: &RunRequest, when: StageWhen, context: &mut Context) -> Result<(), Failure> {
    let image = &request.image;
    if context.settings.stage.when != when || is_path(image) || context.stores()?.find_container(image)?.is_some() {
        return Ok(());
    }
    let reference: ImageReference = image.parse().map_err(usage)?;
    let platform = request.platform.clone().unwrap_or_else(Platform::native);
    if let Some(seconds) = request.timeout {
        context.settings.limits.wait = Duration::from_secs(seconds.into());
    }
    stage(&reference, &platform, request.pull, context)?;
    // Where a job is submitted is none of its nodes.
    if when == StageWhen::Prolog { copy(&reference, &platform, context) } else { Ok(()) }
}

fn stage(
    reference: &ImageReference,
    platform: &Platform,
    pull: PullPolicy,
    context: &mut Context,
) -> Result<(), Failure> {
    context.stage_for_jobs();
    // What a digest names does not change.
    let pull = match (pull, reference.digest()) {
        (PullPolicy::Always, Some(_)) => PullPolicy::Missing,
        (pull, _) => pull,
    };
    ready(context, reference, platform, pull, DigestTag::Omit)?;
    Ok(())
}

/// Puts a copy into this node's cache, if there is one.
fn copy(reference: &ImageReference, platform: &Platform, context: &Context) -> Result<(), Failure> {
    if let Some(cache) = context.settings.usable_node_cache() {
        let (stores, progress) = (context.stores()?, context.ui.progress());
        let wanted = (cache, &context.settings);
        if let Err(error) = copy_to_node(&stores, reference, platform, wanted, progress.as_ref()) {
            context.ui.warning(&Failure::from(error).report());
        }
    }
    Ok(())
}
