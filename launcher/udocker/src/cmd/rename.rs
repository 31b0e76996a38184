//! `udocker rename`.

use std::process::ExitCode;

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Change a name of a container.
///
/// Example: udocker rename work old_work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name that it has.
    #[arg(value_name = "OLD")]
    pub old: Option<String>,
    /// The name that it gets.
    #[arg(value_name = "NEW")]
    pub new: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let (Some(old), Some(new)) = (&args.old, &args.new) else {
        return Err(usage_text("must specify the name and the new name").into());
    };
    let stores = context.stores()?;
    let (store, _) = stores.find_container(old)?.ok_or_else(|| usage_text("container does not exist"))?;
    let new = new.parse().map_err(crate::usage)?;
    // What was found by its ID has no name here to change.
    let old = old.parse().map_err(|_| usage_text("name does not exist"))?;
    store.rename_container(&old, &new)?;
    Ok(ExitCode::SUCCESS)
}
