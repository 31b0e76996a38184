//! `udocker pull`.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::PullPolicy;
use udocker_core::store::{Record, Store};
use udocker_transfer::pull::{DigestTag, PullError};

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
    let store = context.writable_store()?;
    fetch(context, &store, &reference, &platform, PullPolicy::Always, DigestTag::Write).map_err(NothingPulled)?;
    Ok(ExitCode::SUCCESS)
}

/// A pull failed: udocker's words, which scripts look for, before ours.
#[derive(Debug)]
struct NothingPulled(PullError);

impl fmt::Display for NothingPulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no files downloaded: {}", self.0)
    }
}

impl Error for NothingPulled {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl Explain for NothingPulled {
    fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
    fn is_retryable(&self) -> bool {
        self.0.is_retryable()
    }
    fn hints(&self) -> Vec<String> {
        self.0.hints()
    }
}

/// Pulls into the user's store and says what came.
pub fn pull(
    context: &Context,
    reference: &ImageReference,
    platform: &Platform,
    policy: PullPolicy,
    digest_tag: DigestTag,
) -> Result<Record, Failure> {
    Ok(fetch(context, &context.writable_store()?, reference, platform, policy, digest_tag)?)
}

fn fetch(
    context: &Context,
    store: &Store,
    reference: &ImageReference,
    platform: &Platform,
    policy: PullPolicy,
    digest_tag: DigestTag,
) -> Result<Record, PullError> {
    let progress = context.ui.progress();
    let since = std::time::Instant::now();
    let settings = &context.settings;
    let record =
        udocker_transfer::pull::pull(store, reference, platform, policy, digest_tag, settings, progress.as_ref())?;
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
pub fn parse_platform(text: Option<&str>) -> Result<Platform, Failure> {
    let wish = text.map(Platform::wish).transpose().map_err(crate::usage)?;
    Ok(wish.flatten().unwrap_or_else(Platform::native))
}
