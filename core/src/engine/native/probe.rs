//! Probes by doing: the real mount with the real directories, in a child that goes away with its namespaces.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::enter::unshare;
use super::mounts::Builder;
use crate::engine::{IdMap, IdentityPlan, RootPlan, RootWrite};
use crate::sys::{mount, process};

/// Which step failed, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// No user namespace.
    #[error("this kernel or its settings give no user namespace")]
    Namespace,
    /// The mount.
    #[error("the kernel mounts no overlay there")]
    Mount,
    /// The overlay was mounted and does not work.
    #[error("an overlay there cannot be written")]
    Write,
    /// The probe itself.
    #[error("the probe failed: {0}")]
    Probe(String),
}

/// Mounts an overlay over `lower` with its upper on a tmpfs and writes into it.
pub fn probe_overlay(lower: &Path) -> Result<(), ProbeError> {
    probe(&RootPlan { tree: lower.into(), write: RootWrite::Tmpfs { size: 1 << 20 } })
}

/// Mounts an overlay over `lower` with these `upper` and `work` directories and does there what programs do:
/// create, rename, remove, replace a directory of the lower. The caller empties or drops `upper` afterwards.
pub fn probe_layer(lower: &Path, upper: &Path, work: &Path) -> Result<(), ProbeError> {
    probe(&RootPlan { tree: lower.into(), write: RootWrite::Layer { upper: upper.into(), work: work.into() } })
}

fn probe(plan: &RootPlan) -> Result<(), ProbeError> {
    let status = process::in_child(|| match attempt(plan) {
        Ok(()) => 0,
        Err(ProbeError::Namespace) => 1,
        Err(ProbeError::Mount) => 2,
        Err(_) => 3,
    });
    match status {
        Ok(0) => Ok(()),
        Ok(1) => Err(ProbeError::Namespace),
        Ok(2) => Err(ProbeError::Mount),
        Ok(3) => Err(ProbeError::Write),
        Ok(other) => Err(ProbeError::Probe(format!("its process ended with status {other}"))),
        Err(errno) => Err(ProbeError::Probe(std::io::Error::from(errno).to_string())),
    }
}

fn attempt(plan: &RootPlan) -> Result<(), ProbeError> {
    let identity = IdentityPlan { uid: 0, gid: 0, map: IdMap::Single, fake_root_filter: false, docker_capabilities: false };
    unshare(&identity).map_err(|_| ProbeError::Namespace)?;
    mount::make_all_slaves().map_err(|_| ProbeError::Namespace)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tree = rustix::fs::open(&plan.tree, flags, Mode::empty()).map_err(|_| ProbeError::Mount)?;
    let root = Builder::new(plan, tree).and_then(Builder::finish).map_err(|_| ProbeError::Mount)?;
    write_into(&root).map_err(|_| ProbeError::Write)
}

fn write_into(root: &OwnedFd) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    let name = format!(".udocker-probe-{}", std::process::id());
    rustix::fs::mkdirat(root, &name, mode)?;
    let directory = rustix::fs::openat(root, &name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(&directory, "a", flags, mode)?;
    rustix::fs::renameat(&directory, "a", &directory, "b")?;
    rustix::fs::unlinkat(&directory, "b", AtFlags::empty())?;
    rustix::fs::unlinkat(root, &name, AtFlags::REMOVEDIR)?;
    // A directory of the lower that is removed and made again needs whiteouts and the opaque mark.
    if let Some(lower) = first_empty_directory(root)? {
        let before = rustix::fs::statat(root, &lower, AtFlags::empty())?;
        rustix::fs::unlinkat(root, &lower, AtFlags::REMOVEDIR)?;
        rustix::fs::mkdirat(root, &lower, Mode::from_raw_mode(before.st_mode & 0o777))?;
    }
    // User attributes are what `userxattr` keeps its marks in.
    match rustix::fs::fsetxattr(&directory, "user.udocker.probe", b"1", XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn first_empty_directory(root: &OwnedFd) -> Result<Option<std::ffi::CString>, Errno> {
    let list = rustix::fs::openat(root.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&list)? {
        let entry = entry?;
        if entry.file_type() != FileType::Directory || matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(inside) = rustix::fs::openat(&list, entry.file_name(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) else {
            continue;
        };
        if rustix::fs::Dir::read_from(&inside)?.filter_map(Result::ok).all(|e| matches!(e.file_name().to_bytes(), b"." | b"..")) {
            return Ok(Some(entry.file_name().to_owned()));
        }
    }
    Ok(None)
}
