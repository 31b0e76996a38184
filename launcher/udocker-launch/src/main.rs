//! Puts one rank into its container: decide, enter, exec.
//!
//! One process per rank, single-threaded, statically linked, without network, TLS, regex or NSS; nothing stays between
//! the batch system and the payload. What is heavy is done by a child, `udocker stage`.
#![cfg_attr(not(test), no_main)]

mod arena;
mod daemons;
mod descriptors;
mod error;
mod exec;
mod gpus;
mod host;
mod host_script;
mod options;
mod pin;
mod places;
mod relay;
mod report;
mod staging;
mod target;

use std::ffi::OsString;
#[cfg(not(test))]
use std::ffi::{c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use udocker_core::engine::{self, ExecPlan, KeepFds, RootWrite};
use udocker_core::env_vars::{self, matches_any};
use udocker_core::error::{ErrorKind, Failure};
use udocker_core::rendezvous::{Meeting, NO_ENVIRONMENT, NoSettings, Step, reap, starter};
use udocker_core::run::{
    Accounts, Asked, Caller, Defaults, Explaining, ImageFiles, PullPolicy, RunRequest, RunSpec, Share, UserSpec,
    host_shell, is_path,
};
use udocker_core::settings::Settings;
use udocker_core::start::{StartError, start};
use udocker_core::store::{RunDirectory, Stores, TreeUse};
use udocker_core::sys::{fds, namespace};
use udocker_site_config::Sources;

use error::LaunchError;
use exec::Exec;
use options::{Form, Here, Invocation};
use places::Places;
use relay::Relay;
use report::Voice;

/// Statuses of a task that could not be started (docs: statuses).
mod status {
    pub const POLICY: u8 = 121;
    pub const IMAGE: u8 = 122;
    pub const NODE: u8 = 123;
    pub const TIMEOUT: u8 = 124;
    pub const USAGE: u8 = 125;
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
    let since = Instant::now();
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.first().is_some_and(|name| relay::is_shim(name)) {
        return relay::run_shim(words, std::env::vars_os().collect());
    }
    // As login(1) and PBS start a user's shell.
    let is_login = !words.is_empty() && words.remove(0).as_bytes().first() == Some(&b'-');
    let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let step = Step::of(&env, starter);
    let uid = rustix::process::getuid().as_raw();
    let mut voice = Voice { step: &step, run_dirs: udocker_site_config::default_run_dirs(uid), verbose: 0, since };
    let parsed = options::parse(is_login, &words, &env);
    // They are of this process alone.
    env.retain(|(name, _)| name != env_vars::SLURM_UDOCKER_PROGRAM && name != env_vars::SLURM_UDOCKER_SAID);
    let invocation = match parsed {
        Ok(invocation) => invocation,
        Err(error) => return voice.fail(&error.into(), status::USAGE),
    };
    match invocation {
        Invocation::Help => report::print(&options::help()),
        Invocation::Version => report::print(concat!("udocker-launch ", env!("CARGO_PKG_VERSION"), "\n")),
        Invocation::Exec(exec) => match join(&exec, &env, &mut voice) {
            Ok(status) => status,
            Err(failure) => voice.fail(&failure, status_of(&failure)),
        },
        Invocation::Reap => match clean_up(&env) {
            Ok(()) => 0,
            Err(failure) => voice.fail(&failure, status_of(&failure)),
        },
        Invocation::Run { request, here } => match launch(*request, &here, env, &mut voice) {
            Ok(status) => status,
            Err(failure) => voice.fail(&failure, status_of(&failure)),
        },
    }
}

fn status_of(failure: &Failure) -> u8 {
    match failure.kind() {
        ErrorKind::Forbidden => status::POLICY,
        ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Network | ErrorKind::Denied => status::IMAGE,
        ErrorKind::Unsupported => status::NODE,
        ErrorKind::Timeout => status::TIMEOUT,
        _ => status::USAGE,
    }
}

fn launch(
    mut request: RunRequest,
    here: &Here,
    env: Vec<(OsString, OsString)>,
    voice: &mut Voice<'_>,
) -> Result<u8, Failure> {
    voice.verbose = request.verbose;
    if let Some((_, id)) = env.iter().find(|(name, _)| name == env_vars::UDOCKER_INSIDE)
        && namespace::is_nested()
    {
        return Err(LaunchError::IsInside(id.to_string_lossy().into_owned()).into());
    }
    let is_manager_s = |name: &OsString| matches_any(env_vars::PROCESS_MANAGER, name.as_bytes());
    let env = env.into_iter().filter(|(name, _)| !(here.without_pmi && is_manager_s(name))).collect();
    let mut caller = Caller::gather(env, request.user(Defaults::Job));
    caller.shell = request.login.then(|| host_shell(caller.uid)).flatten();
    descriptors::sort(&here.fds, &caller.sockets)?;
    let (mut looked, mut plain) = (None, None);
    let sources = Sources { in_detail: here.explain, ..Sources::of_caller(&caller) };
    let loaded = udocker_site_config::load_with(&sources, &mut |settings, places| {
        let (run, _) = looked.insert(RunDirectory::look(&settings.run_dirs));
        let left =
            run.as_ref().filter(|_| voice.step.rank.is_some()).map(|run| NoSettings::of(run, voice.step, places));
        let is_left = left.as_ref().is_some_and(NoSettings::is_left);
        plain = left.filter(|_| !is_left);
        is_left
    })?;
    let settings = &loaded.settings;
    request.complete(&settings.run);
    if request.pin.is_some() && request.pull == PullPolicy::Always {
        // The registry was asked when the job was submitted.
        request.pull = PullPolicy::Missing;
    }
    let shows = here.dry_run || here.explain;
    if !shows && host_script::is_one(&request, here, &caller.env)? {
        return Ok(host_script::become_it(&request, caller.env, voice));
    }
    // A path of the host's.
    caller.env.retain(|(name, _)| name != env_vars::SLURM_UDOCKER_CONFIG);
    caller.look_up_subordinate(request.user(Defaults::Job));
    caller.site_mounts.clone_from(&settings.mounts);
    caller.site_env.clone_from(&settings.env);
    voice.run_dirs.clone_from(&settings.run_dirs);
    if !shows && let Some(name) = daemons::name(&request, &caller.env, &settings.mpi) {
        return daemons::on_host(name, &request, &settings.mpi, caller.env, voice);
    }
    let (run, foreign) = looked.unwrap_or_else(|| RunDirectory::look(&settings.run_dirs));
    if let Some(foreign) = foreign {
        voice.say(&format!("warning: {foreign}"));
    }
    if let Some(plain) = plain.filter(|_| !loaded.has_user_files) {
        plain.leave();
    }
    caller.runtime_dir = run.as_ref().and_then(RunDirectory::for_programs);
    let places = Places { settings, run: run.as_ref(), env: &caller.env, voice };
    let target = target::find(&request, &places)?;
    voice.phase(&format!("found {}", request.image));
    if let RootWrite::Layer { upper, work } = &target.root.write
        && !shows
    {
        for path in [upper, work] {
            let made = std::fs::create_dir_all(path);
            made.map_err(|source| LaunchError::WriteDirectory { path: path.clone(), source })?;
        }
    }
    caller.gpu = target.gpus.map(Box::new);
    let files = match request.accounts {
        Accounts::Host => ImageFiles::of_host()?,
        Accounts::Generated | Accounts::Container => target.files,
    };
    let spec = RunSpec::build(&request, &target.config, &files, &caller, Defaults::Job, &target.facts)?;
    let mut plan = engine::plan(&spec, &target.choice, target.root);
    if let KeepFds::Only(kept) = &mut plan.keep_fds {
        kept.extend(here.fds.iter().map(|(_, to)| *to).filter(|fd| *fd > 2));
    }
    let relay =
        Relay::prepare(&settings.relay, voice.step, (run.as_ref(), &settings.run_dirs), &caller.env, &mut plan)?;
    if here.explain {
        let setup = target.container.as_ref().filter(|(_, container)| container.mode().is_some());
        let explaining = Explaining {
            request: &request,
            asked: &Asked::of(std::slice::from_ref(&here.said)),
            configured: &|key| loaded.set_by(key),
            defaults: Defaults::Job,
            caller: &caller,
            config: &target.config,
            plan: &plan,
            variables: RunSpec::variables(&request, &target.config, &files, &caller, Defaults::Job, &target.facts)?,
            root: if is_path(&request.image) { "a directory" } else { "store" }.into(),
            setup: setup.map(|(_, container)| format!("the setup of container {}", container.id())),
            why: target.choice.why.as_deref(),
        };
        let explanation = explaining.explain();
        if !voice.speaks(&format!("explains {}", request.image)) {
            return Ok(0);
        }
        return Ok(report::print(&match here.form {
            Form::Text => explanation.to_text(),
            Form::Json => explanation.to_json(),
        }));
    }
    if here.dry_run {
        let text = serde_json::to_string_pretty(&plan).expect("a plan serialises");
        return Ok(report::print(&(text + "\n")));
    }
    if let Some((store, container)) = &target.container {
        store.mark_in_use(container, false, &settings.run_dirs)?;
    }
    relay.map(Relay::start).transpose()?;
    enter(&request, &plan, target.tree.as_ref(), run.as_ref(), voice)
}

/// Starts the program, in one container with the other ranks of this node where they share one.
fn enter(
    request: &RunRequest,
    plan: &ExecPlan,
    tree: Option<&TreeUse>,
    run: Option<&RunDirectory>,
    voice: &Voice<'_>,
) -> Result<u8, Failure> {
    if request.share() == Share::Task && voice.step.rank.is_some() && plan.engine.is_in_place() {
        voice.say("warning: with --share=task MPI ranks cannot read each other's memory (CMA)");
    }
    let mut notice = |notice| voice.notice(notice);
    let writes = matches!(plan.root.write, RootWrite::Layer { .. });
    if request.share() == Share::Task && voice.step.rank.is_some() && writes {
        return Err(LaunchError::SharedDirectory(request.write(Defaults::Job).clone()).into());
    }
    let shares = writes || request.share() == Share::Node && plan.engine.is_in_place();
    if let (Some(run), Some(tree)) = (run, tree.filter(|tree| !tree.is_listed && (writes || !shares))) {
        run.mark_tree(&tree.root)?;
    }
    let mut meeting = match run.filter(|_| shares) {
        Some(run) if writes => Meeting::of_directory(run, voice.step, &request.image, plan, &mut notice),
        Some(run) => Some(Meeting::of_step(run, voice.step, (&request.image, tree), plan, &mut notice)),
        None if writes || shares && voice.step.rank.is_some() => {
            return Err(LaunchError::NoRunDirectory(voice.run_dirs.clone()).into());
        }
        None => None,
    };
    voice.phase(&format!("entering it in mode {}", plan.mode));
    match start(plan, &voice.run_dirs, meeting.as_mut()) {
        Ok(ended) => Ok(ended.mirror()),
        Err(error) => Ok(not_started(error, voice)),
    }
}

/// `exec`.
fn join(exec: &Exec, env: &[(OsString, OsString)], voice: &mut Voice<'_>) -> Result<u8, Failure> {
    voice.run_dirs = settings_of(env)?.run_dirs;
    let container = exec.choose(RunDirectory::open(&voice.run_dirs).as_ref(), voice.step)?;
    if container.environment().is_none() {
        voice.say(&format!("warning: {NO_ENVIRONMENT}"));
    }
    Ok(not_started(exec.enter(&container, env), voice))
}

/// `reap`.
fn clean_up(env: &[(OsString, OsString)]) -> Result<(), Failure> {
    let settings = settings_of(env)?;
    if let Some(run) = RunDirectory::open(&settings.run_dirs) {
        reap(&run);
    }
    if let Some(store) = Stores::open(&settings)?.first_writable() {
        store.sweep_pins();
    }
    Ok(())
}

fn settings_of(env: &[(OsString, OsString)]) -> Result<Settings, Failure> {
    let caller = Caller::gather(env.to_vec(), &UserSpec::Caller);
    Ok(udocker_site_config::load(&Sources::of_caller(&caller))?.settings)
}

/// Reports why the program was not started; the status.
fn not_started(error: StartError, voice: &Voice<'_>) -> u8 {
    let status = error.status();
    let failure = Failure::from(error);
    // What is missing or closed by now is no image and no policy, but a volume or a directory.
    let refined = match failure.kind() {
        ErrorKind::Unsupported => status::NODE,
        ErrorKind::Timeout => status::TIMEOUT,
        _ => status::USAGE,
    };
    voice.fail(&failure, if status == status::USAGE { refined } else { status })
}
