//! `udocker import`.

use std::path::PathBuf;
use std::process::ExitCode;

use udocker_core::container::ContainerName;
use udocker_transfer::archive::{ImportOptions, Input, import, import_clone, import_container};
use udocker_transfer::stage::StageOptions;

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Make an image of a root file system in a tar.
///
/// Example: udocker import rootfs.tar.xz mysystem:1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Move TAR: it is gone afterwards, and not copied if it lies on the store's file system.
    #[arg(long)]
    pub mv: bool,
    /// Make a container of it, not an image; its ID is printed.
    #[arg(long)]
    pub tocontainer: bool,
    /// TAR is a whole container, written by `udocker export --clone`; the ID of the new one is printed.
    #[arg(long)]
    pub clone: bool,
    /// Name the container (with --tocontainer or --clone).
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// For which platform its programs are [default: this machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// A tar of any compression, or `-` for standard input.
    #[arg(value_name = "TAR")]
    pub tar: Option<PathBuf>,
    /// NAME[:TAG] of the new image; with --tocontainer, what the container is said to come from.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let Some(tar) = &args.tar else { return Err(usage_text("must specify tar filename").into()) };
    let input = Input::of(Some(tar));
    let name: Option<ContainerName> = args.name.as_deref().map(str::parse).transpose().map_err(crate::usage)?;
    if args.clone {
        return clone(&input, name.as_ref(), context);
    }
    let image = match &args.image {
        None if args.tocontainer => None,
        image => Some(crate::image::parse_reference(image.as_deref())?),
    };
    let platform = super::pull::parse_platform(args.platform.as_deref())?;
    let store = context.writable_store()?;
    let stage = StageOptions::of(&context.settings, &store);
    let options = ImportOptions { platform, take: args.mv, stage, run_dirs: context.settings.run_dirs.clone() };
    let progress = context.ui.adding();
    match image {
        Some(image) if !args.tocontainer => {
            let layer = import(&store, &input, &image, &options, progress.as_ref())?;
            context.ui.info(&format!("added layer {layer}"));
        }
        image => {
            let (image, name) = (image.as_ref(), name.as_ref());
            let created = import_container(&store, &input, image, name, &options, progress.as_ref())?;
            if let Some(reason) = &created.full_because {
                context.ui.info(&format!("the container is a full copy of the tar, since {reason}"));
            }
            context.ui.result(created.id.to_string());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn clone(input: &Input, name: Option<&ContainerName>, context: &Context) -> Outcome {
    let store = context.writable_store()?;
    let cloned = import_clone(&store, input, name, &context.settings.limits)?;
    for path in &cloned.ignored {
        context.ui.warning(&format!("`{path}` of the archive is no part of a container and is left out"));
    }
    context.ui.result(cloned.id.to_string());
    Ok(ExitCode::SUCCESS)
}
