//! `udocker create`.

use std::process::ExitCode;

use udocker_core::container::{ContainerName, CreateOptions, Created};
use udocker_core::error::Failure;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::store::{Record, Store, StoreError};

use super::Outcome;
use crate::context::Context;

/// Make a container of an image and print its ID.
///
/// Example: udocker create --name=work debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name the container.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Create it without the name if that is taken.
    #[arg(long)]
    pub force: bool,
    /// An image of a store.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let reference = crate::image::parse_reference(args.image.as_deref())?;
    let mut name: Option<ContainerName> = args.name.as_deref().map(str::parse).transpose().map_err(crate::usage)?;
    if let Some(wanted) = &name
        && context.stores()?.find_container(&wanted.to_string())?.is_some()
    {
        if !args.force {
            return Err(StoreError::NameTaken.into());
        }
        context.ui.warning(&format!("the name {wanted} stays with the container that has it"));
        name = None;
    }
    let image = crate::image::stored(context, &reference, &Platform::native())?
        .ok_or_else(|| crate::image::ImageError::NothingToCreate(reference.clone()))?;
    context.permit_image(args.image.as_deref().unwrap_or_default(), &reference, (&image.record, &image.tree), false)?;
    let store = context.writable_store()?;
    let id = create(context, &store, &reference, &image.record, name.as_ref())?;
    context.ui.result(id);
    Ok(ExitCode::SUCCESS)
}

/// Makes a container in `store`, layered where the kernel mounts an overlay there, and returns its ID.
pub fn create(
    context: &Context,
    store: &Store,
    reference: &ImageReference,
    record: &Record,
    name: Option<&ContainerName>,
) -> Result<String, Failure> {
    let stores = context.stores()?;
    let tree = stores.tree(&record.tree).unwrap_or_else(|| store.tree(&record.tree));
    let config = stores.read_blob(&record.config_digest, udocker_core::image_config::MAX_CONFIG_BYTES)?;
    let created =
        store.create_container(&CreateOptions { image: reference, record, tree: &tree, config: &config, name })?;
    tell_full(context, &created);
    Ok(created.id.to_string())
}

/// Says why a new container is a full copy, if it is one.
pub fn tell_full(context: &Context, created: &Created) {
    if let Some(reason) = &created.full_because {
        context.ui.info(&format!("the container is a full copy, since {reason}"));
    }
}
