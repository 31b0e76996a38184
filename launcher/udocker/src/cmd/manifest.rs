//! `udocker manifest`.

use std::process::ExitCode;

use udocker_core::error::{ErrorKind, Explain};

use super::pull::parse_platform;
use super::{Outcome, RegistryArgs, given};
use crate::context::Context;
use crate::usage_text;

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

/// The registry's answer is no JSON; what reads manifests has seen to that, so it can only be nested too deep.
#[derive(Debug, thiserror::Error)]
#[error("cannot print the manifest")]
struct ManifestError(#[source] serde_json::Error);

impl Explain for ManifestError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    args.registry.apply(&mut context.settings)?;
    let image = match args.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["inspect", image] => Some(image),
        ["inspect"] => None,
        [] => return Err(usage_text("must specify a command: `manifest inspect IMAGE`").into()),
        [other, ..] => return Err(usage_text(&format!("invalid command: manifest {other}")).into()),
    };
    let reference = crate::image::parse_reference(image)?;
    let platform = given(args.platform.as_deref()).map(|word| parse_platform(Some(word))).transpose()?;
    let bytes = udocker_transfer::locate::manifest(&reference, platform.as_ref(), &context.settings.registries)?;
    let value = serde_json::from_slice(&bytes).map_err(ManifestError)?;
    context.ui.result(crate::json::python_style(&value));
    Ok(ExitCode::SUCCESS)
}
