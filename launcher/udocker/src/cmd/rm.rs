//! `udocker rm`.

use std::process::ExitCode;

use udocker_core::run::{Caller, UserSpec};

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Remove containers.
///
/// Example: udocker rm work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Accepted for compatibility: what can be removed is, whatever its permissions; protected containers never are.
    #[arg(short = 'f', long)]
    pub force: bool,
    /// IDs or names.
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Goes on after an error; the status tells if there was one.
pub fn run(args: &Args, context: &Context) -> Outcome {
    if args.containers.is_empty() {
        return Err(usage_text("must specify image:tag or repository/image:tag").into());
    }
    let mut status = ExitCode::SUCCESS;
    let subordinate = Caller::gather(std::env::vars_os().collect(), &UserSpec::Root).subordinate;
    for name in &args.containers {
        let removed = context.stores().and_then(|stores| {
            let (store, container) = stores.find_container(name)?.ok_or_else(|| usage_text("invalid container id"))?;
            if !container.is_protected() {
                context.ui.info(&format!("deleting container: {}", container.id()));
            }
            store.remove_container(&container, &context.settings.run_dirs, subordinate)?;
            Ok(())
        });
        if let Err(failure) = removed {
            status = context.ui.failed(&failure, 1);
        }
    }
    // What an earlier removal had to leave may have files of the same users.
    if let (Some(ranges), Some(store)) = (subordinate, context.stores()?.first_writable())
        && let Err(error) = store.sweep_mapped(ranges)
    {
        context.ui.debug(&format!("cannot sweep temporary folders: {error}"));
    }
    Ok(status)
}
