//! Building the root: the tree, binds, tmpfs, generated files, and mount points that a read-only image lacks.
//!
//! A missing mount point is made where the root can be written. Where it cannot, its deepest existing parent is replaced by
//! a directory of the scratch tmpfs in which every entry of the original is bound (an underlay): the image stays untouched
//! and needs no overlay.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::EnterError;
use crate::engine::{GeneratedFile, MountPlan, MountSource, RootPlan, RootWrite};
use crate::error::ErrorKind;
use crate::sys::mount;
use crate::sys::resolve::open_in_root;

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const SCRATCH_OPTIONS: &str = "mode=0755,size=64m";
const MAX_LINKS: usize = 40;
/// An optional mount is not worth an underlay of more entries than this: each costs a bind, some 10 µs.
const MAX_OPTIONAL_ENTRIES: usize = 512;

/// A bind's source, opened before anything could hide it.
pub(super) struct Source {
    fd: OwnedFd,
    is_directory: bool,
}

/// Opens the sources of all binds; `None` for a tmpfs and for an optional one that is missing.
pub(super) fn open_sources(mounts: &[MountPlan]) -> Result<Vec<Option<Source>>, EnterError> {
    mounts.iter().map(open_source).collect()
}

fn open_source(planned: &MountPlan) -> Result<Option<Source>, EnterError> {
    let MountSource::Bind { path, create } = &planned.source else { return Ok(None) };
    if *create {
        std::fs::create_dir_all(path).map_err(|error| {
            EnterError::errno(format!("make {} ({})", path.display(), planned.origin), Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
    }
    match rustix::fs::open(path, PATH_ONLY, Mode::empty()) {
        Ok(fd) => {
            let is_directory = is_directory(&fd).map_err(|errno| EnterError::errno(format!("stat {}", path.display()), errno))?;
            Ok(Some(Source { fd, is_directory }))
        }
        Err(Errno::NOENT | Errno::ACCESS | Errno::NOTDIR) if planned.optional => Ok(None),
        Err(errno) => Err(EnterError::errno(format!("mount {} ({})", path.display(), planned.origin), errno)
            .with_kind(ErrorKind::Usage)
            .hint("it must exist on this machine and be readable; the mount option `optional` passes over what is missing")),
    }
}

fn is_directory(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

/// The root under construction.
pub(super) struct Builder<'a> {
    plan: &'a RootPlan,
    /// The directory that holds the tree; the scratch tmpfs covers it in our namespace, where nobody needs it any more.
    parent: OwnedFd,
    root: OwnedFd,
    scratch: Option<OwnedFd>,
    /// Names used in the scratch tmpfs.
    count: u32,
    /// Mounts that become read-only at the end: until then mount points may still be made in them.
    closing: Vec<OwnedFd>,
}

impl<'a> Builder<'a> {
    /// Mounts the tree of `plan`, which is open as `tree`.
    pub fn new(plan: &'a RootPlan, tree: OwnedFd) -> Result<Self, EnterError> {
        let shown = plan.tree.display();
        let parent = rustix::fs::openat(&tree, "..", PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| EnterError::errno(format!("open the directory that holds {shown}"), errno))?;
        let mut builder =
            Self { plan, parent, root: tree, scratch: None, count: 0, closing: Vec::new() };
        match &plan.write {
            RootWrite::ReadOnly | RootWrite::InPlace => {
                mount::bind(&builder.root, &builder.root)
                    .map_err(|errno| EnterError::errno(format!("mount the root {shown}"), errno))?;
                builder.root = reopen(&plan.tree)?;
                if plan.write == RootWrite::ReadOnly {
                    mount::remount_read_only(&builder.root)
                        .map_err(|errno| EnterError::errno(format!("make the root {shown} read-only"), errno))?;
                }
            }
            RootWrite::Tmpfs { size } => {
                let scratch = builder.make_scratch(&format!("mode=0755,size={size}"))?;
                let layer = |name: &str| make_directory(scratch.as_fd(), OsStr::new(name), Mode::from_raw_mode(0o755));
                let made = layer("upper").and_then(|upper| Ok((upper, layer("work")?, layer("root")?)));
                let (upper, work, target) = made.map_err(|errno| EnterError::errno("prepare the overlay's tmpfs", errno))?;
                builder.scratch = Some(scratch);
                builder.overlay(&upper, &work, &target)?;
                let scratch = builder.scratch.as_ref().expect("set above");
                builder.root = rustix::fs::openat(scratch, "root", PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
                    .map_err(|errno| EnterError::errno("open the overlay", errno))?;
            }
            RootWrite::Layer { upper, work } => {
                let open = |path: &Path| {
                    rustix::fs::open(path, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
                        .map_err(|errno| EnterError::errno(format!("open {}", path.display()), errno))
                };
                let target = rustix::io::fcntl_dupfd_cloexec(&builder.root, 3)
                    .map_err(|errno| EnterError::errno("duplicate a descriptor", errno))?;
                builder.overlay(&open(upper)?, &open(work)?, &target)?;
                builder.root = reopen(&plan.tree)?;
            }
        }
        Ok(builder)
    }

    fn overlay(&self, upper: &OwnedFd, work: &OwnedFd, target: &OwnedFd) -> Result<(), EnterError> {
        let text = |fd: &OwnedFd| mount::fd_path(fd).into_string().expect("digits and slashes are UTF-8");
        // The merged root shows the upper's mode: it must be the image's.
        let mode = rustix::fs::fstat(&self.root).map(|status| Mode::from_raw_mode(status.st_mode & 0o7777));
        mode.and_then(|mode| rustix::fs::chmod(mount::fd_path(upper).as_c_str(), mode))
            .map_err(|errno| EnterError::errno("prepare the overlay's upper directory", errno))?;
        let options = format!("lowerdir={},upperdir={},workdir={},userxattr", text(&self.root), text(upper), text(work));
        let options = CString::new(options).expect("paths of descriptors hold no NUL");
        mount::overlay(&mount::fd_path(target), &options).map_err(|errno| {
            let error = EnterError::errno(format!("mount an overlay over {}", self.plan.tree.display()), errno)
                .with_kind(ErrorKind::Unsupported);
            match errno {
                Errno::INVAL | Errno::NODEV | Errno::PERM => {
                    error.hint("overlays in user namespaces need Linux 5.11 and a file system that takes them; `--write=none` needs neither")
                }
                _ => error.hint("`--write=none` needs no overlay"),
            }
        })
    }

    fn make_scratch(&self, options: &str) -> Result<OwnedFd, EnterError> {
        let options = CString::new(options).expect("mount options of ours hold no NUL");
        let failed = |errno| EnterError::errno("mount a tmpfs for the root", errno);
        // Opening `..` from inside the covered directory would miss the tmpfs: its own name leads there.
        mount::tmpfs(&mount::fd_path(&self.parent), &options).map_err(failed)?;
        let path = self.plan.tree.parent().unwrap_or(Path::new("/"));
        rustix::fs::open(path, PATH_ONLY | OFlags::DIRECTORY, Mode::empty()).map_err(failed)
    }

    fn scratch(&mut self) -> Result<BorrowedFd<'_>, EnterError> {
        if self.scratch.is_none() {
            self.scratch = Some(self.make_scratch(SCRATCH_OPTIONS)?);
        }
        Ok(self.scratch.as_ref().expect("made above").as_fd())
    }

    fn scratch_name(&mut self) -> OsString {
        self.count += 1;
        format!("m{}", self.count).into()
    }

    /// Makes one mount of the plan.
    pub fn mount(&mut self, planned: &MountPlan, source: Option<&Source>) -> Result<(), EnterError> {
        let is_directory = match (&planned.source, source) {
            (MountSource::Tmpfs { .. }, _) => true,
            (MountSource::Bind { .. }, Some(source)) => source.is_directory,
            (MountSource::Bind { .. }, None) => return Ok(()),
        };
        let shown = planned.target.display();
        let Some(target) = self.target(&planned.target, is_directory, planned.optional, &planned.origin)? else {
            return Ok(());
        };
        let result = match (&planned.source, source) {
            (MountSource::Tmpfs { size }, _) => {
                let options = match size {
                    Some(size) => format!("mode=1777,size={size}"),
                    None => "mode=1777".to_owned(),
                };
                mount::tmpfs(&mount::fd_path(&target), &CString::new(options).expect("digits hold no NUL"))
            }
            (_, Some(source)) => mount::bind(&source.fd, &target),
            (_, None) => Ok(()),
        };
        match result {
            Ok(()) => {}
            Err(_) if planned.optional => return Ok(()),
            Err(errno) => return Err(EnterError::errno(format!("mount on {shown} in the container ({})", planned.origin), errno)),
        }
        if planned.read_only {
            open_in_root(self.root.as_fd(), &planned.target, OFlags::PATH)
                .and_then(mount::read_only_recursive)
                .map_err(|errno| EnterError::errno(format!("make {shown} read-only in the container"), errno))?;
        }
        Ok(())
    }

    /// Writes a small file into the scratch tmpfs and binds it, read-only.
    pub fn generate(&mut self, file: &GeneratedFile) -> Result<(), EnterError> {
        let failed = |errno| EnterError::errno(format!("provide {} in the container", file.target.display()), errno);
        let name = self.scratch_name();
        let made = {
            let scratch = self.scratch()?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let made = rustix::fs::openat(scratch, &name, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
            let mut rest = file.content.as_bytes();
            while !rest.is_empty() {
                let count = rustix::io::write(&made, rest).map_err(failed)?;
                rest = &rest[count..];
            }
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o644)).map_err(failed)?;
            rustix::fs::openat(scratch, &name, PATH_ONLY, Mode::empty()).map_err(failed)?
        };
        let Some(target) = self.target(&file.target, false, false, "accounts")? else { return Ok(()) };
        mount::bind(&made, &target).map_err(failed)?;
        let mounted = open_in_root(self.root.as_fd(), &file.target, OFlags::PATH).map_err(failed)?;
        mount::remount_read_only(mounted).map_err(failed)
    }

    /// Closes what stayed writable and hands over the root's mount.
    pub fn finish(self) -> Result<OwnedFd, EnterError> {
        for directory in &self.closing {
            mount::remount_read_only(directory)
                .map_err(|errno| EnterError::errno("make the mount points read-only", errno))?;
        }
        Ok(self.root)
    }

    /// The mount point at `path`, made if it is missing; `None` if it is optional and cannot be made.
    fn target(&mut self, path: &Path, directory: bool, optional: bool, origin: &str) -> Result<Option<OwnedFd>, EnterError> {
        let step = || format!("mount on {} in the container ({origin})", path.display());
        let found = match open_in_root(self.root.as_fd(), path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => match self.make_target(path, directory, optional) {
                Ok(fd) => fd,
                Err(_) if optional => return Ok(None),
                Err(errno) => return Err(EnterError::errno(step(), errno).hint("its parent directory cannot be written")),
            },
            Err(_) if optional => return Ok(None),
            Err(errno) => return Err(EnterError::errno(step(), errno)),
        };
        let same = is_directory(&found).map_err(|errno| EnterError::errno(step(), errno))? == directory;
        match (same, optional) {
            (true, _) => Ok(Some(found)),
            (false, true) => Ok(None),
            (false, false) => {
                let (here, there) = if directory { ("a directory", "none") } else { ("no directory", "one") };
                let text = format!("the source is {here} and the target in the container is {there}");
                Err(EnterError::text(step(), ErrorKind::Usage, text))
            }
        }
    }

    /// Walks to `path`, following links inside the root, and makes what is missing on the way.
    fn make_target(&mut self, path: &Path, directory: bool, optional: bool) -> Result<OwnedFd, Errno> {
        let mut todo = names(path.as_os_str());
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let here = open_in_root(self.root.as_fd(), &done, OFlags::PATH | OFlags::DIRECTORY)?;
            match rustix::fs::openat(&here, &name, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(fd) => {
                    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
                    if kind != FileType::Symlink {
                        done.push(&name);
                        continue;
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = OsString::from_vec(rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes());
                    if target.as_bytes().starts_with(b"/") {
                        done = PathBuf::from("/");
                    }
                    let mut target = names(&target);
                    target.append(&mut todo);
                    todo = target;
                }
                Err(Errno::NOENT) => {
                    let as_directory = directory || !todo.is_empty();
                    match make(here.as_fd(), &name, as_directory) {
                        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) if self.plan.write == RootWrite::ReadOnly => {
                            self.underlay(&done, optional)?;
                            let here = open_in_root(self.root.as_fd(), &done, OFlags::PATH | OFlags::DIRECTORY)?;
                            make(here.as_fd(), &name, as_directory)?;
                        }
                        other => other?,
                    }
                    done.push(&name);
                }
                Err(errno) => return Err(errno),
            }
        }
        open_in_root(self.root.as_fd(), &done, OFlags::PATH)
    }

    /// Replaces the directory `path` by one of the scratch tmpfs with the same entries, which can be added to.
    fn underlay(&mut self, path: &Path, optional: bool) -> Result<(), Errno> {
        let original = open_in_root(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let entries = entries_of(&original)?;
        if optional && entries.len() > MAX_OPTIONAL_ENTRIES {
            return Err(Errno::NOENT);
        }
        let name = self.scratch_name();
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&original)?.st_mode & 0o1777);
        let scratch = self.scratch().map_err(|_| Errno::ROFS)?;
        let directory = make_directory(scratch, &name, mode)?;
        for (entry, kind) in &entries {
            match kind {
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&original, entry, Vec::new())?;
                    rustix::fs::symlinkat(target, &directory, entry)?;
                    continue;
                }
                FileType::Directory => rustix::fs::mkdirat(&directory, entry, Mode::from_raw_mode(0o755))?,
                _ => make(directory.as_fd(), entry, false)?,
            }
            let from = rustix::fs::openat(&original, entry, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty())?;
            let to = rustix::fs::openat(&directory, entry, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty())?;
            mount::bind(from, to)?;
        }
        if path == Path::new("/") {
            mount::bind(&directory, &directory)?;
            self.root = rustix::fs::openat(self.scratch().map_err(|_| Errno::ROFS)?, &name, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())?;
            self.closing.push(rustix::io::fcntl_dupfd_cloexec(&self.root, 3)?);
        } else {
            mount::bind(&directory, &original)?;
            self.closing.push(open_in_root(self.root.as_fd(), path, OFlags::PATH)?);
        }
        Ok(())
    }
}

fn reopen(path: &Path) -> Result<OwnedFd, EnterError> {
    rustix::fs::open(path, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
        .map_err(|errno| EnterError::errno(format!("open the mounted root {}", path.display()), errno))
}

fn make(at: BorrowedFd<'_>, name: &OsStr, directory: bool) -> Result<(), Errno> {
    if directory {
        return rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

/// Makes a directory with exactly `mode`, whatever the umask is.
fn make_directory(at: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(at, name, Mode::RWXU)?;
    rustix::fs::chmodat(at, name, mode, AtFlags::empty())?;
    rustix::fs::openat(at, name, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
}

fn names(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsString::from_vec(part.to_vec())).collect()
}

fn entries_of(directory: &OwnedFd) -> Result<Vec<(OsString, FileType)>, Errno> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let status = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(status.st_mode)
            }
            kind => kind,
        };
        entries.push((OsString::from_vec(name.to_vec()), kind));
    }
    Ok(entries)
}
