//! One command of the scheduler, run for a shim.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use udocker_core::env_vars::{SLURM_JOB_ID, SLURM_UDOCKER_REQUEST};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::run::of_command;
use udocker_core::sys::process::in_own_session;
use udocker_core::sys::signal::Arrived;

use super::words::Call;
use super::{Host, SHIMS};

/// Commands that hand their directory to a job or step, or read files in it: elsewhere they would do something else.
const NEED_DIRECTORY: &[&str] = &["srun", "sbatch", "salloc", "sbcast", "qsub"];
/// How those are told another.
const DIRECTORY_OPTIONS: &[&[u8]] = &[b"--chdir", b"-D"];

/// Why it is not run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("cannot run {0} for this container: it is none of {1}")]
    Unknown(String, String),
    #[error("cannot run {name} for this container: its current directory {directory} is not that of the node")]
    Elsewhere { name: String, directory: String },
    #[error("cannot run {}", path.display())]
    NotRun {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot run a command for this container: what arrived is none")]
    Nonsense,
    #[error("cannot run a command for user {0}: this container is another's")]
    Stranger(u32),
}

impl Explain for CommandError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Stranger(_) => ErrorKind::Forbidden,
            Self::NotRun { source, .. } => ErrorKind::from_io(source),
            _ => ErrorKind::Usage,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown(..) => vec!["`[relay] commands` of the site names what may be run".into()],
            Self::Elsewhere { name, .. } if name == "sbcast" => {
                vec!["go to a directory of the host's, as $HOME is".into()]
            }
            Self::Elsewhere { .. } => vec!["`--chdir=DIRECTORY` names one of the host's, as $HOME is".into()],
            Self::NotRun { .. } | Self::Nonsense | Self::Stranger(_) => Vec::new(),
        }
    }
}

/// A command that runs.
pub struct Running {
    pid: Pid,
}

impl Running {
    /// Starts `call` on `files`: its directory, stdin, stdout and stderr.
    pub fn start(call: Call, files: [OwnedFd; 4], host: &Host) -> Result<Self, CommandError> {
        let name = Path::new(&call.argv[0]).file_name().unwrap_or_default().to_owned();
        let Some(path) = host.commands.iter().find(|command| command.file_name() == Some(&name)) else {
            let known = host.commands.iter().filter_map(|command| command.file_name());
            let known = known.map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ");
            return Err(CommandError::Unknown(name.display().to_string(), known));
        };
        let [directory, stdin, stdout, stderr] = files;
        let is_same = is_directory(&call.directory, &directory);
        if !is_same && needs_directory(&name, &call.argv) {
            let directory = call.directory.display().to_string();
            return Err(CommandError::Elsewhere { name: name.display().to_string(), directory });
        }
        let mut command = Command::new(path);
        command.args(&call.argv[1..]).env_clear().envs(of_command(&call.env, &host.env, SHIMS));
        if is_cleaned(&call.env, &host.env) {
            command.envs(host.marks.iter().cloned());
        }
        command.current_dir(if is_same { Path::new(&call.directory) } else { Path::new("/") });
        command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
        in_own_session(&mut command, call.ignored);
        let child = command.spawn().map_err(|source| CommandError::NotRun { path: path.clone(), source })?;
        // The server reaps it by its number.
        Ok(Self { pid: Pid::from_child(&child) })
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Does what a signal to the shim asks for. A terminal's go to all of its session, as they would to a foreground group.
    pub fn pass_on(&self, arrived: Arrived) {
        let Some(signal) = Signal::from_named_raw(arrived.signal) else { return };
        match signal {
            // It leads its session, so nobody could stop it by this one: its group is orphaned.
            Signal::TSTP => self.signal_all(Signal::STOP),
            Signal::CONT => self.signal_all(Signal::CONT),
            _ if arrived.from_kernel => self.signal_all(signal),
            _ => self.signal(signal),
        }
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended a moment ago.
        let _ = kill_process(self.pid, signal);
    }

    pub fn signal_all(&self, signal: Signal) {
        // As above.
        let _ = kill_process_group(self.pid, signal);
    }
}

/// Whether `path` leads to the open `directory` on this node.
fn is_directory(path: &OsStr, directory: &OwnedFd) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(here) = rustix::fs::open(path, flags, Mode::empty()) else { return false };
    let (here, there) = (rustix::fs::fstat(here), rustix::fs::fstat(directory));
    matches!((here, there), (Ok(here), Ok(there)) if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
}

/// Whether `env`, of a command of the script's job, has lost what tells its steps their container: the script has made it anew.
fn is_cleaned(env: &[(OsString, OsString)], host: &[(OsString, OsString)]) -> bool {
    let of = |env: &'_ [(OsString, OsString)], name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let job = of(env, SLURM_JOB_ID);
    job.is_some() && job == of(host, SLURM_JOB_ID) && of(env, SLURM_UDOCKER_REQUEST).is_none()
}

fn needs_directory(name: &OsStr, argv: &[OsString]) -> bool {
    NEED_DIRECTORY.iter().any(|other| name == *other)
        && !argv[1..].iter().any(|word| DIRECTORY_OPTIONS.iter().any(|option| word.as_bytes().starts_with(option)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_its_directory_says_so_or_names_another() {
        let needs = |words: &[&str]| {
            let argv: Vec<OsString> = words.iter().map(Into::into).collect();
            needs_directory(OsStr::new(words[0]), &argv)
        };
        assert!(needs(&["srun", "-n1", "x"]) && needs(&["sbcast", "a", "b"]));
        assert!(!needs(&["srun", "--chdir=/h", "x"]) && !needs(&["sbatch", "-D", "/h"]) && !needs(&["squeue"]));
    }

    #[test]
    fn a_cleaned_environment_is_one_of_the_job_without_its_request() {
        let env =
            |list: &[(&str, &str)]| list.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>();
        let host = env(&[("A", "1"), ("SLURM_JOB_ID", "5"), ("SLURM_UDOCKER_REQUEST", "{}")]);
        for (cleaned, expected) in [
            (&[("SLURM_JOB_ID", "5")][..], true),
            (&[("SLURM_JOB_ID", "5"), ("SLURM_UDOCKER_REQUEST", "{}")], false),
            (&[("SLURM_JOB_ID", "6")], false),
            (&[("A", "1")], false),
        ] {
            assert_eq!(is_cleaned(&env(cleaned), &host), expected, "{cleaned:?}");
        }
        assert!(!is_cleaned(&[], &[]));
    }

    #[test]
    fn a_directory_is_known_by_what_it_is() {
        let own = tempfile::tempdir().unwrap();
        let open = |path: &Path| OwnedFd::from(std::fs::File::open(path).unwrap());
        assert!(is_directory(own.path().as_os_str(), &open(own.path())));
        assert!(!is_directory(own.path().as_os_str(), &open(Path::new("/"))));
        assert!(!is_directory(OsStr::new(""), &open(own.path())));
    }
}
