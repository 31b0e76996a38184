//! `udocker stage`: what `udocker-launch` asks for, across an exec, and a scheduler's prolog.

use std::process::ExitCode;
use std::time::Duration;

use udocker_core::env_vars::UDOCKER_REQUEST;
use udocker_core::error::Failure;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::{Defaults, PullPolicy, RunRequest, is_path};
use udocker_core::settings::StageWhen;
use udocker_transfer::node_copy::copy_to_node;
use udocker_transfer::pull::DigestTag;

use super::Outcome;
use crate::context::Context;
use crate::image::{ImageError, own, parse_reference, pulled, ready};
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
    /// Make a tree that belongs to the caller, as a writable layer over it needs one.
    #[arg(long)]
    pub own: bool,
    /// Take the image and all options from the job's request in UDOCKER_REQUEST, and do nothing unless `stage.when` of site.toml is this: submit, prolog.
    #[arg(long, value_name = "WHEN", value_parser = before_start, conflicts_with_all = ["platform", "pull", "wait", "own", "image"])]
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
    Wish { reference, platform, pull: args.pull, own: args.own, on_node: true }.stage(context)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the image of the job ready that `request` is for, if the site wants that `when`; what is no image is ready.
pub fn for_job(request: &RunRequest, when: StageWhen, context: &mut Context) -> Result<(), Failure> {
    let image = &request.image;
    let is_container = || Ok::<_, Failure>(request.pin.is_none() && context.stores()?.find_container(image)?.is_some());
    if context.settings.stage.when != when || is_path(image) || is_container()? {
        return Ok(());
    }
    let mut request = request.clone();
    request.complete(&context.settings.run);
    let typed: ImageReference = request.image.parse().map_err(usage)?;
    let reference = match &request.pin {
        Some(digest) if typed.digest().is_none() => typed.with_digest(digest.clone()),
        _ => typed,
    };
    if let Some(seconds) = request.timeout {
        context.settings.limits.wait = Duration::from_secs(seconds.into());
    }
    let platform = request.platform.clone().unwrap_or_else(Platform::native);
    let own = request.is_written(Defaults::Job);
    // Where a job is submitted is none of its nodes.
    Wish { reference, platform, pull: request.pull, own, on_node: when == StageWhen::Prolog }.stage(context)
}

/// What is made ready.
struct Wish {
    reference: ImageReference,
    platform: Platform,
    pull: PullPolicy,
    /// As a tree of the caller's.
    own: bool,
    /// With a copy in this node's cache, if there is one.
    on_node: bool,
}

impl Wish {
    fn stage(&self, context: &mut Context) -> Result<(), Failure> {
        context.stage_for_jobs();
        let Self { reference, platform, .. } = self;
        // What a digest names does not change.
        let pull = match (self.pull, reference.digest()) {
            (PullPolicy::Always, Some(_)) => PullPolicy::Missing,
            (pull, _) => pull,
        };
        ready(context, reference, platform, pull, DigestTag::Omit)?;
        let is_copied = self.on_node && self.copy(context)?;
        // A copy on this node is the caller's as well.
        if self.own && !is_copied && own(context, reference, platform)?.is_none() {
            if pull == PullPolicy::Never {
                return Err(ImageError::NotOwn(reference.clone()).into());
            }
            context.stage_into_own();
            pulled(context, reference, platform, pull, DigestTag::Omit)?;
        }
        Ok(())
    }

    /// Puts a copy into this node's cache, if there is one, and tells whether it is there.
    fn copy(&self, context: &Context) -> Result<bool, Failure> {
        let Some(cache) = context.settings.usable_node_cache() else { return Ok(false) };
        let (stores, progress) = (context.stores()?, context.ui.progress());
        let wanted = (cache, &context.settings);
        copy_to_node(&stores, &self.reference, &self.platform, wanted, progress.as_ref()).or_else(|error| {
            context.ui.warning(&Failure::from(error).report());
            Ok(false)
        })
    }
}
