//! `udocker setup`.

use std::path::Path;
use std::process::ExitCode;

use udocker_core::run::{Caller, ExecMode, UserSpec};

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

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

pub fn run(args: &Args, context: &Context) -> Outcome {
    let Some(name) = &args.container else { return Err(usage_text("invalid container id").into()) };
    let stores = context.stores()?;
    let (store, container) = stores.find_container(name)?.ok_or_else(|| usage_text("invalid container id"))?;
    let run_dirs = &context.settings.run_dirs;
    let mode = args.execmode.as_ref().map(|text| parse_mode(text)).transpose()?;
    if args.purge {
        store.purge_container(&container, run_dirs)?;
    }
    if args.fixperm {
        let caller = Caller::gather(std::env::vars_os().collect(), &UserSpec::Root);
        store.fix_permissions(&container, caller.subordinate)?;
    }
    if args.nvidia {
        store.set_nvidia(&container, Path::new("/"))?;
    }
    if let Some(mode) = mode {
        // A mode without overlays needs a ROOT of the container's own; udocker reads that one too.
        if mode != ExecMode::N1 && container.is_layered() && !container.is_protected() {
            store.make_full(&container, &stores, run_dirs)?;
        }
        store.set_mode(&container, mode, run_dirs)?;
    }
    if mode.is_none() && !(args.force || args.nvidia || args.purge || args.fixperm) {
        context.ui.result(format!("execmode: {}", context.mode_of(&container)));
        let nvidia = if container.has_nvidia() { "True" } else { "False" };
        context.ui.result(format!("nvidiamode: {nvidia}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A mode in any case, as udocker takes it.
fn parse_mode(text: &str) -> Result<ExecMode, crate::UsageError> {
    text.to_ascii_uppercase().parse().map_err(|error| {
        let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
        crate::UsageError(format!("invalid execmode: {shown}"), vec![format!("{error}")])
    })
}
