//! `udocker logout`.

use std::process::ExitCode;

use udocker_core::error::{ErrorKind, Explain};
use udocker_transfer::registry::KeystoreError;

use super::Outcome;
use super::login::{keystore, registry};
use crate::context::Context;

/// Forget the credentials of a registry.
///
/// Example: udocker logout --registry=https://quay.io
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of all registries.
    #[arg(short = 'a')]
    pub all: bool,
    /// The registry [default: Docker Hub, or UDOCKER_REGISTRY].
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
}

/// They are still there, or never were.
#[derive(Debug, thiserror::Error)]
#[error("deleting credentials")]
struct LogoutError(#[source] KeystoreError);

impl Explain for LogoutError {
    fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
    fn hints(&self) -> Vec<String> {
        self.0.hints()
    }
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    let registry = registry(args.registry.as_deref(), context)?;
    let keystore = keystore(context)?;
    let deleted = if args.all { keystore.erase() } else { keystore.remove(&registry.url, &registry.host) };
    deleted.map_err(LogoutError)?;
    Ok(ExitCode::SUCCESS)
}
