//! `udocker clone`.

use std::process::ExitCode;

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Make a copy of a container and print its ID.
///
/// Example: udocker clone --name=copy work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name the copy.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A container's ID or name.
    #[arg(value_name = "CONTAINER")]
    pub container: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let Some(source) = &args.container else { return Err(usage_text("invalid container id").into()) };
    let name = args.name.as_deref().map(str::parse).transpose().map_err(crate::usage)?;
    let stores = context.stores()?;
    let (_, source) = stores.find_container(source)?.ok_or_else(|| usage_text("invalid container id"))?;
    let created = context.writable_store()?.clone_container(&source, &stores, name.as_ref())?;
    super::create::tell_full(context, &created);
    context.ui.result(created.id.to_string());
    Ok(ExitCode::SUCCESS)
}
