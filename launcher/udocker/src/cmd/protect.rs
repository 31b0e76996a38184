//! `udocker protect`.

use std::process::ExitCode;

use udocker_core::store::set_protected;

use super::Outcome;
use crate::context::Context;
use crate::image::{ImageError, find_tag, parse_reference};

/// Protect a container or an image against removal.
///
/// Example: udocker protect work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A container's ID or name, or an image; a container's name wins.
    #[arg(value_name = "CONTAINER|IMAGE")]
    pub name: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    protect(args.name.as_deref(), true, context)
}

/// Sets or takes away the mark of what `name` names.
pub fn protect(name: Option<&str>, protected: bool, context: &Context) -> Outcome {
    let stores = context.stores()?;
    if let Some(name) = name
        && let Some((_, container)) = stores.find_container(name)?
    {
        set_protected(container.directory(), protected)?;
        return Ok(ExitCode::SUCCESS);
    }
    let reference = parse_reference(name)?;
    let (store, tag) = find_tag(&stores, &reference)?;
    if !store.is_writable() {
        return Err(ImageError::ReadOnly { reference, store: store.path().to_owned() }.into());
    }
    set_protected(&tag.directory, protected)?;
    Ok(ExitCode::SUCCESS)
}
