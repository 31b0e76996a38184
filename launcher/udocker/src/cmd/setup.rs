//! `udocker setup`.

use super::Outcome;
use crate::context::Context;

/// Show or change how a container is run.
///
/// Example: udocker setup --execmode=N1 work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run it in this mode from now on: N1, P1, P2, F1 … F4, R1 … R3, S1.
    #[arg(long, value_name = "MODE")]
    pub execmode: Option<String>,
    /// Change it even if it has the mode already.
    #[arg(long)]
    pub force: bool,
    /// Show the host's NVIDIA driver to its programs.
    #[arg(long)]
    pub nvidia: bool,
    /// Remove mount points and files that udocker made in it.
    #[arg(long)]
    pub purge: bool,
    /// Make its files readable and writable for their owner.
    #[arg(long)]
    pub fixperm: bool,
    /// A container's ID or name.
    #[arg(value_name = "CONTAINER")]
    pub container: Option<String>,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("setup", "another command").into())
}
