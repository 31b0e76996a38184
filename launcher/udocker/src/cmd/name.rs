//! `udocker name`.

use std::process::ExitCode;

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Give a container a name.
///
/// Example: udocker name 4b6f0c9e-1f1e-4a55-9b0e-5d0c3a1f6f1a work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A container's ID, or another name of it.
    #[arg(value_name = "CONTAINER")]
    pub container: Option<String>,
    /// The new name.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let (Some(container), Some(name)) = (&args.container, &args.name) else {
        return Err(usage_text("invalid container id or name").into());
    };
    let name = name.parse().map_err(crate::usage)?;
    let stores = context.stores()?;
    let found = stores.find_container(container)?;
    let (store, container) = found.ok_or_else(|| usage_text("invalid container id or name"))?;
    store.name_container(&container, &name)?;
    Ok(ExitCode::SUCCESS)
}
