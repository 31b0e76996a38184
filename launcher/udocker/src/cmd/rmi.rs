//! `udocker rmi`.

use std::process::ExitCode;

use udocker_core::store::RunDirectory;

use super::Outcome;
use crate::context::Context;
use crate::image::{ImageError, parse_reference};

/// Remove an image, and what no other image or container needs of it.
///
/// Example: udocker rmi debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove it also if it is protected.
    #[arg(short = 'f', long)]
    pub force: bool,
    /// NAME[:TAG] or NAME@DIGEST.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let reference = parse_reference(args.image.as_deref())?;
    let store = context.writable_store()?;
    if !store.has_tag(reference.typed_name(), &reference.selector()) {
        return Err(ImageError::NotFound(reference).into());
    }
    context.ui.info(&format!("deleting image: {reference}"));
    store.remove_tag(reference.typed_name(), &reference.selector(), args.force)?;
    let run = RunDirectory::open(&context.settings.run_dirs);
    store.collect_garbage(&|tree| run.as_ref().is_some_and(|run| run.user_of(tree.hex()).is_some()))?;
    Ok(ExitCode::SUCCESS)
}
