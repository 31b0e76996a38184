//! Modes P1 and P2 by a PRoot of the site (`UDOCKER_USE_PROOT_EXECUTABLE`), started with udocker's command line.
//!
//! ```text
//! execute ── probed ── sources and directory looked at ── PRoot forked ── signals passed on to its child ── the rest killed
//! ```
//! Some builds run the program on the host and say nothing, so each run begins with a program in a root of ours that must
//! read what the host has not. No PRoot so far translates all system calls: what is newer than renameat2 and takes a path
//! is answered ENOSYS by a filter, and C libraries then use an older call.
//!
//! What PRoot cannot do is refused: a root or a mount that must not be written. A signal that ends the program is lost:
//! PRoot then ends with 255. A build without `--kill-on-exit` waits for what the program leaves behind, and ends as the
//! last of it ended.

mod command;
mod error;
mod probe;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use error::ProotError;

use super::path::{LastLink, Mounts, Place, Processes, Resolver};
use super::{ExecPlan, KeepFds, MountSource, ProgramError, RootWrite};
use crate::run::ExecMode;
use crate::settings::{EngineSettings, Executable};
use crate::sys::exec::{Command, DEFAULT_PATH, ExecFailure};
use crate::sys::fds;
use crate::sys::supervised::{Ended, Supervised};

/// Which PRoot, and how it is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProotPlan {
    /// Where it is.
    #[serde(serialize_with = "crate::text::os::serialize")]
    pub program: PathBuf,
    /// Without seccomp, whatever it can.
    pub no_seccomp: bool,
    /// `PROOT_NEW_SECCOMP`.
    pub new_seccomp: bool,
    /// End what the program leaves behind.
    pub kill_on_exit: bool,
    /// Make symbolic links of hard links.
    pub link2symlink: bool,
}

impl ProotPlan {
    /// The PRoot that the settings name, if they name one; `search`: the caller's PATH.
    pub fn of_settings(settings: &EngineSettings, mode: ExecMode, search: &OsStr) -> Option<Self> {
        let program = match &settings.proot {
            Executable::Store => return None,
            // Where there is none, the error names what was looked for.
            Executable::Host => std::env::split_paths(search)
                .map(|directory| directory.join("proot"))
                .find(|path| path.is_file())
                .unwrap_or_else(|| "proot".into()),
            Executable::Path(path) => path.clone(),
        };
        Some(Self {
            program,
            no_seccomp: settings.proot_no_seccomp.unwrap_or(false) || mode == ExecMode::P2,
            new_seccomp: settings.proot_new_seccomp,
            kill_on_exit: settings.proot_kill_on_exit,
            link2symlink: settings.proot_link2symlink,
        })
    }
}

/// A host path and where it is shown.
type Bind = (PathBuf, PathBuf);

/// Runs the program of `plan` under PRoot until it ends, and passes on signals meanwhile. Its small files lie in `scratch`,
/// an empty directory of the caller.
///
/// Single-threaded callers only.
///
/// # Errors
/// [`ProotError::Unsupported`] for what PRoot cannot do, [`ProotError::Escapes`] if it runs programs on the host,
/// [`ProotError::Program`] if the program is not there.
pub fn execute(plan: &ExecPlan, proot: &ProotPlan, scratch: &Path) -> Result<Ended, ProotError> {
    let unsupported = |what: String| Err(ProotError::Unsupported { program: proot.program.clone(), what });
    if plan.root.write != RootWrite::InPlace || plan.root.above.is_some() {
        return unsupported("keep the root from being written".into());
    }
    if !plan.unshare.is_empty() {
        return unsupported("make a namespace".into());
    }
    if let Some(mount) = plan.mounts.iter().find(|mount| mount.read_only) {
        return unsupported(format!("keep `{}` from being written (from {})", mount.target.display(), mount.origin));
    }
    let abilities = probe::probe(proot, scratch)?;
    let binds = binds(plan, scratch)?;
    let cwd = look_around(plan, &binds)?;
    let argv = command::arguments(plan, proot, &abilities, &binds, &cwd)?;
    let env = command::environment(plan, proot, &abilities, scratch);
    let command = Command::new(&argv, &env).ok_or(ProgramError::BadCommand)?;
    let child = || {
        if let KeepFds::Only(keep) = &plan.keep_fds
            && fds::close_on_exec_except(keep).is_err()
        {
            return 125;
        }
        if probe::filter_calls().is_err() {
            return 125;
        }
        // The probe has just executed it.
        command.exec();
        126
    };
    Ok(Supervised::start_through(child)?.wait_for_all()?)
}

/// What is shown where, with the sources made that are to be made.
fn binds(plan: &ExecPlan, scratch: &Path) -> Result<Vec<Bind>, ProotError> {
    let mut binds = Vec::new();
    for (index, file) in plan.files.iter().enumerate() {
        let path = scratch.join(format!("file{index}"));
        fs::write(&path, file.content.as_bytes()).map_err(ProotError::system("generate a file"))?;
        binds.push((path, file.target.clone()));
    }
    for (index, mount) in plan.mounts.iter().enumerate() {
        let failed = |path: &Path| {
            let (path, origin) = (path.to_owned(), mount.origin.clone());
            move |source| ProotError::Source { path, origin, source }
        };
        let source = match &mount.source {
            MountSource::Bind { path, create } => match fs::metadata(path) {
                Ok(_) => path.clone(),
                Err(error) if *create && error.kind() == std::io::ErrorKind::NotFound => {
                    fs::create_dir_all(path).map_err(failed(path))?;
                    path.clone()
                }
                Err(_) if mount.optional => continue,
                Err(error) => return Err(failed(path)(error)),
            },
            MountSource::Tmpfs { .. } => {
                let path = scratch.join(format!("tmpfs{index}"));
                fs::create_dir(&path)
                    .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)))
                    .map_err(failed(&path))?;
                path
            }
        };
        binds.push((source, mount.target.clone()));
    }
    Ok(binds)
}

/// No process of the guest's runs yet.
struct Nobody;

impl Processes for Nobody {
    fn caller(&self) -> (i32, i32) {
        let pid = std::process::id() as i32;
        (pid, pid)
    }
    fn is_inside(&self, _pid: i32) -> bool {
        false
    }
    fn program(&self, _pid: i32) -> Option<&[u8]> {
        None
    }
}

/// Looks at what PRoot tells nobody of: whether the working directory and the program are there. Returns the directory.
fn look_around(plan: &ExecPlan, binds: &[Bind]) -> Result<PathBuf, ProotError> {
    let opened = |error: rustix::io::Errno| ProotError::System { step: "open the root", source: error.into() };
    let mut mounts = Mounts::new(&plan.root.tree, false).map_err(opened)?;
    for (source, target) in binds {
        mounts.add(target.as_os_str().as_bytes(), source, false).map_err(opened)?;
    }
    let mut resolver = Resolver::new(mounts);
    let mut metadata = |base: &[u8], path: &[u8]| {
        let mut place = Place::default();
        resolver.resolve(base, path, LastLink::Follow, &Nobody, &mut place)?;
        rustix::fs::stat(&place.host[..])
    };
    let is_directory = |stat: &rustix::fs::Stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let mut found = None;
    for path in [Some(&plan.cwd.path), plan.cwd.fallback.as_ref()].into_iter().flatten() {
        match metadata(b"", path.as_os_str().as_bytes()) {
            Ok(stat) if is_directory(&stat) => {
                found = Some(path.clone());
                break;
            }
            _ => {}
        }
    }
    let cwd = found.ok_or_else(|| ProotError::WorkingDirectory(plan.cwd.path.clone()))?;
    let Some(name) = plan.argv.first().map(|name| name.as_bytes()) else { return Err(ProgramError::BadCommand.into()) };
    let base = if cwd == Path::new("/") { b"" } else { cwd.as_os_str().as_bytes() };
    let path = plan.env.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let is_there = if name.contains(&b'/') {
        metadata(base, name).is_ok()
    } else {
        let mut directories = path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
        directories.any(|directory| metadata(base, &[directory, b"/", name].concat()).is_ok())
    };
    match is_there {
        true => Ok(cwd),
        false => Err(ProgramError::new(&plan.argv, ExecFailure::NotFound).into()),
    }
}
