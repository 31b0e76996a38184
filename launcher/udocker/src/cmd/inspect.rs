//! `udocker inspect`.

use std::process::ExitCode;

use udocker_core::error::Failure;
use udocker_core::image_config::MAX_CONFIG_BYTES;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::PullPolicy;
use udocker_core::store::Stores;
use udocker_transfer::pull::DigestTag;

use super::Outcome;
use crate::context::Context;
use crate::image::{ImageError, damaged, parse_reference, ready};
use crate::usage_text;

/// Print the configuration of a container or an image as JSON; a container's name wins over an image's.
///
/// Example: udocker inspect -p work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the directory of the root instead. A layered container becomes a full one for that; an image's is not to
    /// be written.
    #[arg(short = 'p')]
    pub path: bool,
    /// A container's ID or name, or an image.
    #[arg(value_name = "CONTAINER|IMAGE")]
    pub name: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let Some(name) = args.name.as_deref() else {
        return Err(usage_text("must specify image:tag or repository/image:tag").into());
    };
    let stores = context.stores()?;
    let bytes = match stores.find_container(name)? {
        Some((store, container)) if args.path => {
            let root = store.make_full(&container, &stores, &context.settings.run_dirs)?;
            context.ui.result(root.display().to_string());
            return Ok(ExitCode::SUCCESS);
        }
        Some((_, container)) => container.config_bytes()?,
        None => {
            let reference = parse_reference(Some(name))?;
            if args.path {
                let image = ready(context, &reference, &Platform::native(), PullPolicy::Never, DigestTag::Omit)?;
                context.ui.result(image.tree.display().to_string());
                return Ok(ExitCode::SUCCESS);
            }
            image_config(&stores, &reference)?
        }
    };
    let damaged = |error| usage_text(&format!("the configuration of {name} is damaged: {error}"));
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    context.ui.result(crate::json::python_style(&value));
    Ok(ExitCode::SUCCESS)
}

/// The configuration of a tag's image, or of one that is here by its digest alone.
fn image_config(stores: &Stores, reference: &ImageReference) -> Result<Vec<u8>, Failure> {
    let missing = || ImageError::NotFound(reference.clone());
    if let Some((store, tag)) = stores.find_tag(reference) {
        let image = store.read_image(&tag.directory).map_err(|error| damaged(reference, error))?;
        return Ok(image.ok_or_else(missing)?.config);
    }
    let found = stores.find_image(reference, &Platform::native())?.ok_or_else(missing)?;
    let record = found.record.ok_or_else(missing)?;
    Ok(stores.read_blob(&record.config_digest, MAX_CONFIG_BYTES)?)
}
