//! What is run: an image or a container of a store, pulled or extracted first if it must be.

use std::path::Path;
use std::time::{Duration, SystemTime};

use udocker_core::container::Container;
use udocker_core::deadline::Deadline;
use udocker_core::digest::Digest;
use udocker_core::engine::native::owner_in_the_way;
use udocker_core::engine::{self, Choice, RootPlan, RootWrite};
use udocker_core::error::{ErrorKind, Failure};
use udocker_core::gpu::{Found, Shown};
use udocker_core::host;
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::policy::{self, Name, Permit, Subject};
use udocker_core::reference::ImageReference;
use udocker_core::rendezvous::{ImageFailure, Left, StepImage, image_name};
use udocker_core::run::{ContainerFacts, Defaults, ImageFiles, PullPolicy, RunRequest, WriteSpec, is_path};
use udocker_core::settings::Settings;
use udocker_core::store::{FoundImage, Patience, Record, Store, StoreError, Stores, TreeUse};

use crate::error::LaunchError;
use crate::gpus;
use crate::options;
use crate::pin;
use crate::places::Places;
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

/// Finds the image or container of `request`; what no store has is pulled. The ranks of a step find together: one looks and
/// pulls, the others take what it found.
pub fn find(request: &RunRequest, places: &Places<'_>) -> Result<Target, Failure> {
    let limit = request.timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let deadline = Deadline::after(limit.unwrap_or(places.settings.limits.wait));
    let platform = request.platform.clone().unwrap_or_else(Platform::native);
    // Of a step's ranks, those that may share what one found.
    let places_of_images: Vec<_> = places.settings.stores.iter().map(|store| &store.path).collect();
    let trees = if request.is_written(Defaults::Job) { "own " } else { "" };
    let pin = request.pin.as_ref().map_or("", |digest| digest.hex());
    let wish = format!("{} {pin} {platform} {:?} {trees}{places_of_images:?}", request.image, request.pull);
    let step = places.voice.step;
    let shared = places.run.filter(|_| step.rank.is_some());
    let left = || Left::read(shared?, step, &wish);
    if let Some(Left::Image(image)) = left() {
        return of_image(*image, false, request, places);
    }
    if is_path(&request.image) {
        return of_directory(request, places);
    }
    let stores = Stores::open(places.settings)?;
    // What was pinned when it was submitted is an image.
    if request.pin.is_none()
        && let Some((store, container)) = stores.find_container(&request.image)?
    {
        return of_container(&stores, store, container, request, places);
    }
    let typed: ImageReference = request.image.parse().map_err(options::usage)?;
    let submitted = submitted(&stores, &typed, &platform, request)?;
    let job = pin::Job::of(step, &typed, places.settings.policy.pin).filter(|_| submitted.is_none());
    let pinned = || Ok::<_, Failure>(job.as_ref().map(|job| job.pinned(&stores)).transpose()?.flatten());
    let reference = submitted.map_or_else(pinned, |reference| Ok(Some(reference)))?.unwrap_or_else(|| typed.clone());
    let found = match request.pull {
        // What a digest names does not change.
        PullPolicy::Always if reference.digest().is_none() => None,
        _ => stored(stores, (&reference, &platform), request, Copy::Wanted, places)?,
    };
    // One that another rank could not get either.
    let tried = || match left() {
        Some(Left::Failure(failure)) if failure.counts_for(step, SystemTime::now() - places.voice.since.elapsed()) => {
            Err(Failure::from(failure))
        }
        left => Ok(left),
    };
    let mut lock = None;
    let get = |reference: &ImageReference| -> Result<StepImage, Failure> {
        if request.is_written(Defaults::Job)
            && let Some(FoundImage { record: Some(record), tree: Some(tree), .. }) =
                Stores::open(places.settings)?.find_image(reference, &platform)?
        {
            // What may not be written is not extracted for that.
            let asked = (&*request.image, reference);
            policy::ask_image(places.settings, asked, (&record, &tree), true, places.env)?.check_use(false, true)?;
        }
        staging::stage(reference, &platform, &deadline, request, places.settings)?;
        let found = stored(Stores::open(places.settings)?, (reference, &platform), request, Copy::Welcome, places)?;
        Ok(found.ok_or_else(|| LaunchError::StillMissing(reference.clone()))?)
    };
    let make = |reference: &ImageReference| {
        tried()?;
        let made = get(reference);
        if let (Some(run), Err(failure)) = (shared, &made)
            // Each rank asks what it may; and another one may come to its end.
            && failure.kind() != ErrorKind::Forbidden
            && !failure.is_retryable()
        {
            ImageFailure::new(failure, step).leave(run, step, &wish);
        }
        made
    };
    let mut image = match found {
        Some(image) => image,
        None => {
            tried()?;
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
            if let Some(Left::Image(image)) = left() {
                return of_image(*image, false, request, places);
            }
            make(&reference)?
        }
    };
    if let Some(pin) = request.pin.as_ref().filter(|pin| typed.digest().is_none() && !is_of(&image.record, pin)) {
        // The tag has moved since we looked.
        image = make(&typed.with_digest(pin.clone()))?;
    }
    if let Some(job) = job.filter(|_| reference.digest().is_none())
        && let Some(other) = job.pin(&image.record, places.settings)?
    {
        let found = stored(Stores::open(places.settings)?, (&other, &platform), request, Copy::Wanted, places)?;
        image = found.map_or_else(|| make(&other), Ok)?;
    }
    if let Some(run) = shared {
        image.namespaces = request.mode.is_none().then(|| host::user_namespaces(Some(run)));
        image.gpus = Some(Found::look(places.env, step));
        image.leave(run, step, &wish);
    }
    drop(lock);
    of_image(image, places.run.is_some(), request, places)
}

/// Whether `record` is that of the manifest or the index `digest`.
fn is_of(record: &Record, digest: &Digest) -> bool {
    record.manifest == *digest || record.index.as_ref() == Some(digest)
}

/// The image that the job's tag stood for when it was submitted: by the tag while that leads there, since a store may have it
/// with its layers and never have extracted it; else by its digest.
fn submitted(
    stores: &Stores,
    typed: &ImageReference,
    platform: &Platform,
    request: &RunRequest,
) -> Result<Option<ImageReference>, Failure> {
    let Some(pin) = request.pin.as_ref().filter(|_| typed.digest().is_none()) else { return Ok(None) };
    let found = stores.find_image(typed, platform)?;
    let leads_there = found.is_some_and(|found| match &found.record {
        Some(record) => is_of(record, pin),
        None => found.key == *pin,
    });
    Ok(Some(if leads_there { typed.clone() } else { typed.with_digest(pin.clone()) }))
}

/// A directory that holds a root file system: it has no configuration.
fn of_directory(request: &RunRequest, places: &Places<'_>) -> Result<Target, Failure> {
    if request.pull == PullPolicy::Always || request.platform.is_some() {
        return Err(LaunchError::IsContainer(request.image.clone()).into());
    }
    let unusable = |source| LaunchError::NoRoot { path: request.image.clone().into(), source };
    let tree = std::fs::canonicalize(&request.image).map_err(|error| unusable(Some(error)))?;
    if tree == Path::new("/") {
        return Err(LaunchError::OwnRoot(request.image.clone().into()).into());
    }
    match std::fs::metadata(tree.join("oci-layout")) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(unusable(Some(error)).into()),
        Ok(layout) if layout.is_file() => return Err(unusable(None).into()),
        _ if !tree.is_dir() => return Err(unusable(None).into()),
        _ => {}
    }
    if let Some(mounts) = &places.settings.mounts {
        mounts.judge_directory(&request.image, Path::new(&request.image), false)?;
    }
    let subject = Subject { shown: &request.image, name: Name::None, digests: Vec::new() };
    let permit = policy::ask(places.settings, &subject, &tree, places.env)?;
    let choice = choose(request, None, &permit, None, places)?;
    check_layer(request, &tree)?;
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

/// Whether what is written over `tree` can be, if anything is.
fn check_layer(request: &RunRequest, tree: &Path) -> Result<(), LaunchError> {
    if !request.is_written(Defaults::Job) {
        return Ok(());
    }
    match owner_in_the_way(tree) {
        Ok(None) => Ok(()),
        Ok(Some(whose)) => {
            Err(LaunchError::Foreign { path: tree.to_owned(), whose, write: request.write(Defaults::Job).clone() })
        }
        Err(source) => Err(LaunchError::NoRoot { path: tree.to_owned(), source: Some(source) }),
    }
}

/// The image of a store, or its copy on this node, marked as in use by this process.
fn stored(
    stores: Stores,
    (reference, platform): (&ImageReference, &Platform),
    request: &RunRequest,
    copy: Copy,
    places: &Places<'_>,
) -> Result<Option<StepImage>, Failure> {
    let stores = if request.is_written(Defaults::Job) { stores.with_own_trees() } else { stores };
    let Some(found) = stores.find_image(reference, platform)? else { return Ok(None) };
    let mark = |tree: &Path| places.run.map(|run| run.mark_tree(tree)).transpose().map(Option::unwrap_or_default);
    let mut copied = None;
    if let Some(cache) = places.settings.usable_node_cache().filter(|_| places.run.is_some()) {
        let cache = Store::open_node_cache(cache)?;
        match cache.map(|cache| cache.flattened(&found.key, platform)).transpose()?.flatten() {
            Some((record, tree)) => match mark(&tree) {
                // It was evicted a moment ago; its store has it.
                Err(StoreError::TreeGone(_)) => {}
                name => {
                    // By what index and names it came, its store knows best.
                    let (index, names) = match &found.record {
                        Some(of_store) => (of_store.index.clone(), of_store.names.clone()),
                        None => (record.index.clone(), record.names.clone()),
                    };
                    copied = Some((Record { index, names, ..record }, tree, name?));
                }
            },
            None if copy == Copy::Wanted
                && found.store.settings().keep_layers
                && found.find_tag_directory(reference)?.is_some() =>
            {
                return Ok(None);
            }
            None => {}
        }
    }
    let (record, tree, tree_name) = match (copied, found) {
        (Some(copied), _) => copied,
        (None, FoundImage { record: Some(record), tree: Some(tree), .. }) => {
            let name = mark(&tree)?;
            (record, tree, name)
        }
        (None, _) => return Ok(None),
    };
    let files = ImageFiles::of_root(&RootPlan::new(&tree, RootWrite::ReadOnly))?;
    Ok(Some(StepImage { record, tree, tree_name, files, namespaces: None, gpus: None }))
}

/// Each rank asks for itself: what another left is a file that its user can write. `is_listed`: this process is among the
/// users of its tree.
fn of_image(image: StepImage, is_listed: bool, request: &RunRequest, places: &Places<'_>) -> Result<Target, Failure> {
    let typed: ImageReference = request.image.parse().map_err(options::usage)?;
    // The rules about names hold for what comes by a digest if it came under that name.
    let reference = request.pin.clone().map_or_else(|| typed.clone(), |pin| typed.with_digest(pin));
    let asked = (&*request.image, &reference);
    let permit = policy::ask_image(
        places.settings,
        asked,
        (&image.record, &image.tree),
        request.is_written(Defaults::Job),
        places.env,
    )?;
    let choice = choose(request, None, &permit, image.namespaces, places)?;
    check_layer(request, &image.tree)?;
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
    if root.above.is_none() {
        check_layer(request, &root.tree)?;
    }
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
    permit.check_use(false, request.is_written(Defaults::Job))?;
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
    if !choice.engine.is_in_place() && request.is_written(Defaults::Job) {
        return Err(LaunchError::NeedsOverlay { mode: choice.mode, write: write.clone() }.into());
    }
    if let Some(namespace) = request.unshare.first().filter(|_| !choice.engine.is_in_place()) {
        return Err(LaunchError::NeedsNamespaces { namespace: *namespace, mode: choice.mode }.into());
    }
    Ok(choice)
}
