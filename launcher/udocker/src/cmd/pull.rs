//! `udocker pull`.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::platform::Platform;
use udocker_core::run::PullPolicy;
use udocker_transfer::pull::{DigestTag, PullError};

use super::{Outcome, RegistryArgs};
use crate::context::Context;
use crate::image;

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
    let reference = image::parse_reference(args.image.as_deref())?;
    let platform = parse_platform(args.platform.as_deref())?;
    let store = context.writable_store()?;
    image::pull(context, &store, &reference, &platform, PullPolicy::Always, DigestTag::Write).map_err(NothingPulled)?;
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

/// The platform that was asked for, else this machine's.
pub fn parse_platform(text: Option<&str>) -> Result<Platform, Failure> {
    let wish = text.map(Platform::wish).transpose().map_err(crate::usage)?;
    Ok(wish.flatten().unwrap_or_else(Platform::native))
}
