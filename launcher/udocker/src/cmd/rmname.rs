//! `udocker rmname`.

use std::process::ExitCode;

use udocker_core::container::ContainerName;

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Take a name away from a container, which stays.
///
/// Example: udocker rmname work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let Some(name) = &args.name else { return Err(usage_text("invalid container id or name").into()) };
    let parsed: ContainerName = name.parse().map_err(crate::usage)?;
    let stores = context.stores()?;
    // One that leads nowhere is a name of no container, and can be taken away all the same.
    let found = stores.find_container(name)?.map(|(store, _)| store);
    let store = found.or(stores.first_writable()).ok_or_else(|| usage_text("removing container name"))?;
    store.remove_container_name(&parsed)?;
    context.ui.info(&format!("container name: {name} removed."));
    Ok(ExitCode::SUCCESS)
}
