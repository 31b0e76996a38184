//! Commands of the scheduler inside: a script in a container runs `srun`, and it runs on the node, outside.
//!
//! ```text
//! RUN-DIRECTORY/relay-STEP/launch    this program, bound over an empty file, which the relay has locked
//! RUN-DIRECTORY/relay-STEP/bin/NAME  links to it: the shims
//! RUN-DIRECTORY/relay-STEP/socket    where the relay listens
//! ```
//! That directory is /run/udocker inside. A shim ([`shim`]) sends its words, its environment and its files to the relay
//! ([`server`]), which runs the command on them and tells how it ended.

mod command;
mod directory;
mod server;
mod shim;
mod words;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use udocker_core::engine::{ExecPlan, MountPlan, MountSource};
use udocker_core::env_vars::{SLURM_UDOCKER_INSIDE, SLURM_UDOCKER_REQUEST, SLURM_UDOCKER_SCRIPT, UDOCKER_INSIDE};
use udocker_core::rendezvous::{Step, step_id};
use udocker_core::settings::{RELAY_COMMANDS, RelaySettings};
use udocker_core::store::RunDirectory;

use crate::error::LaunchError;
use directory::Directory;
pub use shim::{is_shim, run as run_shim};

/// Its directory inside.
const INSIDE: &str = "/run/udocker";
/// The shims' directory inside.
const SHIMS: &str = "/run/udocker/bin";
/// Where a login shell looks, which sets its PATH anew.
const LOGIN_SHIMS: &str = "/usr/local/bin";

/// Present in the tasks of a step with a terminal (`srun --pty`).
const SLURM_PTY_PORT: &str = "SLURM_PTY_PORT";
/// Looked at behind the caller's PATH.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// A relay for the program of this process.
pub struct Relay {
    directory: PathBuf,
    /// Whether it runs beside this process; the others of its step see its directory.
    is_ours: bool,
    host: Host,
}

/// What commands find outside.
struct Host {
    /// Themselves.
    commands: Vec<PathBuf>,
    /// The environment that the script's launcher had.
    env: Vec<(OsString, OsString)>,
    /// What tells the script's steps that they run in its container, in which it is.
    marks: Vec<(OsString, OsString)>,
}

impl Relay {
    /// A relay for the program of `plan`, if it is a script or a shell that Slurm's plugin started, and the node has commands
    /// for it. Nothing is made yet.
    ///
    /// # Errors
    /// There is no run directory; its program cannot be found.
    pub fn prepare(
        settings: &RelaySettings,
        step: &Step,
        (run, run_dirs): (Option<&RunDirectory>, &[PathBuf]),
        env: &[(OsString, OsString)],
        plan: &mut ExecPlan,
    ) -> Result<Option<Self>, LaunchError> {
        if !settings.enabled || !is_wanted(step, env) {
            return Ok(None);
        }
        let commands = found(settings, env);
        if commands.is_empty() {
            return Ok(None);
        }
        let run = run.ok_or_else(|| LaunchError::NoRelayDirectory(run_dirs.to_owned()))?;
        let directory = run.path().join(format!("relay-{}", step_id(step)));
        let launcher = std::env::current_exe();
        let launcher = launcher.map_err(|source| LaunchError::Relay { path: directory.clone(), source })?;
        let bind = |source: PathBuf, target: PathBuf, optional| MountPlan {
            source: MountSource::Bind { path: source, create: false },
            target,
            read_only: true,
            optional,
            origin: "relay".into(),
        };
        plan.mounts.push(bind(directory.clone(), INSIDE.into(), false));
        plan.mounts.push(bind(launcher.clone(), [INSIDE, "launch"].iter().collect(), false));
        // Where something else is mounted the missing names would be made in its source.
        let is_free = !plan.mounts.iter().any(|mount| Path::new(LOGIN_SHIMS).starts_with(&mount.target));
        let names = commands.iter().filter_map(|command| command.file_name()).filter(|_| is_free);
        plan.mounts.extend(names.map(|name| bind(launcher.clone(), PathBuf::from(LOGIN_SHIMS).join(name), true)));
        put_first_on_path(&mut plan.env);
        let request = env.iter().find(|(name, _)| name == SLURM_UDOCKER_REQUEST).cloned();
        let inside = format!("{UDOCKER_INSIDE}=");
        let inside = plan.env.iter().find_map(|entry| entry.as_bytes().strip_prefix(inside.as_bytes()));
        let inside = inside.map(|id| (SLURM_UDOCKER_INSIDE.into(), OsStr::from_bytes(id).to_owned()));
        let marks = request.into_iter().chain(inside).collect();
        let is_ours = step.rank.as_deref().is_none_or(|rank| rank == "0");
        Ok(Some(Self { directory, is_ours, host: Host { commands, env: env.to_vec(), marks } }))
    }

    /// Starts the process that serves the program which this process becomes, or stays beside.
    ///
    /// # Errors
    /// Its directory cannot be made, or those of bind(2) and fork(2).
    pub fn start(self) -> Result<(), LaunchError> {
        let attempt = || {
            let directory = Directory::make(&self.directory, &self.host.commands)?;
            if self.is_ours { server::start(&directory, &self.host) } else { Ok(()) }
        };
        // What is not locked yet a `reap` may remove, as at the end of another job of this user.
        let started = attempt().or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => attempt(),
            _ => Err(error),
        });
        started.map_err(|source| LaunchError::Relay { path: self.directory, source })
    }
}

/// Whether this process's program starts steps: the job's script, the shell of salloc, one with a terminal. Ranks do not.
fn is_wanted(step: &Step, env: &[(OsString, OsString)]) -> bool {
    let has = |variable: &str| env.iter().any(|(name, _)| name == variable);
    // A script on the host may run this program more than once; the plugin's own has its script's name.
    let is_script = step.rank.is_none()
        && match step.name.as_str() {
            "batch" => has(SLURM_UDOCKER_SCRIPT),
            name => name == "interactive",
        };
    has(SLURM_UDOCKER_REQUEST) && (is_script || has(SLURM_PTY_PORT))
}

/// Where the commands of `settings` lie, those that do.
fn found(settings: &RelaySettings, env: &[(OsString, OsString)]) -> Vec<PathBuf> {
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str()).unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(path)
        .chain(std::env::split_paths(USUAL_PATH))
        .filter(|directory| directory.is_absolute())
        .collect();
    let is_program = |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let find = |name: &str| match name.starts_with('/') {
        true => Some(PathBuf::from(name)).filter(is_program),
        false => places.iter().map(|directory| directory.join(name)).find(is_program),
    };
    match &settings.commands {
        Some(names) => names.iter().filter_map(|name| find(name)).collect(),
        None => RELAY_COMMANDS.iter().filter_map(|name| find(name)).collect(),
    }
}

fn put_first_on_path(env: &mut [OsString]) {
    let Some(entry) = env.iter_mut().find(|entry| entry.as_bytes().starts_with(b"PATH=")) else { return };
    let old = OsStr::from_bytes(&entry.as_bytes()[b"PATH=".len()..]);
    *entry = OsString::from_vec([b"PATH=", SHIMS.as_bytes(), b":", old.as_bytes()].concat());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_shells_have_one_and_ranks_have_none() {
        let request = (SLURM_UDOCKER_REQUEST, "{}");
        let (pty, script) = ((SLURM_PTY_PORT, "1"), (SLURM_UDOCKER_SCRIPT, "/s"));
        for (env, expected) in [
            (&[request, script, ("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "4294967291")][..], true),
            (&[request, ("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "4294967291")], false),
            (&[request, ("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "-6")], true),
            (&[script, ("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "-5")], false),
            (&[request, script, ("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "-5"), ("PMI_RANK", "0")], false),
            (&[request, ("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "0")], false),
            (&[request, ("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "0"), pty], true),
        ] {
            let env: Vec<_> = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
            assert_eq!(is_wanted(&Step::of(&env, |_| (1, 1)), &env), expected, "{env:?}");
        }
    }

    #[test]
    fn commands_are_those_that_are_there() {
        let settings = |names: &[&str]| RelaySettings {
            enabled: true,
            commands: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        };
        let env = [("PATH".into(), "relative:/nothere".into())];
        let found = found(&settings(&["sh", "nothere", "/bin/sh", "/nothere/x"]), &env);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with("sh") && found[1] == *"/bin/sh");
        let mut env = ["A=PATH=".into(), "PATH=/a:/b".into()];
        put_first_on_path(&mut env);
        assert_eq!(env, ["A=PATH=", "PATH=/run/udocker/bin:/a:/b"]);
    }
}
