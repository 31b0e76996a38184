//! `udocker run`.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use udocker_core::container::{Container, nvidia_mounts};
use udocker_core::engine::{self, ExecPlan, ModeError, RootWrite};
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::rendezvous::{Meeting, Notice, Step, starter};
use udocker_core::run::{
    Accounts, Caller, ContainerFacts, Defaults, ExecMode, ImageFiles, Remark, RunRequest, RunSpec, Said, UserSpec,
    has_program,
};
use udocker_core::start::StartError;
use udocker_core::store::{RunDirectory, Store, TreeUse};

use super::Outcome;
use crate::context::Context;
use crate::usage_text;
use target::Target;

mod args;
mod docker;
mod explain;
mod profiles;
pub mod refusal;
mod target;

pub use args::Args;

/// Docker's status for a run that could not begin.
pub const NOT_STARTED: u8 = 125;
/// Started if neither the user nor the image names a program and the container has no bash.
const FALLBACK_COMMAND: [&str; 2] = ["sh", "-i"];

/// A run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file of variables cannot be read.
    #[error("cannot read the environment file {path}")]
    EnvFile { path: PathBuf, source: std::io::Error },
    /// A volume's path on the host leads nowhere.
    #[error("invalid host volume path: {}", path.display())]
    Volume { path: PathBuf, source: std::io::Error },
    /// A device that cannot be shown.
    #[error("invalid device {device}: {why}")]
    Device { device: String, why: &'static str },
    /// The kernel refused the set of CPUs.
    #[error("cannot run on the CPUs {cpus}")]
    Cpus { cpus: String, source: std::io::Error },
    /// `--location` is no directory.
    #[error("cannot run in {0}: it is no directory")]
    NoDirectory(PathBuf),
    /// `--location` with `--write`.
    #[error("--location names a directory that is written in place: --write can only be none")]
    WrittenInPlace,
    /// The engine part does not exist, does not work here, or the site allows it not.
    #[error("cannot run in the mode that {asked} asks for")]
    Mode { asked: String, source: ModeError },
    /// A wish that needs an overlay.
    #[error("cannot run with --write={write} in mode {mode}: it lays no writable layer over an image")]
    NeedsOverlay { mode: ExecMode, write: String },
    /// Files that a layer over them cannot copy up.
    #[error("cannot lay --write={write} over {}: its files are {whose}, and a layer is written over one's own only", tree.display())]
    Foreign { tree: PathBuf, whose: String, write: String },
    /// `--write=dir:` cannot be made.
    #[error("cannot make {path}, where writes should go")]
    WriteDirectory { path: PathBuf, source: std::io::Error },
    /// The new container was removed at once.
    #[error("container {id} was removed before it could run")]
    ContainerGone { id: String },
    /// `--cidfile`.
    #[error("cannot write the container's ID to {path}")]
    IdFile { path: PathBuf, source: std::io::Error },
}

impl Explain for RunError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::EnvFile { source, .. }
            | Self::Volume { source, .. }
            | Self::Cpus { source, .. }
            | Self::WriteDirectory { source, .. }
            | Self::IdFile { source, .. } => ErrorKind::from_io(source),
            Self::Device { .. } | Self::NoDirectory(_) | Self::ContainerGone { .. } => ErrorKind::NotFound,
            Self::Mode { source, .. } => source.kind(),
            Self::WrittenInPlace | Self::NeedsOverlay { .. } | Self::Foreign { .. } => ErrorKind::Unsupported,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Mode { source, .. } => source.hints(),
            Self::NeedsOverlay { .. } => {
                vec!["without `--write` a private copy is written; `--write=none` needs no copy; N1 has layers".into()]
            }
            Self::Foreign { .. } => {
                vec!["without `--write` a private copy is written; `udocker create` makes one that stays".into()]
            }
            Self::Cpus { .. } => vec!["`nproc --all` tells how many there are, `taskset -p $$` which are yours".into()],
            Self::Volume { .. } => vec!["the source of a volume must exist on this host".into()],
            Self::IdFile { .. } => vec!["name a file that does not exist yet".into()],
            Self::NoDirectory(_) => vec!["`--location` names the directory of a root file system".into()],
            _ => Vec::new(),
        }
    }
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    args.registry.apply(&mut context.settings)?;
    if args.dry_run && args.format.as_deref() == Some("text") {
        return Err(usage_text("--dry-run prints JSON; --explain prints text").into());
    }
    let said = profiles::said(&args.profile)?;
    let request = args.request(profiles::request(&said)?)?;
    // From here on the command line is right, and what fails fails with Docker's status.
    begin(args, context, request, said).or_else(|failure| Ok(context.ui.failed(&failure, NOT_STARTED)))
}

/// `said`: of the profiles.
fn begin(args: &Args, context: &Context, mut request: RunRequest, said: Vec<Said>) -> Outcome {
    for warning in args.docker.answers()? {
        context.ui.warning(&warning);
    }
    let (of_profiles, dri) = (request.mounts.len(), &context.settings.interactive.dri);
    args.add_wishes(&mut request, dri)?;
    let said = match args.explain {
        true => vec![said, args.said(request.mounts.len() - of_profiles, dri.len())],
        false => Vec::new(),
    };
    if let Some(cpus) = &args.cpuset_cpus {
        cpus.confine()?;
    }
    let target = target::find(args, context, &request)?;
    let outcome = enter(args, context, request, &target, said);
    // A container that was there before goes only if its program was tried.
    if args.rm && !args.shows() && (outcome.is_ok() || target.is_new) {
        let removed = remove(context, &target);
        // What became of the run matters more: it gives the status, and its error is the one to tell.
        if let (Ok(_), Err(failure)) = (&outcome, removed) {
            context.ui.error(&failure.report());
        }
    }
    outcome
}

/// Starts the program; returns where something is to be done at its end, or if it cannot be started.
fn enter(args: &Args, context: &Context, mut request: RunRequest, target: &Target, said: Vec<Vec<Said>>) -> Outcome {
    if target.container.as_ref().is_some_and(|(_, container)| container.has_nvidia()) {
        let layers: Vec<&Path> = target.root.layers().collect();
        request.mounts.extend(nvidia_mounts(Path::new("/"), &layers));
    }
    if args.explain {
        return explain::explain(args, context, &request, target, said);
    }
    let plan = plan(context, &request, target)?;
    if args.dry_run {
        context.ui.result(serde_json::to_string_pretty(&plan).expect("a plan serialises"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &args.cidfile {
        let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(target.id.as_bytes()));
        written.map_err(|source| RunError::IdFile { path: path.clone(), source })?;
    }
    start(args, context, target, plan, request.write.is_none())
}

fn plan(context: &Context, request: &RunRequest, target: &Target) -> Result<ExecPlan, Failure> {
    Ok(planned(context, request, target)?.plan)
}

/// A plan, and what it was made of.
struct Planned {
    plan: ExecPlan,
    caller: Caller,
    files: ImageFiles,
    facts: ContainerFacts,
}

fn planned(context: &Context, request: &RunRequest, target: &Target) -> Result<Planned, Failure> {
    let mut caller = Caller::gather(std::env::vars_os().collect(), request.user(Defaults::Interactive));
    caller.interactive = context.settings.interactive.clone();
    caller.site_mounts.clone_from(&context.settings.mounts);
    caller.site_env.clone_from(&context.settings.env);
    let files = match request.accounts {
        Accounts::Host => ImageFiles::of_host()?,
        Accounts::Generated | Accounts::Container => ImageFiles::of_root(&target.root)?,
    };
    let facts = ContainerFacts {
        id: target.id.clone(),
        names: target.names.clone(),
        root: target.root.tree.clone(),
        mode: target.choice.mode,
    };
    let mut spec = RunSpec::build(request, &target.config, &files, &caller, Defaults::Interactive, &facts)
        .map_err(refusal::of_spec)?;
    for remark in std::mem::take(&mut spec.remarks) {
        match remark {
            Remark::AssumedCommand => {
                let path = spec.env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
                if !spec.argv[0]
                    .to_str()
                    .is_some_and(|name| has_program(&target.root, OsStr::from_bytes(path.unwrap_or_default()), name))
                {
                    spec.argv = FALLBACK_COMMAND.map(OsString::from).into();
                }
                let words: Vec<_> = spec.argv.iter().map(|word| word.display().to_string()).collect();
                context.ui.warning(&format!("no command assuming: {}", words.join(" ")));
            }
            other => context.ui.warning(&other.to_string()),
        }
    }
    Ok(Planned { plan: engine::plan(&spec, &target.choice, target.root.clone()), caller, files, facts })
}

/// `writes`: whether into the container itself.
fn start(args: &Args, context: &Context, target: &Target, plan: ExecPlan, writes: bool) -> Outcome {
    if let Some((store, container)) = &target.container {
        store.mark_in_use(container, writes, &context.settings.run_dirs)?;
    }
    let run = RunDirectory::open(&context.settings.run_dirs);
    let tree = match (&target.tree, &run) {
        (Some(root), Some(run)) => Some(TreeUse { name: run.mark_tree(root)?, root: root.clone(), is_listed: true }),
        _ => None,
    };
    let environment: Vec<_> = std::env::vars_os().collect();
    let step = Step::of(&environment, starter);
    let mut notice = |notice: Notice| context.ui.info(&notice.to_string());
    // Ranks share a container, and so do all who write into one.
    let is_layer = matches!(plan.root.write, RootWrite::Layer { .. }) && target.container.is_none();
    let must_meet = step.rank.is_some() || is_layer;
    let is_layered = |(_, container): &(Store, Container)| container.is_layered();
    let mut meeting = match (&run, &target.container) {
        (Some(run), None) if is_layer => Meeting::of_directory(run, &step, &target.id, &plan, &mut notice),
        (Some(run), Some((_, container))) if writes && plan.engine.is_in_place() => {
            let id = container.id().to_string();
            Some(Meeting::of_container(run, (&id, container.is_layered()), &step, &plan, &mut notice))
        }
        (Some(run), _) if step.rank.is_some() && plan.engine.is_in_place() => {
            Some(Meeting::of_step(run, &step, (&target.id, tree.as_ref()), &plan, &mut notice))
        }
        (None, container) if plan.engine.is_in_place() && (must_meet || container.as_ref().is_some_and(is_layered)) => {
            return Err(StartError::NoRunDirectory(context.settings.run_dirs.clone()).into());
        }
        _ => None,
    };
    let stays = target.private.is_some() || args.rm && target.container.is_some();
    Ok(crate::monitor::run(context.ui, &plan, &context.settings.run_dirs, meeting.as_mut(), stays)?.end())
}

/// `--rm`: removes the container, unless it is protected.
fn remove(context: &Context, target: &Target) -> Result<(), Failure> {
    if let Some((store, container)) = target.container.as_ref().filter(|(_, container)| !container.is_protected()) {
        let caller = Caller::gather(std::env::vars_os().collect(), &UserSpec::Root);
        store.remove_container(container, &context.settings.run_dirs, caller.subordinate)?;
    }
    Ok(())
}
