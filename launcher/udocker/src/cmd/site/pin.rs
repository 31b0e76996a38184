//! `udocker site pin`.

use std::process::ExitCode;

use udocker_core::store::MarkKind;

use super::Outcome;
use super::held::find;
use super::store::{StoreArg, alone};
use crate::context::Context;

/// Keep an image of a central store whatever becomes of its names, or no longer.
///
/// Example: udocker site pin debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub store: StoreArg,
    /// Take the pin away: an image without a name is retired then.
    #[arg(long)]
    pub remove: bool,
    /// NAME[:TAG], NAME@DIGEST or DIGEST.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let store = args.store.open_to_change(context)?;
    let _lock = alone(&store, context)?;
    let image = find(&store, args.image.as_deref())?.image;
    match (args.remove, image.is_marked(MarkKind::Pinned)) {
        (false, true) | (true, false) => {}
        (false, false) => store.set_mark(&image.marked(MarkKind::Pinned)?)?,
        (true, true) if image.tags.is_empty() => store.set_mark(&image.marked(MarkKind::Retired)?)?,
        (true, true) => store.remove_mark(&image.manifest)?,
    }
    context.ui.result(image.manifest.to_string());
    Ok(ExitCode::SUCCESS)
}
