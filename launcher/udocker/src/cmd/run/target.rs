//! What is run: a container, an image, or a plain tree; and where writes into it go.

use std::path::PathBuf;
use std::time::Instant;

use udocker_core::container::Container;
use udocker_core::engine::native::owner_in_the_way;
use udocker_core::engine::{self, Choice, RootPlan, RootWrite};
use udocker_core::error::Failure;
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::policy::{Name, Permit, Subject};
use udocker_core::run::{Defaults, ExecMode, RunRequest, WriteSpec};
use udocker_core::store::{Store, StoreError, Stores, Temporary};
use udocker_transfer::pull::DigestTag;

use super::RunError;
use super::args::{Args, Mode, Pull};
use crate::context::Context;

/// A tree, where writes into it go, and what must be done around it.
pub struct Target {
    pub id: String,
    pub names: Vec<String>,
    pub root: RootPlan,
    pub config: ImageConfig,
    /// How it is run.
    pub choice: Choice,
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
        return location(directory, request, args, context);
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
        let new_name = args.name.as_ref().filter(|name| !args.shows() && !container.names().contains(name));
        if let Some(name) = new_name {
            store.name_container(&container, name)?;
        }
        return in_container(args, store.clone(), container, request, context);
    }
    // What cannot be is told before anything is pulled for it.
    choose(args, request, None, &Permit::plain(context.settings.rules(), &request.image), context)?;
    let platform = request.platform.clone().unwrap_or_else(Platform::native);
    let reference = crate::image::parse_reference(Some(&request.image))?;
    let image = crate::image::ready(context, &reference, &platform, request.pull, DigestTag::Write)
        .map_err(|failure| failure.under(format!("image or container not available: {reference}")))?;
    let permit =
        context.permit_image(&request.image, &reference, (&image.record, &image.tree), !is_read_only(request))?;
    // A dry run makes no container; it shows the image that one would be made of.
    if (args.name.is_some() || args.keep || context.settings.keep) && !args.shows() {
        let store = context.writable_store()?;
        let id = crate::cmd::create::create(context, &store, &reference, &image.record, args.name.as_ref())?;
        let stores = context.stores()?;
        let (store, container) =
            stores.find_container(&id)?.ok_or_else(|| RunError::ContainerGone { id: id.clone() })?;
        let target = in_container(args, store.clone(), container, request, context)?;
        return Ok(Target { is_new: true, ..target });
    }
    permit.check_use(false, !is_read_only(request))?;
    let choice = tell(choose(args, request, None, &permit, context)?, context);
    let is_laid_over = choice.engine.is_in_place() && !is_read_only(request) && !args.shows();
    let image = match owner_in_the_way(&image.tree) {
        // Without its layers a copy is made as long as it runs.
        Ok(Some(_)) if is_laid_over && context.own_store().is_ok() => {
            crate::image::own(context, &reference, &platform)?.unwrap_or(image)
        }
        _ => image,
    };
    let mut target = Target {
        id: image.record.tree.hex()[..32].to_owned(),
        names: Vec::new(),
        root: RootPlan::new(image.tree.clone(), RootWrite::ReadOnly),
        config: image.record.config,
        choice,
        container: None,
        is_new: false,
        tree: Some(image.tree),
        private: None,
    };
    place_writes(args, context, request, &mut target)?;
    Ok(target)
}

fn is_read_only(request: &RunRequest) -> bool {
    !request.is_written(Defaults::Interactive)
}

/// A directory that is no container, written in place.
fn location(directory: &PathBuf, request: &RunRequest, args: &Args, context: &Context) -> Result<Target, Failure> {
    let absolute = std::path::absolute(directory).ok().filter(|path| path.is_dir());
    let Some(tree) = absolute else { return Err(RunError::NoDirectory(directory.clone()).into()) };
    let write = match &request.write {
        None => RootWrite::InPlace,
        Some(WriteSpec::None) => RootWrite::ReadOnly,
        Some(_) => return Err(RunError::WrittenInPlace.into()),
    };
    let shown = tree.to_string_lossy();
    if let Some(mounts) = &context.settings.mounts {
        mounts.judge_directory(&shown, &tree, write != RootWrite::ReadOnly)?;
    }
    let permit = context.permit(&Subject { shown: &shown, name: Name::None, digests: Vec::new() }, &tree)?;
    permit.check_use(false, write != RootWrite::ReadOnly)?;
    let choice = tell(choose(args, request, None, &permit, context)?, context);
    Ok(Target {
        id: String::new(),
        names: Vec::new(),
        root: RootPlan::new(tree, write),
        config: ImageConfig::default(),
        choice,
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
    let permit = context.permit_container(&request.image, &container)?;
    permit.check_use(container.has_nvidia(), request.write.is_none() || !is_read_only(request))?;
    let choice = tell(choose(args, request, container.mode(), &permit, context)?, context);
    let stores = context.stores()?;
    let config = container.config()?;
    let elsewhere = request.write.is_some();
    let container = match container.is_layered() && !choice.engine.is_in_place() && !args.shows() {
        true => make_full(&store, container, &stores, &choice, context)?,
        false => container,
    };
    let root = match elsewhere {
        true => store.container_view(&container, &stores)?,
        false => store.container_root(&container, &stores)?,
    };
    let mut target = Target {
        id: container.id().to_string(),
        names: store.names_of(&container)?.iter().map(ToString::to_string).collect(),
        root,
        config: ImageConfig { platform: None, ..config },
        choice,
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

/// A mode without overlays needs a ROOT of the container's own.
fn make_full(
    store: &Store,
    container: Container,
    stores: &Stores,
    choice: &Choice,
    context: &Context,
) -> Result<Container, Failure> {
    let since = Instant::now();
    store.make_full(&container, stores, &context.settings.run_dirs)?;
    let (id, mode, seconds) = (container.id().to_string(), choice.mode, since.elapsed().as_secs_f64());
    context.ui.info(&format!(
        "container {id} has a ROOT of its own from now on ({seconds:.1} s), since mode {mode} has no layers"
    ));
    let found = stores.find_container(&id)?;
    Ok(found.map(|(_, container)| container).ok_or(RunError::ContainerGone { id })?)
}

/// The mode of this run, else the container's, else the configured one; what nobody chose is N1 where it works, also
/// where udocker's own default is P1 or P2.
fn choose(
    args: &Args,
    request: &RunRequest,
    of_container: Option<ExecMode>,
    permit: &Permit<'_>,
    context: &Context,
) -> Result<Choice, Failure> {
    let (mode, asked) = match (request.mode, of_container, context.settings.engines.default_mode) {
        _ if matches!(args.mode, Some(Mode::Auto)) => (None, "--mode=auto".to_owned()),
        (None, None, None) => (None, "--mode=auto".to_owned()),
        (Some(mode), ..) if args.mode.is_none() => (Some(mode), "the profile".to_owned()),
        (Some(mode), ..) => (Some(mode), "--mode".to_owned()),
        (None, Some(mode), _) => (Some(mode), "`udocker setup --execmode`".to_owned()),
        (None, None, Some(mode)) => {
            (Some(mode), context.configuration.origin("override_default_execution_mode").to_string())
        }
    };
    let search = std::env::var_os("PATH").unwrap_or_default();
    Ok(engine::choose(mode, &context.settings.engines, permit, &search, || context.namespaces_work())
        .map_err(|source| RunError::Mode { asked, source })?)
}

/// Tells why `choice` is not N1, where nobody named a mode.
fn tell(choice: Choice, context: &Context) -> Choice {
    if let Some(why) = &choice.why {
        context.ui.info(&format!("running in mode {}, since {why}", choice.mode));
    }
    choice
}

/// Says where writes into a root go that is only read so far.
fn place_writes(args: &Args, context: &Context, request: &RunRequest, target: &mut Target) -> Result<(), Failure> {
    let write = request.write(Defaults::Interactive);
    match write {
        WriteSpec::None => {}
        WriteSpec::Directory(_) | WriteSpec::Tmpfs { size: Some(_) } if !target.choice.engine.is_in_place() => {
            let (mode, write) = (target.choice.mode, write.to_string());
            return Err(RunError::NeedsOverlay { mode, write }.into());
        }
        WriteSpec::Tmpfs { .. } if !target.choice.engine.is_in_place() => {
            let reason = format!("mode {} lays no writable layer over it", target.choice.mode);
            make_private(args, context, target, &reason)?;
        }
        WriteSpec::Tmpfs { size } => match context.overlay_works(&target.root.tree) {
            // A container that is a layer itself is on a machine where overlays work.
            answer if answer.is_ok() || target.root.above.is_some() => {
                target.root.write = RootWrite::Tmpfs { size: tmpfs_bytes(*size, context) };
            }
            // Nobody asked for writes, and there is no place for a copy: what the image has can be read at least.
            Err(_) if request.write.is_none() && context.writable_store().is_err() && is_foreign(target) => {
                context.ui.warning(
                    "files of the image cannot be changed in this run: they are another user's, and no store can be written that \
                     a copy would go into\n  hint: name a store of yours by UDOCKER_DIR or `--repo=DIR`",
                );
                target.root.write = RootWrite::Tmpfs { size: tmpfs_bytes(*size, context) };
            }
            Err(reason) => make_private(args, context, target, &reason)?,
            Ok(()) => unreachable!("taken above"),
        },
        WriteSpec::Directory(path) => {
            let tree = target.root.tree.clone();
            if let Some(whose) = owner_in_the_way(&tree).ok().flatten() {
                return Err(RunError::Foreign { tree, whose, write: write.to_string() }.into());
            }
            if let Some(mounts) = &context.settings.mounts {
                mounts.judge_directory(&format!("--write={write}"), path, true)?;
            }
            let (upper, work) = (path.join("upper"), path.join("work"));
            for directory in [&upper, &work].into_iter().filter(|_| !args.shows()) {
                std::fs::create_dir_all(directory)
                    .map_err(|source| RunError::WriteDirectory { path: directory.clone(), source })?;
            }
            target.root.write = RootWrite::Layer { upper, work };
        }
    }
    Ok(())
}

fn tmpfs_bytes(size: Option<u64>, context: &Context) -> u64 {
    let configured = size.or(context.settings.limits.tmpfs_bytes);
    configured.unwrap_or_else(udocker_core::host::half_of_memory)
}

/// Whether its files are another user's.
fn is_foreign(target: &Target) -> bool {
    owner_in_the_way(&target.root.tree).is_ok_and(|whose| whose.is_some())
}

/// A copy of the tree in the user's store, where no layer can be laid over it. A dry run copies nothing; it shows the tree
/// that would be copied.
fn make_private(args: &Args, context: &Context, target: &mut Target, reason: &str) -> Result<(), Failure> {
    if args.shows() {
        target.root.write = RootWrite::InPlace;
        return Ok(());
    }
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
