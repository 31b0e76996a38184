//! `udocker rmi`.

use std::process::ExitCode;

use udocker_core::error::Failure;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::store::{
    FileLock, FoundImage, LockKind, Patience, RemovedTag, RunDirectory, Store, StoreError, Stores,
};

use super::Outcome;
use crate::context::Context;
use crate::image::{ImageError, damaged, parse_reference};

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
    let Some((store, tag)) = stores.find_tag(&reference) else { return remove_untagged(&reference, &stores, context) };
    if !store.is_writable() {
        return Err(ImageError::ReadOnly { reference, store: store.path().to_owned() }.into());
    }
    if tag.protected {
        return Err(StoreError::ProtectedImage.into());
    }
    context.ui.info(&format!("deleting image: {name}"));
    let _lock = alone(store, context)?;
    let removed = store.remove_tag(&tag).map_err(|source| damaged(&reference, source))?;
    let run = RunDirectory::open(&context.settings.run_dirs);
    Ok(store.collect_garbage(&removed, run.as_ref())?)
}

/// Removes what was staged by digest alone.
fn remove_untagged(reference: &ImageReference, stores: &Stores, context: &Context) -> Result<(), Failure> {
    let absent = || ImageError::NotFound(reference.clone());
    let digest = reference.digest().ok_or_else(absent)?;
    let FoundImage { store, key, .. } = stores.find_image(reference, &Platform::native())?.ok_or_else(absent)?;
    for tag in store.tags()? {
        if store.image_key(&tag.directory).is_ok_and(|found| found.as_ref() == Some(&key)) {
            return Err(ImageError::Tagged { reference: reference.clone(), tag: tag.display_name() }.into());
        }
    }
    if !store.is_writable() {
        return Err(ImageError::ReadOnly { reference: reference.clone(), store: store.path().to_owned() }.into());
    }
    context.ui.info(&format!("deleting image: {reference}"));
    let _lock = alone(store, context)?;
    let run = RunDirectory::open(&context.settings.run_dirs);
    let removed = RemovedTag { key: Some(digest.clone()), files: Vec::new() };
    Ok(store.collect_garbage(&removed, run.as_ref())?)
}

/// Waits for those who publish: they may count on what is about to go.
fn alone(store: &Store, context: &Context) -> Result<FileLock, StoreError> {
    let waiting = || context.ui.warning("waiting for others who publish images in this store");
    store.lock(LockKind::Remove, &Patience::long(&waiting))
}
