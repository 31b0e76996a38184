//! Puts one rank into its container: decide, enter, exec.
//!
//! One process per rank, single-threaded, statically linked, without network, TLS, regex or NSS; nothing stays between
//! the batch system and the payload. What is heavy is done by a child, `udocker pull` or `udocker stage`.
#![cfg_attr(not(test), no_main)]

mod options;
mod report;

use std::ffi::OsString;
#[cfg(not(test))]
use std::ffi::{c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use udocker_core::container::Container;
use udocker_core::engine::{self, Choice, KeepFds, ModeNotBuilt, RootPlan, RootWrite};
use udocker_core::env_vars::{self, matches_any};
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::{
    Accounts, Caller, ContainerFacts, Defaults, ExecMode, ImageFiles, PullPolicy, RunRequest, RunSpec, WriteSpec,
};
use udocker_core::settings::Settings;
use udocker_core::start::start;
use udocker_core::store::{FoundImage, RunDirectory, Store, Stores};
use udocker_core::sys::fds;
use udocker_site_config::Sources;

use options::{Here, Invocation};

/// Statuses of a task that could not be started (docs: statuses).
mod status {
    pub const POLICY: u8 = 121;
    pub const IMAGE: u8 = 122;
    pub const NODE: u8 = 123;
    pub const TIMEOUT: u8 = 124;
    pub const USAGE: u8 = 125;
}

/// A rank cannot be started.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error("image {0} is in no store, and `--pull=never` forbids asking the registry")]
    NotHere(ImageReference),
    #[error("cannot {work} {reference}: `udocker {work}` ended with status {status}")]
    Failed { work: &'static str, reference: ImageReference, status: i32 },
    #[error("cannot run `udocker {work}` for {reference}")]
    NotRun {
        work: &'static str,
        reference: ImageReference,
        #[source]
        source: std::io::Error,
    },
    #[error("image {0} was made ready and is in no store")]
    StillMissing(ImageReference),
    #[error("cannot run in the mode that {asked} asks for")]
    ModeNotBuilt {
        asked: String,
        #[source]
        source: ModeNotBuilt,
    },
    #[error("cannot run with --write={write} in mode {mode}: it lays no writable layer over an image")]
    NeedsOverlay { mode: ExecMode, write: WriteSpec },
    #[error("cannot run container {id} in mode {mode}: it is a layer over its image, and the mode has no layers")]
    IsLayered { id: String, mode: ExecMode },
    #[error("cannot make {}, where writes should go", path.display())]
    WriteDirectory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot keep descriptor {0} (from --fd): it is not open")]
    NotOpen(i32),
    #[error("cannot make a descriptor {0} (from --fd): {1}")]
    NumberTaken(i32, &'static str),
    #[error("cannot sort out the file descriptors")]
    Descriptors(#[source] std::io::Error),
    #[error("{0} is a container, and `--pull=always` and `--platform` choose images")]
    IsContainer(String),
}

impl Explain for LaunchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::IsContainer(_) | Self::NotOpen(_) | Self::NumberTaken(..) => ErrorKind::Usage,
            Self::ModeNotBuilt { .. } | Self::NeedsOverlay { .. } | Self::IsLayered { .. } => ErrorKind::Unsupported,
            // 125: neither the image nor a policy stands in the way.
            Self::WriteDirectory { .. } | Self::Descriptors(_) => ErrorKind::System,
            _ => ErrorKind::NotFound,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotHere(reference) => vec![format!("`udocker pull {reference}` on a login node gets it")],
            Self::Failed { .. } => vec!["the lines above are its own".into()],
            Self::NotRun { .. } => vec!["`udocker` must lie beside `udocker-launch` or on PATH".into()],
            Self::ModeNotBuilt { source, .. } => source.hints(),
            Self::NeedsOverlay { .. } => vec!["leave it away: the root is read-only then; or use mode N1".into()],
            Self::IsLayered { id, .. } => {
                vec![format!("`udocker setup --execmode=P1 {id}` gives it a root of its own")]
            }
            Self::WriteDirectory { .. } => vec!["`--write=dir:PATH` names a directory that you may write".into()],
            Self::NotOpen(_) => vec!["a shell opens one by `7<FILE`, `7>FILE` or `7<>FILE` behind the command".into()],
            Self::NumberTaken(..) => vec!["`--fd=N:M` with another M".into()],
            Self::Descriptors(_) => Vec::new(),
            Self::IsContainer(_) => vec!["leave them away, or name the image".into()],
            Self::StillMissing(_) => vec!["check UDOCKER_DIR: both programs must use the same store".into()],
        }
    }
}

/// The C entry point: Rust's own start-up reads /proc/self/maps, makes a signal stack and ignores SIGPIPE, which
/// every rank would pay for and which changes what the payload inherits. glibc hands argv to std before this runs.
#[cfg(not(test))]
#[allow(unsafe_code)]
// SAFETY: the only `main` of the program, with the signature of C.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _words: *const *const c_char) -> c_int {
    c_int::from(run())
}

/// Unit tests come with Rust's.
#[cfg(test)]
fn main() {
    std::process::exit(run().into());
}

fn run() -> u8 {
    // Where even /dev/null is missing there are no messages.
    let _may_be_missing = fds::hold_standard_streams();
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let invocation = match options::parse(&words, &env) {
        Ok(invocation) => invocation,
        Err(error) => return report::fail(&error.into(), &env, status::USAGE),
    };
    match invocation {
        Invocation::Help => report::print(options::HELP),
        Invocation::Version => report::print(concat!("udocker-launch ", env!("CARGO_PKG_VERSION"), "\n")),
        Invocation::Run { request, here } => match launch(&request, &here, &env) {
            Ok(status) => status,
            Err(failure) => report::fail(&failure, &env, status_of(&failure)),
        },
    }
}

fn status_of(failure: &Failure) -> u8 {
    match failure.kind() {
        ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Network => status::IMAGE,
        ErrorKind::Denied => status::POLICY,
        ErrorKind::Unsupported => status::NODE,
        ErrorKind::Timeout => status::TIMEOUT,
        _ => status::USAGE,
    }
}

fn launch(request: &RunRequest, here: &Here, env: &[(OsString, OsString)]) -> Result<u8, Failure> {
    let is_manager_s = |name: &OsString| matches_any(env_vars::PROCESS_MANAGER, name.as_bytes());
    let for_caller = env.iter().filter(|(name, _)| !(here.without_pmi && is_manager_s(name))).cloned();
    let caller = Caller::gather(for_caller.collect(), &request.user);
    sort_descriptors(&here.fds, &caller.sockets)?;
    let settings = udocker_site_config::load(&Sources::of_caller(&caller))?.settings;
    let target = find(request, &settings)?;
    if let RootWrite::Layer { upper, work } = &target.root.write {
        for path in [upper, work] {
            let made = std::fs::create_dir_all(path);
            made.map_err(|source| LaunchError::WriteDirectory { path: path.clone(), source })?;
        }
    }
    let files = match request.accounts {
        Accounts::Host => ImageFiles::of_host()?,
        Accounts::Generated | Accounts::Container => ImageFiles::of_root(&target.root)?,
    };
    let spec = RunSpec::build(request, &target.config, &files, &caller, Defaults::Job, &target.facts)?;
    let mut plan = engine::plan(&spec, &target.choice, target.root);
    if let KeepFds::Only(kept) = &mut plan.keep_fds {
        kept.extend(here.fds.iter().map(|(_, to)| *to).filter(|fd| *fd > 2));
    }
    if here.dry_run {
        let text = serde_json::to_string_pretty(&plan).expect("a plan serialises");
        return Ok(report::print(&(text + "\n")));
    }
    if let Some((store, container)) = &target.container {
        store.mark_in_use(container, false, &settings.run_dirs)?;
    }
    if target.container.is_none()
        && let Some(run) = RunDirectory::open(&settings.run_dirs)
    {
        run.mark_tree(&target.facts.root)?;
    }
    match start(&plan, &settings.run_dirs) {
        Ok(ended) => Ok(ended.mirror()),
        Err(error) => {
            let status = error.status();
            let failure = Failure::from(error);
            // What is missing or closed by now is no image and no policy, but a volume or a directory.
            let lacks_feature = status == status::USAGE && failure.kind() == ErrorKind::Unsupported;
            Ok(report::fail(&failure, env, if lacks_feature { status::NODE } else { status }))
        }
    }
}

/// Renumbers what `--fd` names, and closes what the caller left open by accident, before anything else is opened: a
/// process beside the program holds none of it.
fn sort_descriptors(wanted: &[(i32, i32)], sockets: &[i32]) -> Result<(), LaunchError> {
    let closed = wanted.iter().map(|(from, _)| *from).find(|from| !fds::is_open(*from));
    if let Some(from) = closed {
        return Err(LaunchError::NotOpen(from));
    }
    for (index, (from, to)) in wanted.iter().enumerate() {
        if from != to && sockets.contains(to) {
            return Err(LaunchError::NumberTaken(*to, "that is the process manager's socket"));
        }
        if wanted[..index].iter().any(|(other, same)| same == to && other != from) {
            return Err(LaunchError::NumberTaken(*to, "two are to have that number"));
        }
    }
    let moved: Vec<_> = wanted.iter().copied().filter(|(from, to)| from != to).collect();
    let kept: Vec<i32> = wanted.iter().map(|(_, to)| *to).chain(sockets.iter().copied()).collect();
    let sorted = fds::renumber(&moved).and_then(|()| fds::close_inherited_except(&kept));
    sorted.map_err(|error| LaunchError::Descriptors(error.into()))
}

struct Target {
    config: ImageConfig,
    root: RootPlan,
    /// How it is run.
    choice: Choice,
    facts: ContainerFacts,
    /// To be marked as in use.
    container: Option<(Store, Container)>,
}

fn find(request: &RunRequest, settings: &Settings) -> Result<Target, Failure> {
    let platform = request.platform.clone().unwrap_or_else(Platform::native);
    let stores = Stores::open(settings)?;
    if let Some((store, container)) = stores.find_container(&request.image)? {
        return of_container(&stores, store, container, request, settings);
    }
    let reference: ImageReference = request.image.parse().map_err(options::usage)?;
    if request.pull != PullPolicy::Always
        && let Some(target) = stored(&stores, &reference, &platform, request, settings)?
    {
        return Ok(target);
    }
    let work = if request.pull != PullPolicy::Always && stores.find_image(&reference, &platform)?.is_some() {
        // It is here and was never extracted: udocker wrote it, or its store holds blobs alone.
        "stage"
    } else if request.pull == PullPolicy::Never {
        return Err(LaunchError::NotHere(reference).into());
    } else {
        "pull"
    };
    run_udocker(work, &reference, &platform)?;
    let stores = Stores::open(settings)?;
    stored(&stores, &reference, &platform, request, settings)?
        .ok_or_else(|| LaunchError::StillMissing(reference).into())
}

fn stored(
    stores: &Stores,
    reference: &ImageReference,
    platform: &Platform,
    request: &RunRequest,
    settings: &Settings,
) -> Result<Option<Target>, Failure> {
    let Some(FoundImage { record: Some(record), tree: Some(tree), .. }) = stores.find_image(reference, platform)?
    else {
        return Ok(None);
    };
    let choice = choose(request, None, settings)?;
    let facts = ContainerFacts {
        id: record.tree.hex()[..32].to_owned(),
        names: Vec::new(),
        root: tree.clone(),
        mode: choice.mode,
    };
    Ok(Some(Target {
        config: record.config,
        root: RootPlan::new(tree, root_write(request, settings)),
        choice,
        facts,
        container: None,
    }))
}

fn root_write(request: &RunRequest, settings: &Settings) -> RootWrite {
    match &request.write {
        WriteSpec::None => RootWrite::ReadOnly,
        WriteSpec::Tmpfs { size } => RootWrite::Tmpfs {
            size: size.or(settings.limits.tmpfs_bytes).unwrap_or_else(udocker_core::host::half_of_memory),
        },
        WriteSpec::Directory(path) => RootWrite::Layer { upper: path.join("upper"), work: path.join("work") },
    }
}

/// A job sees a container as it is and does not write into it: its ranks share it, as they share an image.
fn of_container(
    stores: &Stores,
    store: &Store,
    container: Container,
    request: &RunRequest,
    settings: &Settings,
) -> Result<Target, Failure> {
    if request.pull == PullPolicy::Always || request.platform.is_some() {
        return Err(LaunchError::IsContainer(container.id().to_string()).into());
    }
    let choice = choose(request, Some(&container), settings)?;
    if container.is_layered() && !choice.engine.is_in_place() {
        return Err(LaunchError::IsLayered { id: container.id().to_string(), mode: choice.mode }.into());
    }
    let config = container.config()?;
    let root = RootPlan { write: root_write(request, settings), ..store.container_view(&container, stores)? };
    let names = container.names().iter().map(ToString::to_string).collect();
    let facts = ContainerFacts { id: container.id().to_string(), names, root: root.tree.clone(), mode: choice.mode };
    Ok(Target { config, root, choice, facts, container: Some((store.clone(), container)) })
}

/// The mode of the request, else of the container, else one that works here.
fn choose(request: &RunRequest, container: Option<&Container>, settings: &Settings) -> Result<Choice, Failure> {
    let of_container = || container.and_then(|container| Some((container.mode()?, container.id())));
    let (mode, asked) = match (request.mode, of_container()) {
        (Some(mode), _) => (Some(mode), "`--mode`".to_owned()),
        (None, Some((mode, id))) => (Some(mode), format!("the setup of container {id}")),
        (None, None) => (None, String::new()),
    };
    let native = || udocker_core::host::user_namespaces(RunDirectory::open(&settings.run_dirs).as_ref());
    let search = std::env::var_os("PATH").unwrap_or_default();
    let choice = engine::choose(mode, &settings.engines, &search, native)
        .map_err(|source| LaunchError::ModeNotBuilt { asked, source })?;
    if !choice.engine.is_in_place() && request.write != WriteSpec::None {
        return Err(LaunchError::NeedsOverlay { mode: choice.mode, write: request.write.clone() }.into());
    }
    Ok(choice)
}

/// Heavy work crosses an exec boundary: the sibling program pulls or extracts, with its messages on our stderr.
fn run_udocker(work: &'static str, reference: &ImageReference, platform: &Platform) -> Result<(), LaunchError> {
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name("udocker")).filter(|path| path.is_file());
    let program = beside.unwrap_or_else(|| "udocker".into());
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.arg("--allow-root");
    }
    command.arg(work).arg(format!("--platform={platform}")).arg(reference.to_string());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let status =
        command.status().map_err(|source| LaunchError::NotRun { work, reference: reference.clone(), source })?;
    if status.success() {
        return Ok(());
    }
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Err(LaunchError::Failed { work, reference: reference.clone(), status })
}
