//! From a plan to a traced child that is about to execute.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, process};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::credentials;
use super::error::TraceError;
use super::guest::Guests;
use crate::engine::path::table::{self, Action, Emulation};
use crate::engine::path::{LastLink, Mounts, Place, Resolver};
use crate::engine::{ExecPlan, KeepFds, MountPlan, MountSource, ProgramError, RootWrite};
use crate::sys::exec::{Command, ExecFailure};
use crate::sys::fds;
use crate::sys::ptrace;
use crate::sys::relay::Looks;
use crate::sys::supervised::Supervised;
use crate::sys::trace_filter::{Verdict, install_trace_filter};

/// ioctl requests that change a file through any descriptor: FS_IOC_SETFLAGS, its 32-bit form, FS_IOC_SETVERSION and
/// FS_IOC_FSSETXATTR.
pub(super) const ATTRIBUTE_REQUESTS: &[u32] = &[0x4008_6602, 0x4004_6602, 0x4008_7602, 0x401c_5820];

/// What the child sends itself, before its program begins, if it got no filter. Nobody but the tracer hears of it.
pub(super) const NO_FILTER: i32 = libc::SIGURG;

/// Who the guest believes to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct FakeIdentity {
    pub uid: u32,
    pub gid: u32,
    pub real_uid: u32,
    pub real_gid: u32,
}

/// What the tracer needs.
pub(super) struct Prepared {
    pub resolver: Resolver,
    pub fake: Option<FakeIdentity>,
}

/// A child that waits in its first stop, and the pipe on which it tells why it failed.
pub(super) struct Child {
    pub supervised: Supervised,
    pub failure: Failure,
}

/// Where a child that does not get to its program tells why, and what it was to do.
pub(super) struct Failure {
    pipe: OwnedFd,
    argv: Vec<OsString>,
    cwd: PathBuf,
}

/// Builds the bind table and the files of `plan`; these lie in `scratch`.
pub(super) fn prepare(plan: &ExecPlan, scratch: &Path) -> Result<Prepared, TraceError> {
    let unsupported = |what: &str| Err(TraceError::Unsupported { what: what.into() });
    if plan.root.above.is_some() {
        return unsupported("show a container that is a layer over its image");
    }
    if !plan.unshare.is_empty() {
        return unsupported("make a namespace");
    }
    let read_only = match plan.root.write {
        RootWrite::ReadOnly => true,
        RootWrite::InPlace => false,
        RootWrite::Tmpfs { .. } | RootWrite::Layer { .. } => {
            return unsupported("lay a writable layer over the image");
        }
    };
    let mounts = Mounts::new(&plan.root.tree, read_only)
        .map_err(|error| TraceError::System { step: "open the root file system", source: error.into() })?;
    let mut resolver = Resolver::new(mounts);
    for (index, file) in plan.files.iter().enumerate() {
        let path = scratch.join(format!("file{index}"));
        fs::write(&path, file.content.as_bytes())
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
            .map_err(TraceError::system("generate a file"))?;
        add(&mut resolver, scratch, &file.target, &path, true).map_err(|source| TraceError::Target {
            path: file.target.clone(),
            origin: "the engine".into(),
            source: source.into(),
        })?;
    }
    for (index, mount) in plan.mounts.iter().enumerate() {
        add_mount(&mut resolver, scratch, index, mount)?;
    }
    let (real_uid, real_gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let (uid, gid) = (plan.identity.uid, plan.identity.gid);
    let fake = (uid != real_uid || gid != real_gid || plan.identity.fake_root_filter).then_some(FakeIdentity {
        uid,
        gid,
        real_uid,
        real_gid,
    });
    Ok(Prepared { resolver, fake })
}

fn add_mount(resolver: &mut Resolver, scratch: &Path, index: usize, mount: &MountPlan) -> Result<(), TraceError> {
    let failed = |path: &Path| {
        let (path, origin) = (path.to_owned(), mount.origin.clone());
        move |source: io::Error| TraceError::Source { path, origin, source }
    };
    let source = match &mount.source {
        MountSource::Bind { path, create } => {
            match fs::metadata(path) {
                Ok(_) => {}
                Err(error) if *create && error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(path).map_err(failed(path))?;
                }
                Err(_) if mount.optional => return Ok(()),
                Err(error) => return Err(failed(path)(error)),
            }
            path.clone()
        }
        MountSource::Tmpfs { size: Some(_) } => {
            let what = format!("limit the size of the tmpfs on `{}` (from {})", mount.target.display(), mount.origin);
            return Err(TraceError::Unsupported { what });
        }
        MountSource::Tmpfs { size: None } => {
            let path = scratch.join(format!("tmpfs{index}"));
            fs::create_dir(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)))
                .map_err(failed(&path))?;
            path
        }
    };
    match add(resolver, scratch, &mount.target, &source, mount.read_only) {
        Err(_) if mount.optional => Ok(()),
        done => done.map_err(|error| TraceError::Target {
            path: mount.target.clone(),
            origin: mount.origin.clone(),
            source: error.into(),
        }),
    }
}

/// Binds `source` at `target`, which is resolved inside. Directories that the image lacks on the way to it are shown as
/// empty ones that hold nothing but the way; the last name needs no place.
fn add(
    resolver: &mut Resolver,
    scratch: &Path,
    target: &Path,
    source: &Path,
    read_only: bool,
) -> rustix::io::Result<()> {
    let guests = Guests::default();
    let mut place = Place::default();
    let mut base: Vec<u8> = Vec::new();
    let names: Vec<&[u8]> =
        target.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    for (index, name) in names.iter().enumerate() {
        resolver.resolve(&base, name, LastLink::Follow, &guests, &mut place)?;
        base.clone_from(&place.guest);
        let host = OsStr::from_bytes(&place.host);
        if index + 1 < names.len()
            && matches!(fs::metadata(host), Err(error) if error.kind() == io::ErrorKind::NotFound)
        {
            let way = scratch.join(format!("way{}", resolver.mounts().count()));
            let rest: PathBuf = names[index + 1..names.len()].iter().map(|name| OsStr::from_bytes(name)).collect();
            let point = way.join(&rest);
            fs::create_dir_all(point.parent().unwrap_or(&way)).map_err(|error| to_errno(&error))?;
            let made = if source.is_dir() { fs::create_dir(&point) } else { fs::write(&point, b"") };
            made.map_err(|error| to_errno(&error))?;
            resolver.mounts_mut().add(&base, &way, true)?;
            base.extend_from_slice(b"/");
            base.extend_from_slice(rest.as_os_str().as_bytes());
            break;
        }
    }
    if base.is_empty() {
        return Err(Errno::BUSY);
    }
    resolver.mounts_mut().add(&base, source, read_only)
}

fn to_errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What the filter does with each call.
pub(super) fn verdicts(fake: Option<FakeIdentity>, all_writable: bool) -> Vec<Verdict> {
    let last = table::CALLS.last().map_or(0, |call| call.number) as usize;
    let mut verdicts = vec![Verdict::Answer(libc::ENOSYS); last + 1];
    for call in table::CALLS {
        verdicts[call.number as usize] = match call.action {
            Action::Allow => Verdict::Allow,
            Action::Refuse(errno) => Verdict::Answer(errno),
            Action::Emulate(Emulation::Descriptor) if all_writable && fake.is_none() => Verdict::Allow,
            Action::Emulate(Emulation::Attribute) if all_writable => Verdict::Allow,
            Action::Emulate(Emulation::Attribute) => Verdict::TraceIf(ATTRIBUTE_REQUESTS),
            Action::Translate | Action::Emulate(_) => Verdict::Trace,
        };
    }
    if fake.is_some() {
        // fstat, and who one is.
        [5].iter().chain(&credentials::CALLS).for_each(|number| verdicts[*number] = Verdict::Trace);
    }
    verdicts
}

/// Forks the child, traces it and lets it begin.
pub(super) fn start(plan: &ExecPlan, prepared: &Prepared) -> Result<Child, TraceError> {
    let command = plan.command()?;
    let pipe = || {
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map_err(|error| TraceError::System { step: "make a pipe", source: error.into() })
    };
    let ((go, tell), (failure, report)) = (pipe()?, pipe()?);
    let verdicts = verdicts(prepared.fake, prepared.resolver.mounts().all_writable());
    let supervised = Supervised::start(Looks::Tracer, || {
        // Else it would hold the parent's end open and never see it closed.
        let go = go.as_fd();
        begin(plan, &command, &verdicts, go, report.as_fd())
    })
    .map_err(|source| TraceError::System { step: "start a child", source: io::Error::other(source) })?;
    drop(report);
    if let KeepFds::Only(keep) = &plan.keep_fds {
        // They are the program's alone: who is at the other end must see it when the program closes them.
        fds::close(keep);
    }
    if let Err(error) = ptrace::seize(supervised.pid()) {
        let refused = super::probe::refused(supervised.pid(), error);
        // It waits on the pipe and would run on the host's paths.
        let _ = ptrace::signal_process(supervised.pid(), libc::SIGKILL);
        let _ = ptrace::wait(Some(supervised.pid()));
        return Err(refused);
    }
    rustix::io::write(&tell, b"y")
        .map_err(|error| TraceError::System { step: "start the child", source: error.into() })?;
    let failure = Failure { pipe: failure, argv: plan.argv.clone(), cwd: plan.cwd.path.clone() };
    Ok(Child { supervised, failure })
}

/// How the child failed: a letter, an error number of four bytes, and a name.
fn tell(report: impl AsFd, kind: u8, errno: i32, name: &Path) {
    let mut message = vec![kind];
    message.extend(errno.to_le_bytes());
    message.extend(name.as_os_str().as_bytes());
    // Should the pipe fail, the parent sees the status alone.
    let _ = rustix::io::write(report, &message);
}

/// The child: from here on a tracer is there, and behind the filter every path is the guest's.
fn begin(plan: &ExecPlan, command: &Command, verdicts: &[Verdict], go: impl AsFd, report: impl AsFd) -> u8 {
    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    let no_name = Path::new("");
    // The parent may be killed before it traces us. Afterwards the kernel kills us with it.
    let parent_death = |signal| rustix::process::set_parent_process_death_signal(signal).is_ok();
    if !parent_death(Some(rustix::process::Signal::KILL)) || rustix::io::read(go, &mut [0u8; 1]) != Ok(1) {
        return 125;
    }
    parent_death(None);
    if let KeepFds::Only(keep) = &plan.keep_fds
        && let Err(error) = fds::close_on_exec_except(keep)
    {
        tell(report, b'd', error.raw_os_error(), no_name);
        return 125;
    }
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        tell(report, b'p', error.raw_os_error(), no_name);
        return 125;
    }
    if install_trace_filter(verdicts).is_err() && ptrace::signal_process(process::id() as i32, NO_FILTER).is_err() {
        return 125;
    }
    let entered = match (rustix::process::chdir(&plan.cwd.path), &plan.cwd.fallback) {
        (Err(_), Some(fallback)) => rustix::process::chdir(fallback),
        (first, _) => first,
    };
    if let Err(error) = entered {
        tell(report, b'w', error.raw_os_error(), no_name);
        return 125;
    }
    match command.exec() {
        ExecFailure::NotFound => tell(report, b'n', libc::ENOENT, no_name),
        ExecFailure::NoInterpreter(name) => tell(report, b'i', libc::ENOENT, &name),
        ExecFailure::NotExecutable(error) => tell(report, b'x', errno(&error), no_name),
        ExecFailure::Other(error) => tell(report, b'o', errno(&error), no_name),
    }
    125
}

impl Failure {
    /// What the child told before it ended, if it did not get to its program.
    pub fn read(self) -> Option<TraceError> {
        let mut message = Vec::new();
        fs::File::from(self.pipe).read_to_end(&mut message).ok()?;
        let (head, name) = message.split_at_checked(5)?;
        let source = io::Error::from_raw_os_error(i32::from_le_bytes(head[1..].try_into().ok()?));
        let failure = match head[0] {
            b'n' => ExecFailure::NotFound,
            b'i' => ExecFailure::NoInterpreter(OsStr::from_bytes(name).into()),
            b'x' => ExecFailure::NotExecutable(source),
            b'o' => ExecFailure::Other(source),
            b'w' => return Some(TraceError::WorkingDirectory { path: self.cwd, source }),
            b'p' => return Some(TraceError::System { step: "set no_new_privs", source }),
            _ => return Some(TraceError::System { step: "sort out the file descriptors", source }),
        };
        Some(ProgramError::new(&self.argv, failure).into())
    }
}
