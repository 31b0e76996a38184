//! `udocker rmi`.

use std::process::ExitCode;

use udocker_core::error::Failure;
use udocker_core::store::{LockKind, Patience, RunDirectory, StoreError};

use super::Outcome;
use crate::context::Context;
use crate::image::{ImageError, damaged, find_tag, parse_reference};

/// Remove images, and what no other image or container needs of them.
///
/// A protected image stays; `udocker unprotect IMAGE` comes first, with `-f` too.
///
/// Example: udocker rmi debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Accepted for compatibility: nothing else is removed with it.
    #[arg(short = 'f', long)]
    pub force: bool,
    /// NAME[:TAG] or NAME@DIGEST.
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Goes on after an error; the status tells if there was one.
pub fn run(args: &Args, context: &Context) -> Outcome {
    if args.images.is_empty() {
        parse_reference(None)?;
    }
    let mut status = ExitCode::SUCCESS;
    for name in &args.images {
        if let Err(failure) = remove(name, context) {
            status = context.ui.failed(&failure, 1);
        }
    }
    Ok(status)
}

fn remove(name: &str, context: &Context) -> Result<(), Failure> {
    let reference = parse_reference(Some(name))?;
    let stores = context.stores()?;
    let (store, tag) = find_tag(&stores, &reference)?;
    if !store.is_writable() {
        return Err(ImageError::ReadOnly { reference, store: store.path().to_owned() }.into());
    }
    if tag.protected {
        return Err(StoreError::ProtectedImage.into());
    }
    context.ui.info(&format!("deleting image: {name}"));
    let waiting = || context.ui.warning("waiting for others who publish images in this store");
    let _lock = store.lock(LockKind::Remove, &Patience::long(&waiting))?;
    let removed = store.remove_tag(&tag).map_err(|source| damaged(&reference, source))?;
    let run = RunDirectory::open(&context.settings.run_dirs);
    store.collect_garbage(&removed, run.as_ref())?;
    Ok(())
}
