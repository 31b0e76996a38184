//! What is run: an image or a container of a store, pulled or extracted first if it must be.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use udocker_core::container::Container;
use udocker_core::deadline::Deadline;
use udocker_core::engine::{self, Choice, RootPlan, RootWrite};
use udocker_core::error::Failure;
use udocker_core::gpu::{Found, Grant, Machine, Shown};
use udocker_core::host;
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::policy::{self, Name, Permit, Subject};
use udocker_core::reference::ImageReference;
use udocker_core::rendezvous::{StepImage, image_name};
use udocker_core::run::{ContainerFacts, Defaults, ImageFiles, PullPolicy, RunRequest, Share, WriteSpec, is_path};
use udocker_core::settings::Settings;
use udocker_core::store::{FoundImage, Patience, RunDirectory, Store, StoreError, Stores, TreeUse};

use crate::error::LaunchError;
use crate::gpus;
use crate::options;
use crate::pin;
use crate::report::Voice;
use crate::staging;

/// A tree, and how it is run.
pub struct Target {
    pub config: ImageConfig,
    pub root: RootPlan,
    /// Its accounts.
    pub files: ImageFiles,
    /// How it is run.
    pub choice: Choice,
    pub facts: ContainerFacts,
    /// To be marked as in use.
    pub container: Option<(Store, Container)>,
    /// The image's, which one rank of a step marks for all that join its container.
    pub tree: Option<TreeUse>,
    /// What it gets of this node's GPUs, if that has some.
    pub gpus: Option<Shown>,
}

/// Where it is looked for.
pub struct Places<'a> {
    pub settings: &'a Settings,
    pub run: Option<&'a RunDirectory>,
    /// The caller's, for the site's rules.
    pub env: &'a [(OsString, OsString)],
    pub voice: &'a Voice<'a>,
}

/// Finds the image or container of `request`; what no store has is pulled. The ranks of a step find together: one looks and
/// pulls, the others take what it found.
pub fn find(request: &RunRequest, places: &Places<'_>) -> Result<Target, Failure> {
    let limit = request.timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let deadline = Deadline::after(limit.unwrap_or(places.settings.limits.wait));
    let platform = request.platform.clone().unwrap_or_else(Platform::native);
    // Of a step's ranks, those that may share what one found.
    let places_of_images: Vec<_> = places.settings.stores.iter().map(|store| &store.path).collect();
    let wish = format!("{} {platform} {:?} {places_of_images:?}", request.image, request.pull);
    let step = places.voice.step;
    let shared = places.run.filter(|_| step.rank.is_some());
    let left = || StepImage::read(shared?, step, &wish);
    if let Some(image) = left() {
        return of_image(image, false, request, places);
    }
    if is_path(&request.image) {
        return of_directory(request, places);
    }
    let stores = Stores::open(places.settings)?;
    if let Some((store, container)) = stores.find_container(&request.image)? {
        return of_container(&stores, store, container, request, places);
    }
    let typed: ImageReference = request.image.parse().map_err(options::usage)?;
    let job = pin::Job::of(step, &typed, places.settings.policy.pin);
    let reference = job.as_ref().map(|job| job.pinned(&stores)).transpose()?.flatten().unwrap_or_else(|| typed.clone());
    let found = match request.pull {
        // What a digest names does not change.
        PullPolicy::Always if reference.digest().is_none() => None,
        _ => stored(&stores, &reference, &platform, Copy::Wanted, places)?,
    };
    let mut lock = None;
    let make = |reference: &ImageReference| -> Result<StepImage, Failure> {
        staging::stage(reference, &platform, &deadline, request, places)?;
        let stores = Stores::open(places.settings)?;
        let found = stored(&stores, reference, &platform, Copy::Welcome, places)?;
        Ok(found.ok_or_else(|| LaunchError::StillMissing(reference.clone()))?)
    };
    let mut image = match found {
        Some(image) => image,
        None => {
            let tell = || places.voice.waits_for_image(&reference);
            let patience = Patience::until(&deadline, &tell);
            lock =
                shared.map(|run| run.lock(&image_name(step, &wish), &patience)).transpose().map_err(
                    |error| match error {
                        StoreError::Busy { .. } => {
                            LaunchError::Waited { reference: reference.clone(), seconds: deadline.seconds() }.into()
                        }
                        error => Failure::from(error),
                    },
                )?;
            if let Some(image) = left() {
                return of_image(image, false, request, places);
            }
            make(&reference)?
        }
    };
    if let Some(job) = job.filter(|_| reference.digest().is_none())
        && let Some(other) = job.pin(&image.record, places)?
    {
        let found = stored(&Stores::open(places.settings)?, &other, &platform, Copy::Wanted, places)?;
        image = found.map_or_else(|| make(&other), Ok)?;
    }
    if let Some(run) = shared {
        image.namespaces = request.mode.is_none().then(|| host::user_namespaces(Some(run)));
        image.gpus = gpus_of(&image, request, places)?;
        image.leave(run, step, &wish);
    }
    drop(lock);
    of_image(image, places.run.is_some(), request, places)
}

/// A directory that holds a root file system: it has no configuration.
fn of_directory(request: &RunRequest, places: &Places<'_>) -> Result<Target, Failure> {
    if request.pull == PullPolicy::Always || request.platform.is_some() {
        return Err(LaunchError::IsContainer(request.image.clone()).into());
    }
    let unusable = |source| LaunchError::NoRoot { path: request.image.clone().into(), source };
    let tree = std::fs::canonicalize(&request.image).map_err(|error| unusable(Some(error)))?;
    if !tree.is_dir() || tree.join("oci-layout").is_file() {
        return Err(unusable(None).into());
    }
    if let Some(mounts) = &places.settings.mounts {
        mounts.judge_directory(&request.image, Path::new(&request.image), false)?;
    }
    let subject = Subject { shown: &request.image, name: Name::None, digests: Vec::new() };
    let permit = policy::ask(places.settings, &subject, &tree, places.env)?;
    let choice = choose(request, None, &permit, None, places)?;
    let root = RootPlan::new(&tree, root_write(request, places.settings));
    let facts = ContainerFacts { id: request.image.clone(), names: Vec::new(), root: tree, mode: choice.mode };
    let files = ImageFiles::of_root(&root)?;
    let config = ImageConfig::default();
    let gpus = gpus::show(request, &permit, (&config, &root), None, places)?;
    Ok(Target { config, root, files, choice, facts, container: None, tree: None, gpus })
}

/// Whether an image runs from its store where this node could have a copy and has none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copy {
    /// It does not: `udocker stage` makes the copy first.
    Wanted,
    /// It does: that was tried.
    Welcome,
}

/// The image of a store, or its copy on this node, marked as in use by this process.
fn stored(
    stores: &Stores,
    reference: &ImageReference,
    platform: &Platform,
    copy: Copy,
    places: &Places<'_>,
) -> Result<Option<StepImage>, Failure> {
    let found = stores.find_image(reference, platform)?;
    let Some(FoundImage { store, key, record: Some(record), tree: Some(tree), tag_directory }) = found else {
        return Ok(None);
    };
    let mark = |tree: &Path| places.run.map(|run| run.mark_tree(tree)).transpose().map(Option::unwrap_or_default);
    let mut image = (record, tree, None);
    if let Some(cache) = places.settings.usable_node_cache().filter(|_| places.run.is_some()) {
        let cached = Store::open_node_cache(cache)?.map(|cache| cache.flattened(&key, platform)).transpose()?.flatten();
        match cached {
            Some((record, tree)) => match mark(&tree) {
                // It was evicted a moment ago; its store has it.
                Err(StoreError::TreeGone(_)) => {}
                name => image = (record, tree, Some(name?)),
            },
            None if copy == Copy::Wanted && tag_directory.is_some() && store.settings().keep_layers => return Ok(None),
            None => {}
        }
    }
    let (record, tree, name) = image;
    let tree_name = name.map_or_else(|| mark(&tree), Ok)?;
    let files = ImageFiles::of_root(&RootPlan::new(&tree, RootWrite::ReadOnly))?;
    Ok(Some(StepImage { record, tree, tree_name, files, namespaces: None, gpus: None }))
}

/// Each rank asks for itself: what another left is a file that its user can write. `is_listed`: this process is among the
/// users of its tree.
fn of_image(image: StepImage, is_listed: bool, request: &RunRequest, places: &Places<'_>) -> Result<Target, Failure> {
    let reference: ImageReference = request.image.parse().map_err(options::usage)?;
    let asked = (&*request.image, &reference);
    let permit = policy::ask_image(places.settings, asked, (&image.record, &image.tree), places.env)?;
    let choice = choose(request, None, &permit, image.namespaces, places)?;
    let facts = ContainerFacts {
        id: image.record.tree.hex()[..32].to_owned(),
        names: Vec::new(),
        root: image.tree.clone(),
        mode: choice.mode,
    };
    let root = RootPlan::new(&image.tree, root_write(request, places.settings));
    let gpus = gpus::show(request, &permit, (&image.record.config, &root), image.gpus.as_ref(), places)?;
    let tree = Some(TreeUse { name: image.tree_name, root: image.tree.clone(), is_listed });
    Ok(Target { config: image.record.config, tree, root, files: image.files, choice, facts, container: None, gpus })
}

/// What a node's first rank finds of its GPUs for all.
fn gpus_of(image: &StepImage, request: &RunRequest, places: &Places<'_>) -> Result<Option<Found>, Failure> {
    let machine = Machine::look(Path::new("/"));
    if machine.gpus.is_empty() {
        let grant = Grant::of(places.env, places.voice.step.scheduler, Share::Node);
        return Ok(Some(Found { machine, grant, bundle: None }));
    }
    let reference: ImageReference = request.image.parse().map_err(options::usage)?;
    let asked = (&*request.image, &reference);
    let permit = policy::ask_image(places.settings, asked, (&image.record, &image.tree), places.env)?;
    let root = RootPlan::new(&image.tree, RootWrite::ReadOnly);
    Ok(Some(gpus::look(machine, request, &permit, (&image.record.config, &root), places)))
}

fn root_write(request: &RunRequest, settings: &Settings) -> RootWrite {
    match request.write(Defaults::Job) {
        WriteSpec::None => RootWrite::ReadOnly,
        WriteSpec::Tmpfs { size } => {
            RootWrite::Tmpfs { size: size.or(settings.limits.tmpfs_bytes).unwrap_or_else(host::half_of_memory) }
        }
        WriteSpec::Directory(path) => RootWrite::Layer { upper: path.join("upper"), work: path.join("work") },
    }
}

/// A job sees a container as it is and does not write into it: its ranks share it, as they share an image.
fn of_container(
    stores: &Stores,
    store: &Store,
    container: Container,
    request: &RunRequest,
    places: &Places<'_>,
) -> Result<Target, Failure> {
    if request.pull == PullPolicy::Always || request.platform.is_some() {
        return Err(LaunchError::IsContainer(container.id().to_string()).into());
    }
    let permit = policy::ask_container(places.settings, &request.image, &container, places.env)?;
    let choice = choose(request, Some(&container), &permit, None, places)?;
    if container.is_layered() && !choice.engine.is_in_place() {
        return Err(LaunchError::IsLayered { id: container.id().to_string(), mode: choice.mode }.into());
    }
    let config = container.config()?;
    let root = RootPlan { write: root_write(request, places.settings), ..store.container_view(&container, stores)? };
    let names = container.names().iter().map(ToString::to_string).collect();
    let facts = ContainerFacts { id: container.id().to_string(), names, root: root.tree.clone(), mode: choice.mode };
    let files = ImageFiles::of_root(&root)?;
    let gpus = gpus::show(request, &permit, (&config, &root), None, places)?;
    Ok(Target { config, root, files, choice, facts, container: Some((store.clone(), container)), tree: None, gpus })
}

/// The mode of the request, else of the container, else one that works here; `namespaces`: what is known of them.
fn choose(
    request: &RunRequest,
    container: Option<&Container>,
    permit: &Permit<'_>,
    namespaces: Option<Result<(), String>>,
    places: &Places<'_>,
) -> Result<Choice, Failure> {
    let write = request.write(Defaults::Job);
    permit.check_use(false, *write != WriteSpec::None)?;
    if let (Some(mounts), WriteSpec::Directory(path)) = (&places.settings.mounts, write) {
        mounts.judge_directory(&format!("--write={write}"), path, true)?;
    }
    let of_container = || container.and_then(|container| Some((container.mode()?, container.id())));
    let (mode, asked) = match (request.mode, of_container()) {
        (Some(mode), _) => (Some(mode), "`--mode`".to_owned()),
        (None, Some((mode, id))) => (Some(mode), format!("the setup of container {id}")),
        (None, None) => (None, "`--mode=auto`".to_owned()),
    };
    let native = || namespaces.unwrap_or_else(|| host::user_namespaces(places.run));
    let search = std::env::var_os("PATH").unwrap_or_default();
    let choice = engine::choose(mode, &places.settings.engines, permit, &search, native)
        .map_err(|source| LaunchError::Mode { asked, source })?;
    if let Some(why) = &choice.why {
        places.voice.say(&format!("running in mode {}, since {why}", choice.mode));
    }
    if !choice.engine.is_in_place() && *write != WriteSpec::None {
        return Err(LaunchError::NeedsOverlay { mode: choice.mode, write: write.clone() }.into());
    }
    if let Some(namespace) = request.unshare.first().filter(|_| !choice.engine.is_in_place()) {
        return Err(LaunchError::NeedsNamespaces { namespace: *namespace, mode: choice.mode }.into());
    }
    Ok(choice)
}
