//! What works here, found out by doing it in a forked child; nothing stays.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::enter::enter_namespaces;
use super::error::{During, EnterError, Step, step_hints};
use super::root::{NewRoot, Trees, make_directory, mount_scratch, open_directory};
use crate::engine::{IdMap, IdentityPlan, RootPlan, RootWrite};
use crate::error::{ErrorKind, Explain};
use crate::sys::{fds::FdPath, mount, process};

/// Bytes of the tmpfs uppers of probes.
const PROBE_BYTES: u64 = 1 << 20;
/// What [`probe_layer`] makes.
const FILE: &str = ".udocker-probe-file";
const RENAMED: &str = ".udocker-probe-renamed";
const LOWER_FILE: &str = ".udocker-probe-lower";
const LOWER_DIRECTORY: &str = ".udocker-probe-directory";

/// A step that does not work here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {} here: {}", step.as_str(), std::io::Error::from_raw_os_error(*errno))]
pub struct ProbeError {
    /// The step.
    pub step: Step,
    /// Why, as in errno(3).
    pub errno: i32,
}

impl Explain for ProbeError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
    fn hints(&self) -> Vec<String> {
        step_hints(self.step, self.errno)
    }
}

/// Whether this process could enter a user and a mount namespace and mount there.
///
/// # Errors
/// The step that failed.
pub fn probe_user_namespace() -> Result<(), ProbeError> {
    probe(|| enter_namespaces(&caller(), &[]))
}

/// Whether `lower` can be the root below an overlay with its upper on a tmpfs.
///
/// # Errors
/// The step that failed.
pub fn probe_overlay(lower: &Path) -> Result<(), ProbeError> {
    probe(|| {
        enter_namespaces(&caller(), &[])?;
        let plan = RootPlan::new(lower, RootWrite::Tmpfs { size: PROBE_BYTES });
        NewRoot::make(&plan, &Trees::open(&plan)?, true).map(drop)
    })
}

/// Whose the files of `tree` are, in words, if no layer over them can be written: overlayfs copies a file up with its owner
/// and group, and of those a user namespace without helpers knows the caller's own alone (EOVERFLOW; user_namespaces(7)). One
/// look at the top stands for all: whoever extracted it made all of it.
///
/// # Errors
/// Those of stat(2).
pub fn owner_in_the_way(tree: &Path) -> std::io::Result<Option<String>> {
    let status = std::fs::metadata(tree)?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(match (status.uid(), status.gid()) {
        (owner, _) if owner != uid => Some(format!("uid {owner}'s")),
        (_, group) if group != gid => Some(format!("of group {group}, not of the caller's group {gid}")),
        _ => None,
    })
}

/// Whether `upper` and `work` serve as the writable layer over `lower` on their own file system: an overlay of them
/// creates, renames, hides files and directories of the lower layer, and keeps user attributes. What the probe made in
/// them is removed.
///
/// # Errors
/// The step that failed.
pub fn probe_layer(lower: &Path, upper: &Path, work: &Path) -> Result<(), ProbeError> {
    probe(|| {
        enter_namespaces(&caller(), &[])?;
        let tree = open_directory(lower).on(Step::Tree, lower)?;
        let upper_fd = open_directory(upper).on(Step::Layer, upper)?;
        let work_fd = open_directory(work).on(Step::Layer, work)?;
        // A second lower with known names, since those of the tree are anybody's.
        let scratch = mount_scratch(lower, &tree, PROBE_BYTES)?;
        let known = make_directory(&scratch, "lower").on(Step::Scratch, lower)?;
        make_directory(&known, LOWER_DIRECTORY).on(Step::Scratch, lower)?;
        create(&known, LOWER_FILE).on(Step::Scratch, lower)?;
        let point = make_directory(&scratch, "root").on(Step::Scratch, lower)?;
        let lowers = [known.as_fd(), tree.as_fd()];
        mount::overlay(&lowers, Some((upper_fd.as_fd(), work_fd.as_fd())), point.as_fd()).on(Step::Overlay, lower)?;
        let root = rustix::fs::openat(&scratch, "root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let root = root.on(Step::Overlay, lower)?;
        let used = use_overlay(&root, upper);
        mount::detach(&root).on(Step::ProbeCleanUp, upper)?;
        drop(root);
        let cleaned = clean_up(&upper_fd, &work_fd).on(Step::ProbeCleanUp, upper);
        used.and(cleaned)
    })
}

fn use_overlay(root: &OwnedFd, upper: &Path) -> Result<(), EnterError> {
    create(root, FILE).on(Step::ProbeCreate, upper)?;
    rustix::fs::renameat(root, FILE, root, RENAMED).on(Step::ProbeRename, upper)?;
    rustix::fs::unlinkat(root, LOWER_FILE, AtFlags::empty()).on(Step::ProbeWhiteout, upper)?;
    rustix::fs::unlinkat(root, LOWER_DIRECTORY, AtFlags::REMOVEDIR).on(Step::ProbeOpaque, upper)?;
    rustix::fs::mkdirat(root, LOWER_DIRECTORY, Mode::from_raw_mode(0o755)).on(Step::ProbeOpaque, upper)?;
    let file = rustix::fs::openat(root, RENAMED, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let file = file.on(Step::ProbeAttribute, upper)?;
    let path = FdPath::new(file.as_fd());
    rustix::fs::setxattr(path.as_c_str(), c"user.udocker", b"1", XattrFlags::CREATE).on(Step::ProbeAttribute, upper)
}

fn clean_up(upper: &OwnedFd, work: &OwnedFd) -> rustix::io::Result<()> {
    for name in [FILE, RENAMED, LOWER_FILE] {
        unless_absent(rustix::fs::unlinkat(upper, name, AtFlags::empty()))?;
    }
    match rustix::fs::unlinkat(upper, LOWER_DIRECTORY, AtFlags::REMOVEDIR) {
        // A whiteout, if the probe ended before it made the directory again.
        Err(Errno::NOTDIR) => rustix::fs::unlinkat(upper, LOWER_DIRECTORY, AtFlags::empty())?,
        done => unless_absent(done)?,
    }
    // overlayfs makes these; an index only where the kernel's default says so.
    for name in ["work", "index"] {
        unless_absent(remove_flat(work, name))?;
    }
    Ok(())
}

/// Removes a directory of files: overlayfs keeps one whiteout at hand, to link to.
fn remove_flat(parent: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            rustix::fs::unlinkat(&directory, entry.file_name(), AtFlags::empty())?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn unless_absent(done: rustix::io::Result<()>) -> rustix::io::Result<()> {
    if done == Err(Errno::NOENT) { Ok(()) } else { done }
}

fn create(directory: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
}

fn caller() -> IdentityPlan {
    IdentityPlan { uid: 0, gid: 0, map: IdMap::Single, fake_root_filter: false, docker_capabilities: false }
}

/// Runs `body` in a child and brings its error back: one byte for the step, four for errno.
fn probe(body: impl FnOnce() -> Result<(), EnterError>) -> Result<(), ProbeError> {
    let failed =
        |error: std::io::Error| ProbeError { step: Step::Fork, errno: error.raw_os_error().unwrap_or(libc::EIO) };
    let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let child = process::fork_child(|| match body() {
        Ok(()) => 0,
        Err(error) => {
            let (step, errno) = error.step().unwrap_or((Step::Fork, libc::EIO));
            let [a, b, c, d] = errno.to_ne_bytes();
            // Five bytes fit into any pipe; without them the parent reports the fork.
            let _ = rustix::io::write(&write_end, &[step as u8, a, b, c, d]);
            1
        }
    })
    .map_err(failed)?;
    drop(write_end);
    let mut report = [0u8; 5];
    let length = rustix::io::read(&read_end, &mut report).map_err(|error| failed(error.into()))?;
    let status = process::wait(child).map_err(failed)?;
    if status.exit_status() == Some(0) {
        return Ok(());
    }
    let [step, errno @ ..] = report;
    let step = Step::from_number(step).filter(|_| length == report.len());
    Err(step.map_or_else(|| failed(Errno::IO.into()), |step| ProbeError { step, errno: i32::from_ne_bytes(errno) }))
}
