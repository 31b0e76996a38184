//! Files and mounts inside the new root.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::{During, EnterError, Step};
use super::root::{NewRoot, open_directory};
use super::underlay::{Underlay, is_too_large};
use crate::engine::{GeneratedFile, MountPlan, MountSource};
use crate::sys::fds::FdPath;
use crate::sys::mount;
use crate::sys::resolve::{self, MakeKind, Resolved};

/// A mount whose source is at hand.
pub(super) struct Pending<'a> {
    source: Source<'a>,
    target: &'a Path,
    read_only: bool,
    optional: bool,
    origin: &'a str,
    /// Its mount point, if it was found before anything was mounted and nothing changed since.
    point: Option<OwnedFd>,
}

enum Source<'a> {
    Bind { path: &'a Path, fd: OwnedFd, is_directory: bool },
    Tmpfs { size: Option<u64> },
    File { content: &'a [u8], index: usize },
}

impl Pending<'_> {
    fn make_kind(&self) -> MakeKind {
        match &self.source {
            Source::Bind { is_directory: true, .. } | Source::Tmpfs { .. } => MakeKind::Directory,
            Source::Bind { .. } | Source::File { .. } => MakeKind::File,
        }
    }

    fn needs_scratch(&self) -> bool {
        matches!(self.source, Source::File { .. })
    }
}

/// Why an attempt at the mounts ended.
pub(super) enum Stopped {
    /// A mount point must be made, and there is no scratch tmpfs.
    NeedsScratch,
    /// For good.
    Failed(EnterError),
}

impl From<EnterError> for Stopped {
    fn from(error: EnterError) -> Self {
        Self::Failed(error)
    }
}

/// Opens the sources of all mounts; generated files come first, so that a mount that the user asked for covers them.
pub(super) fn open_sources<'a>(
    files: &'a [GeneratedFile],
    mounts: &'a [MountPlan],
) -> Result<Vec<Pending<'a>>, EnterError> {
    let mut pending = Vec::with_capacity(files.len() + mounts.len());
    for (index, file) in files.iter().enumerate() {
        pending.push(Pending {
            source: Source::File { content: file.content.as_bytes(), index },
            target: &file.target,
            read_only: true,
            optional: false,
            origin: "",
            point: None,
        });
    }
    for plan in mounts {
        let source = match &plan.source {
            MountSource::Tmpfs { size } => Source::Tmpfs { size: *size },
            MountSource::Bind { path, create } => match open_source(path, *create, &plan.origin) {
                Ok((fd, is_directory)) => Source::Bind { path, fd, is_directory },
                Err(EnterError::System { source, .. }) if plan.optional && is_absent(&source) => continue,
                Err(error) => return Err(error),
            },
        };
        pending.push(Pending {
            source,
            target: &plan.target,
            read_only: plan.read_only,
            optional: plan.optional,
            origin: &plan.origin,
            point: None,
        });
    }
    Ok(pending)
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES))
}

/// Opens a bind's source. The directory is tried first: that triggers an automount, which O_PATH alone does not.
fn open_source(path: &Path, create: bool, origin: &str) -> Result<(OwnedFd, bool), EnterError> {
    match open_directory(path) {
        Err(Errno::NOTDIR) => {
            let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            Ok((fd.by(Step::Source, path, origin)?, false))
        }
        Err(Errno::NOENT) if create => {
            std::fs::create_dir_all(path).by(Step::CreateSource, path, origin)?;
            Ok((open_directory(path).by(Step::Source, path, origin)?, true))
        }
        done => Ok((done.by(Step::Source, path, origin)?, true)),
    }
}

/// Whether any of `pending` is made from the scratch tmpfs.
pub(super) fn need_scratch(pending: &[Pending<'_>]) -> bool {
    pending.iter().any(Pending::needs_scratch)
}

/// Finds all mount points of a read-only root and makes those that it lacks.
///
/// Targets at or below an earlier one are left to [`mount_all`]: they lie in that mount. So are those that a link of the
/// image leads to (`/var/run`): where it ends may be in an earlier mount as well.
pub(super) fn make_points(new: &mut NewRoot, pending: &mut Vec<Pending<'_>>) -> Result<(), Stopped> {
    let mut missing: Vec<(PathBuf, usize)> = Vec::new();
    let mut dropped: Vec<usize> = Vec::new();
    for index in 0..pending.len() {
        let (before, rest) = pending.split_at_mut(index);
        let this = &mut rest[0];
        if before.iter().any(|earlier| this.target.starts_with(earlier.target)) {
            continue;
        }
        if let Ok(point) = resolve::open_without_links(&new.root, this.target) {
            this.point = Some(point);
            continue;
        }
        match resolve::resolve(&new.root, this.target).by(Step::Target, this.target, this.origin)? {
            Resolved::Found(_) => {}
            Resolved::Missing { parent, .. } => {
                let place = path_of(&parent).on(Step::Target, this.target)?;
                let root = path_of(&new.root).on(Step::Target, this.target)?;
                let inside = place.strip_prefix(&root).unwrap_or(Path::new(""));
                if before.iter().any(|earlier| Path::new("/").join(inside).starts_with(earlier.target)) {
                    continue;
                }
                if this.optional && is_too_large(&parent).unwrap_or(true) {
                    dropped.push(index);
                } else {
                    missing.push((place, index));
                }
            }
        }
    }
    if !missing.is_empty() {
        let Some(scratch) = new.scratch.as_ref() else { return Err(Stopped::NeedsScratch) };
        // A directory is covered before those in it: covering it later would copy their covers, still writable.
        missing.sort_by_key(|(parent, _)| parent.as_os_str().len());
        let mut underlay = Underlay::new(scratch);
        for (_, index) in missing {
            let this = &pending[index];
            if let Some(root) = make_point(&mut underlay, &new.root, this)? {
                new.root = root;
            }
        }
        underlay.close().during(Step::Target)?;
        pending.iter_mut().for_each(|this| this.point = None);
    }
    for index in dropped.into_iter().rev() {
        pending.remove(index);
    }
    Ok(())
}

/// Makes one mount point; returns the new root if that had to be covered.
fn make_point(underlay: &mut Underlay<'_>, root: &OwnedFd, this: &Pending<'_>) -> Result<Option<OwnedFd>, EnterError> {
    let mut new_root = None;
    loop {
        let root = new_root.as_ref().unwrap_or(root);
        match resolve::resolve(root, this.target).by(Step::Target, this.target, this.origin)? {
            Resolved::Found(_) => return Ok(new_root),
            Resolved::Missing { parent, names } => {
                let is_root = resolve::is_same_file(&parent, root).on(Step::Target, this.target)?;
                if underlay.covers(&parent).on(Step::Target, this.target)? {
                    resolve::make(&parent, &names, this.make_kind()).by(Step::Target, this.target, this.origin)?;
                } else if let Some(covered) =
                    underlay.cover(&parent, is_root).by(Step::Target, this.target, this.origin)?
                {
                    new_root = Some(covered);
                } else if let Resolved::Missing { parent, .. } =
                    resolve::resolve(root, this.target).by(Step::Target, this.target, this.origin)?
                {
                    underlay.keep(parent);
                }
            }
        }
    }
}

fn path_of(fd: &OwnedFd) -> rustix::io::Result<PathBuf> {
    let path = rustix::fs::readlink(FdPath::new(fd.as_fd()).as_c_str(), Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes())))
}

/// Makes all mounts, in order.
pub(super) fn mount_all(new: &NewRoot, pending: &mut [Pending<'_>]) -> Result<(), EnterError> {
    pending.iter_mut().try_for_each(|this| match mount_one(new, this) {
        Err(EnterError::System { step: Step::Target, .. } | EnterError::KindMismatch { .. }) if this.optional => Ok(()),
        done => done,
    })
}

fn mount_one(new: &NewRoot, this: &mut Pending<'_>) -> Result<(), EnterError> {
    let (target, origin) = (this.target, this.origin);
    let point = match this.point.take() {
        Some(point) => point,
        None => match resolve::resolve(&new.root, target).by(Step::Target, target, origin)? {
            Resolved::Found(point) => point,
            Resolved::Missing { parent, names } => {
                resolve::make(&parent, &names, this.make_kind()).by(Step::Target, target, origin)?
            }
        },
    };
    let recursive = match &this.source {
        Source::Tmpfs { size } => {
            let size = size.map_or(String::new(), |size| format!(",size={size}"));
            let options = CString::new(format!("mode=1777{size}")).expect("digits");
            return mount::tmpfs(point, &options, this.read_only).by(Step::Mount, target, origin);
        }
        Source::File { content, index } => {
            let scratch = new.scratch.as_ref().expect("files make the scratch tmpfs needed");
            let file = write_file(scratch, *index, content).on(Step::File, target)?;
            mount::bind_recursive(file, point).on(Step::Mount, target)?;
            false
        }
        Source::Bind { path, fd, is_directory } => match mount::bind_recursive(fd, &point) {
            Err(Errno::NOTDIR) => {
                return Err(EnterError::KindMismatch {
                    from: (*path).to_owned(),
                    target: target.to_owned(),
                    source_is_directory: *is_directory,
                    origin: origin.to_owned(),
                });
            }
            done => {
                done.by(Step::Mount, target, origin)?;
                true
            }
        },
    };
    if !this.read_only {
        return Ok(());
    }
    // `point` is below the mount; the path leads to its root, and if it does not, EINVAL says so.
    let top = match resolve::resolve(&new.root, target).by(Step::ReadOnlyMount, target, origin)? {
        Resolved::Found(top) => top,
        Resolved::Missing { .. } => return Err(Errno::NOENT).by(Step::ReadOnlyMount, target, origin),
    };
    let made = if recursive { mount::make_read_only_recursive(top) } else { mount::make_read_only(top) };
    made.by(Step::ReadOnlyMount, target, origin)
}

fn write_file(scratch: &OwnedFd, index: usize, content: &[u8]) -> std::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(scratch.as_fd(), format!("file{index}"), flags, Mode::from_raw_mode(0o644))?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    Ok(file.into())
}
