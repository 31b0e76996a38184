//! `udocker rm`.

use std::process::ExitCode;

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Remove containers.
///
/// Example: udocker rm work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove also what is protected.
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
    for name in &args.containers {
        let removed = context.stores().and_then(|stores| {
            let (store, container) = stores.find_container(name)?.ok_or_else(|| usage_text("invalid container id"))?;
            context.ui.info(&format!("deleting container: {}", container.id()));
            store.remove_container(&container, args.force, &context.settings.run_dirs)?;
            Ok(())
        });
        if let Err(failure) = removed {
            status = context.ui.failed(&failure, 1);
        }
    }
    Ok(status)
}
