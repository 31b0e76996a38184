//! `udocker import`.

use std::path::PathBuf;
use std::process::ExitCode;

use udocker_transfer::archive::{ImportOptions, import};
use udocker_transfer::stage::StageOptions;

use super::Outcome;
use crate::context::Context;

/// Make an image of a root file system in a tar.
///
/// Example: udocker import rootfs.tar.xz mysystem:1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove TAR afterwards.
    #[arg(long)]
    pub mv: bool,
    /// Make a container of it, not an image; its ID is printed.
    #[arg(long)]
    pub tocontainer: bool,
    /// Not built yet.
    #[arg(long)]
    pub clone: bool,
    /// Name the container (with --tocontainer).
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// For which platform its programs are [default: this machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// A tar of any compression, or `-` for standard input.
    #[arg(value_name = "TAR")]
    pub tar: Option<PathBuf>,
    /// NAME[:TAG] of the new image.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    if args.clone {
        return Err(crate::refused("import --clone", "`udocker import TAR IMAGE` and `udocker create IMAGE`").into());
    }
    let Some(tar) = &args.tar else { return Err(crate::usage_text("must specify tar filename").into()) };
    let path = Some(tar).filter(|tar| tar.as_os_str() != "-");
    let reference = match (&args.image, args.tocontainer) {
        (None, true) => crate::image::random_reference(),
        (image, _) => crate::image::parse_reference(image.as_deref())?,
    };
    let (input, shown) = super::load::open_input(path)?;
    let store = context.writable_store()?;
    let progress = context.ui.progress();
    let options = ImportOptions {
        platform: super::pull::parse_platform(args.platform.as_deref())?,
        stage: StageOptions::of(&context.settings, &store),
    };
    let record = import(&store, input, &shown, &reference, &options, progress.as_ref())?;
    if args.tocontainer {
        let name = args.name.as_deref().map(str::parse).transpose().map_err(crate::usage)?;
        let id = super::create::create(context, &store, &reference, &record, name.as_ref())?;
        context.ui.result(id);
    } else {
        context.ui.info(&format!("added layer {}", record.manifest));
    }
    if let (true, Some(path)) = (args.mv, path) {
        std::fs::remove_file(path).map_err(|source| udocker_transfer::archive::ArchiveError::File {
            action: "remove",
            path: path.clone(),
            source,
        })?;
    }
    Ok(ExitCode::SUCCESS)
}
