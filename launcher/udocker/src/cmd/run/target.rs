//! What is run: a container, an image, or a plain tree; and where writes into it go.

use std::path::PathBuf;
use std::time::Instant;

use udocker_core::container::Container;
use udocker_core::engine::{RootPlan, RootWrite};
use udocker_core::error::Failure;
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::run::{ExecMode, RunRequest, WriteSpec};
use udocker_core::store::{Store, StoreError, Temporary};

use super::RunError;
use super::args::{Args, Mode, Pull};
use crate::context::Context;

/// A tree, where writes into it go, and what must be done around it.
pub struct Target {
    pub id: String,
    pub names: Vec<String>,
    pub root: RootPlan,
    pub config: ImageConfig,
    /// A container of a store, to be marked as in use.
    pub container: Option<(Store, Container)>,
    /// Whether that container was made for this run.
    pub is_new: bool,
    /// An image's tree, to be marked as in use.
    pub tree: Option<PathBuf>,
    /// A private copy of an image's tree that goes with the run.
    pub private: Option<Temporary>,
}

/// Finds what `request` names, and makes what is to be made for it.
pub fn find(args: &Args, context: &Context, request: &RunRequest) -> Result<Target, Failure> {
    if let Some(directory) = &args.location {
        check_mode(args, None, context)?;
        return location(directory, request, args);
    }
    let stores = context.stores()?;
    let named = match &args.name {
        Some(name) => stores.find_container(&name.to_string())?,
        None => None,
    };
    let found = match named {
        Some(found) if args.pull == Some(Pull::Reuse) => Some(found),
        Some(_) => return Err(StoreError::NameTaken.into()),
        None => stores.find_container(&request.image)?,
    };
    if let Some((store, container)) = found {
        let new_name = args.name.as_ref().filter(|name| !args.dry_run && !container.names().contains(name));
        if let Some(name) = new_name {
            store.name_container(&container, name)?;
        }
        return in_container(args, store.clone(), container, request, context);
    }
    check_mode(args, None, context)?;
    let platform = request.platform.clone().unwrap_or_else(Platform::native);
    let reference = crate::image::parse_reference(Some(&request.image))?;
    let image = crate::image::ready(context, &reference, &platform, request.pull)
        .map_err(|failure| failure.under(format!("image or container not available: {reference}")))?;
    // A dry run makes no container; it shows the image that one would be made of.
    if (args.name.is_some() || args.keep) && !args.dry_run {
        let store = context.writable_store()?;
        let id = crate::cmd::create::create(context, &store, &reference, &image.record, args.name.as_ref())?;
        let stores = context.stores()?;
        let (store, container) =
            stores.find_container(&id)?.ok_or_else(|| RunError::ContainerGone { id: id.clone() })?;
        let target = in_container(args, store.clone(), container, request, context)?;
        return Ok(Target { is_new: true, ..target });
    }
    let mut target = Target {
        id: image.record.tree.hex()[..32].to_owned(),
        names: Vec::new(),
        root: RootPlan::new(image.tree.clone(), RootWrite::ReadOnly),
        config: image.record.config,
        container: None,
        is_new: false,
        tree: Some(image.tree),
        private: None,
    };
    place_writes(args, context, request, &mut target)?;
    Ok(target)
}

/// A directory that is no container, written in place.
fn location(directory: &PathBuf, request: &RunRequest, args: &Args) -> Result<Target, Failure> {
    let absolute = std::path::absolute(directory).ok().filter(|path| path.is_dir());
    let Some(tree) = absolute else { return Err(RunError::NoDirectory(directory.clone()).into()) };
    let write = match (args.write()?, &request.write) {
        (None, _) => RootWrite::InPlace,
        (Some(_), WriteSpec::None) => RootWrite::ReadOnly,
        (Some(_), _) => return Err(RunError::WrittenInPlace.into()),
    };
    Ok(Target {
        id: String::new(),
        names: Vec::new(),
        root: RootPlan::new(tree, write),
        config: ImageConfig::default(),
        container: None,
        is_new: false,
        tree: None,
        private: None,
    })
}

/// A container is written itself, unless `--write` says where else writes go.
fn in_container(
    args: &Args,
    store: Store,
    container: Container,
    request: &RunRequest,
    context: &Context,
) -> Result<Target, Failure> {
    check_mode(args, container.mode(), context)?;
    let stores = context.stores()?;
    let config = container.config()?;
    let elsewhere = args.write()?.is_some();
    let root = match elsewhere {
        true => store.container_view(&container, &stores)?,
        false => store.container_root(&container, &stores)?,
    };
    let mut target = Target {
        id: container.id().to_string(),
        names: store.names_of(&container)?.iter().map(ToString::to_string).collect(),
        root,
        config: ImageConfig { platform: None, ..config },
        container: Some((store, container)),
        is_new: false,
        tree: None,
        private: None,
    };
    if elsewhere {
        place_writes(args, context, request, &mut target)?;
    }
    Ok(target)
}

/// Refuses a mode that is not built: the one of this run, else the container's, else the configured one. What nobody chose
/// is N1, also where udocker's own default is P1 or P2.
fn check_mode(args: &Args, of_container: Option<ExecMode>, context: &Context) -> Result<(), Failure> {
    let (mode, asked) = match (args.mode, of_container, context.settings.engines.default_mode) {
        (Some(Mode::Auto), _, _) => return Ok(()),
        (Some(Mode::Named(mode)), _, _) => (mode, "--mode".to_owned()),
        (None, Some(mode), _) => (mode, "`udocker setup --execmode`".to_owned()),
        (None, None, Some(mode)) => (mode, context.configuration.origin("override_default_execution_mode").to_string()),
        (None, None, None) => return Ok(()),
    };
    match mode {
        ExecMode::N1 => Ok(()),
        mode => Err(RunError::ModeNotBuilt { mode, asked }.into()),
    }
}

/// Says where writes into a root go that is only read so far.
fn place_writes(args: &Args, context: &Context, request: &RunRequest, target: &mut Target) -> Result<(), Failure> {
    match &request.write {
        WriteSpec::None => {}
        WriteSpec::Tmpfs { size } => match context.overlay_works(&target.root.tree) {
            // A container that is a layer itself is on a machine where overlays work.
            answer if answer.is_ok() || target.root.above.is_some() => {
                let configured = size.or(context.settings.limits.tmpfs_bytes);
                target.root.write =
                    RootWrite::Tmpfs { size: configured.unwrap_or_else(udocker_core::host::half_of_memory) };
            }
            // A dry run copies nothing; it shows the tree that would be copied.
            Err(_) if args.dry_run => target.root.write = RootWrite::InPlace,
            Err(reason) => make_private(context, target, &reason)?,
            Ok(()) => unreachable!("taken above"),
        },
        WriteSpec::Directory(path) => {
            let (upper, work) = (path.join("upper"), path.join("work"));
            for directory in [&upper, &work] {
                std::fs::create_dir_all(directory)
                    .map_err(|source| RunError::WriteDirectory { path: directory.clone(), source })?;
            }
            target.root.write = RootWrite::Layer { upper, work };
        }
    }
    Ok(())
}

/// A copy of the tree in the user's store, for kernels that refuse an overlay there.
fn make_private(context: &Context, target: &mut Target, reason: &str) -> Result<(), Failure> {
    let store = context.writable_store()?;
    let since = Instant::now();
    let folder = store.temporary("root")?;
    let root = folder.path().join("ROOT");
    let copied = udocker_core::container::copy_tree(&target.root.tree, &root)?;
    context.ui.info(&format!(
        "copied the image's root ({}, {:.1} s), since {reason}\n  hint: `--write=none` needs no copy; `udocker create --name=N` makes one that stays",
        crate::ui::bytes(copied),
        since.elapsed().as_secs_f64(),
    ));
    target.root = RootPlan::new(root, RootWrite::InPlace);
    target.private = Some(folder);
    Ok(())
}
