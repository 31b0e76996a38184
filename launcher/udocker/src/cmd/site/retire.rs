//! `udocker site retire`.

use std::process::ExitCode;

use udocker_core::store::MarkKind;

use super::Outcome;
use super::held::{HeldError, Named, find};
use super::store::{StoreArg, alone};
use crate::context::Context;

/// Take the name of an image of a central store away: no new job finds it, and `udocker site gc` deletes it later.
///
/// Who named it by its digest finds it until then. An image that has another name stays.
///
/// Example: udocker site retire debian:11
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub store: StoreArg,
    /// NAME[:TAG]; of an image without a name NAME@DIGEST or DIGEST.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let store = args.store.open_to_change(context)?;
    let _lock = alone(&store, context)?;
    let Named { image, tag } = find(&store, args.image.as_deref())?;
    let is_last = image.tags.len() <= 1;
    if is_last && image.is_marked(MarkKind::Pinned) {
        return Err(HeldError::Pinned(image.shown()).into());
    }
    let (digest, other) = (image.manifest.clone(), image.tags.first().map(|tag| tag.display_name()));
    match (&tag, other) {
        (None, Some(tag)) => return Err(HeldError::Tagged { digest, tag }.into()),
        // It was retired before: its time goes on.
        (None, None) if image.mark.is_some() => {}
        _ if is_last => store.set_mark(&image.marked(MarkKind::Retired)?)?,
        _ => {}
    }
    if let Some(tag) = &tag {
        // Its image is in the store all the same, with its mark.
        store.remove_tag(tag)?;
    }
    context.ui.result(digest.to_string());
    Ok(ExitCode::SUCCESS)
}
