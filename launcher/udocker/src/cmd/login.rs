//! `udocker login`.

use super::Outcome;
use crate::context::Context;

/// Log in to a registry: check the credentials and store them.
///
/// Example: udocker login --registry=https://quay.io --username=me --password-stdin
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The user [default: asked for].
    #[arg(long, value_name = "USER")]
    pub username: Option<String>,
    /// The password; other users of this machine can see it here.
    #[arg(long, value_name = "PASSWORD")]
    pub password: Option<String>,
    /// Read the password from standard input.
    #[arg(long)]
    pub password_stdin: bool,
    /// The registry [default: Docker Hub, or UDOCKER_REGISTRY].
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("login", "another command").into())
}
