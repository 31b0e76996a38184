//! Applying entries to the tree: every call takes a directory's descriptor and one name.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use udocker_core::digest::Digest;
use udocker_core::store::{ChangedEntry, TreeFormat};
use udocker_core::sys::resolve;
use udocker_core::text::escape;

use super::{ExtractError, FlattenOptions, Flattened};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const MAX_PATH_BYTES: usize = libc::PATH_MAX as usize;
const MAX_XATTR_BYTES: usize = 64 << 10;

/// Paths are components joined by `/`, without one at either end; the root is empty.
type TreePath = Vec<u8>;

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    options: &'a FlattenOptions,
    digest: Option<Digest>,
    /// What the current layer made: its own whiteouts do not hide it.
    own: HashSet<TreePath>,
    /// Final modes and times of directories.
    directories: BTreeMap<TreePath, (u32, Timespec)>,
    changed: BTreeMap<TreePath, ChangedEntry>,
    bytes: u64,
    entries: u64,
    skipped_devices: u64,
    /// The directory of the entry before: archives are sorted by directory.
    parent: Option<(TreePath, OwnedFd)>,
}

impl<'a> Tree<'a> {
    pub fn new(root: BorrowedFd<'a>, options: &'a FlattenOptions) -> Result<Self, ExtractError> {
        rustix::fs::fchmod(root, Mode::RWXU).map_err(|errno| ExtractError::Tree(errno.into()))?;
        Ok(Self {
            root,
            options,
            digest: None,
            own: HashSet::new(),
            directories: BTreeMap::from([(Vec::new(), (directory_mode(options.format, 0o755), epoch()))]),
            changed: BTreeMap::new(),
            bytes: 0,
            entries: 0,
            skipped_devices: 0,
            parent: None,
        })
    }

    pub fn begin_layer(&mut self, digest: &Digest) {
        self.digest = Some(digest.clone());
        self.own.clear();
        self.parent = None;
    }

    pub fn apply<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), ExtractError> {
        let raw = entry.path_bytes().into_owned();
        let digest = self.digest.clone().expect("begin_layer came before");
        let bad = |what| ExtractError::BadEntry { digest: digest.clone(), entry: escape(&raw), what };
        let failed = |source: io::Error| ExtractError::Write { digest: digest.clone(), entry: escape(&raw), source };
        self.entries += 1;
        if self.entries > self.options.max_entries {
            return Err(ExtractError::TooLarge { limit: self.options.max_entries, unit: "entries" });
        }
        let path = normal(&raw).map_err(&bad)?;
        let kind = entry.header().entry_type();
        if path.is_empty() {
            return match kind.is_dir() {
                true => self.place_root(entry).map_err(failed),
                false => Err(bad("which would replace the root")),
            };
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(bad("whose name is longer than 4096 bytes"));
        }
        let (above, name) = split(&path);
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(above, name, hidden, &bad).map_err(|error| match error {
                Failed::Entry(error) => error,
                Failed::Io(source) => failed(source),
            });
        }
        let above = self.open_parent(above).map_err(failed)?;
        let path = join(&above, name);
        let made = if kind.is_dir() {
            self.place_directory(&path, name, entry)
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().ok_or_else(|| bad("a link without a target"))?.into_owned();
            if target.is_empty() || target.contains(&0) {
                return Err(bad("a link with an empty or broken target"));
            }
            self.place_symlink(&path, name, &target, entry)
        } else if kind.is_hard_link() {
            let target = entry.link_name_bytes().ok_or_else(|| bad("a link without a target"))?.into_owned();
            let target = normal(&target).map_err(&bad)?;
            if target == path {
                return Ok(());
            }
            match self.place_hard_link(&path, name, &target) {
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Err(bad("a hard link to a file that is not there"));
                }
                other => other,
            }
        } else if kind.is_character_special() || kind.is_block_special() || kind.is_fifo() {
            self.skipped_devices += 1;
            self.clear(&path, name).map(drop)
        } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            self.place_file(&path, name, entry)
        } else {
            return Err(bad("of a kind that is not known"));
        };
        if self.bytes > self.options.max_bytes {
            return Err(ExtractError::TooLarge { limit: self.options.max_bytes, unit: "bytes" });
        }
        made.map_err(failed)
    }

    /// Hides what lower layers made.
    fn whiteout(
        &mut self,
        above: &[u8],
        name: &[u8],
        hidden: &[u8],
        bad: &dyn Fn(&'static str) -> ExtractError,
    ) -> Result<(), Failed> {
        if name == OPAQUE {
            let path = self.open_parent(above).map_err(Failed::Io)?;
            let (_, directory) = self.parent.as_ref().expect("opened above");
            let directory = rustix::io::fcntl_dupfd_cloexec(directory, 3).map_err(io_failed)?;
            return self.remove_lower(&path, directory.as_fd()).map_err(io_failed);
        }
        // The other names of AUFS (`.wh..wh.plnk` …) mean nothing here.
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(Failed::Entry(bad("a whiteout of no name")));
        }
        let above = self.open_parent(above).map_err(Failed::Io)?;
        let path = join(&above, hidden);
        if !self.own.contains(&path) {
            let (_, parent) = self.parent.as_ref().expect("opened above");
            let parent = rustix::io::fcntl_dupfd_cloexec(parent, 3).map_err(io_failed)?;
            self.remove(parent.as_fd(), &path, hidden).map_err(io_failed)?;
        } else if self.directories.contains_key(&path) {
            // The layer made it anew before it said that the old one is gone.
            let (_, parent) = self.parent.as_ref().expect("opened above");
            let directory = rustix::fs::openat(parent, hidden, DIRECTORY, Mode::empty()).map_err(io_failed)?;
            self.remove_lower(&path, directory.as_fd()).map_err(io_failed)?;
        }
        Ok(())
    }

    /// Removes below `directory` all that the current layer did not make.
    fn remove_lower(&mut self, path: &[u8], directory: BorrowedFd<'_>) -> Result<(), Errno> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            let below = join(path, &name);
            if !self.own.contains(&below) {
                self.remove(directory, &below, &name)?;
            } else if self.directories.contains_key(&below) {
                let inner = rustix::fs::openat(directory, &*name, DIRECTORY, Mode::empty())?;
                self.remove_lower(&below, inner.as_fd())?;
            }
        }
        Ok(())
    }

    /// Removes one name with all below it, and what is remembered of it.
    fn remove(&mut self, parent: BorrowedFd<'_>, path: &[u8], name: &[u8]) -> Result<(), Errno> {
        if self.parent.as_ref().is_some_and(|(cached, _)| is_below(cached, path)) {
            self.parent = None;
        }
        self.directories.retain(|known, _| !is_below(known, path));
        self.changed.retain(|known, _| !is_below(known, path));
        remove_name(parent, name)
    }

    /// Opens the directory `path`, making what is missing; returns where it really is. It is then `self.parent`.
    fn open_parent(&mut self, path: &[u8]) -> io::Result<TreePath> {
        if let Some((cached, _)) = &self.parent
            && cached == path
        {
            return Ok(path.to_vec());
        }
        let mut here = rustix::fs::openat(self.root, ".", DIRECTORY, Mode::empty())?;
        let mut at: TreePath = Vec::new();
        for name in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            let next = join(&at, name);
            here = match rustix::fs::openat(&here, name, DIRECTORY, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::LOOP | Errno::NOTDIR) if self.own.contains(&next) => {
                    let (fd, real) = self.follow(&next)?;
                    at = real;
                    here = fd;
                    continue;
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    self.remove(here.as_fd(), &next, name)?;
                    self.make_directory(here.as_fd(), &next, name)?
                }
                Err(Errno::NOENT) => self.make_directory(here.as_fd(), &next, name)?,
                Err(errno) => return Err(errno.into()),
            };
            self.own.insert(next.clone());
            at = next;
        }
        let real = at.clone();
        self.parent = Some((at, here));
        Ok(real)
    }

    /// The directory that a link of the layer itself leads to, inside the root.
    fn follow(&self, link: &[u8]) -> io::Result<(OwnedFd, TreePath)> {
        let fd =
            resolve::open_in_root(self.root, Path::new(OsStr::from_bytes(link)), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let where_is = |fd: BorrowedFd<'_>| {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
            rustix::fs::readlink(path, Vec::new()).map(|text| text.into_bytes())
        };
        let (root, found) = (where_is(self.root)?, where_is(fd.as_fd())?);
        let below = found.strip_prefix(root.as_slice()).ok_or(Errno::XDEV)?;
        Ok((fd, below.strip_prefix(b"/").unwrap_or(below).to_vec()))
    }

    fn make_directory(&mut self, parent: BorrowedFd<'_>, path: &[u8], name: &[u8]) -> Result<OwnedFd, Errno> {
        rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
        self.directories.insert(path.to_vec(), (directory_mode(self.options.format, 0o755), epoch()));
        rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
    }

    /// Makes room for a file at `path`; what was there goes. Returns the parent.
    fn clear(&mut self, path: &[u8], name: &[u8]) -> io::Result<OwnedFd> {
        let (_, parent) = self.parent.as_ref().expect("open_parent came before");
        let parent = rustix::io::fcntl_dupfd_cloexec(parent, 3)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) => drop(self.changed.remove(path)),
            Err(Errno::NOENT) => {}
            Err(_) => self.remove(parent.as_fd(), path, name)?,
        }
        Ok(parent)
    }

    fn place_root<R: Read>(&mut self, entry: &tar::Entry<'_, R>) -> io::Result<()> {
        let mode = entry.header().mode()?;
        let stored = directory_mode(self.options.format, mode);
        self.directories.insert(Vec::new(), (stored, mtime_of(entry)?));
        Ok(())
    }

    fn place_directory<R: Read>(&mut self, path: &[u8], name: &[u8], entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let (_, parent) = self.parent.as_ref().expect("open_parent came before");
        let parent = rustix::io::fcntl_dupfd_cloexec(parent, 3)?;
        let directory = match rustix::fs::openat(&parent, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => self.make_directory(parent.as_fd(), path, name)?,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                self.remove(parent.as_fd(), path, name)?;
                self.make_directory(parent.as_fd(), path, name)?
            }
            Err(errno) => return Err(errno.into()),
        };
        set_xattrs(&directory, entry)?;
        let mode = directory_mode(self.options.format, entry.header().mode()?);
        self.directories.insert(path.to_vec(), (mode, mtime_of(entry)?));
        self.own.insert(path.to_vec());
        self.note_change(path, mode, entry)
    }

    fn place_file<R: Read>(&mut self, path: &[u8], name: &[u8], entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let parent = self.clear(path, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        let mut buffer = [0; 64 << 10];
        loop {
            let count = entry.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            self.bytes += count as u64;
            if self.bytes > self.options.max_bytes {
                return Ok(());
            }
            file.write_all(&buffer[..count])?;
        }
        set_xattrs(&file, entry)?;
        let mode = file_mode(self.options.format, entry.header().mode()?);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        let time = mtime_of(entry)?;
        rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
        self.own.insert(path.to_vec());
        self.note_change(path, mode, entry)
    }

    fn place_symlink<R: Read>(
        &mut self,
        path: &[u8],
        name: &[u8],
        target: &[u8],
        entry: &tar::Entry<'_, R>,
    ) -> io::Result<()> {
        let parent = self.clear(path, name)?;
        rustix::fs::symlinkat(target, &parent, name)?;
        let time = mtime_of(entry)?;
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        self.own.insert(path.to_vec());
        Ok(())
    }

    /// Links descriptor to descriptor; a link to a symbolic link becomes an equal one, for which linkat(2) serves as well.
    fn place_hard_link(&mut self, path: &[u8], name: &[u8], target: &[u8]) -> io::Result<()> {
        let parent = self.clear(path, name)?;
        let (above, last) = split(target);
        let resolved = Path::new(OsStr::from_bytes(above));
        let directory = match above.is_empty() {
            true => rustix::fs::openat(self.root, ".", DIRECTORY, Mode::empty())?,
            false => resolve::open_in_root(self.root, resolved, OFlags::RDONLY | OFlags::DIRECTORY)?,
        };
        rustix::fs::linkat(&directory, last, &parent, name, AtFlags::empty())?;
        self.own.insert(path.to_vec());
        if let Some(same) = self.changed.get(target).cloned() {
            self.changed.insert(path.to_vec(), ChangedEntry { path: path.to_vec(), ..same });
        }
        Ok(())
    }

    fn note_change<R: Read>(&mut self, path: &[u8], stored: u32, entry: &tar::Entry<'_, R>) -> io::Result<()> {
        let header = entry.header();
        let mode = header.mode()? & 0o7777;
        let (uid, gid) = (header.uid()?, header.gid()?);
        self.changed.remove(path);
        if mode != stored || uid != 0 || gid != 0 {
            self.changed.insert(path.to_vec(), ChangedEntry { path: path.to_vec(), mode, uid, gid });
        }
        Ok(())
    }

    /// Sets modes and times of directories, deepest first, and counts.
    pub fn finish(mut self) -> Result<Flattened, ExtractError> {
        let mut counts = (0, 0);
        let finished = count(self.root, &mut counts).and_then(|()| {
            let mut deepest_first: Vec<_> = std::mem::take(&mut self.directories).into_iter().collect();
            deepest_first.sort_by_key(|(path, _)| {
                std::cmp::Reverse(path.iter().filter(|b| **b == b'/').count() + usize::from(!path.is_empty()))
            });
            deepest_first.iter().try_for_each(|(path, (mode, time))| self.set_directory(path, *mode, *time))
        });
        finished.map_err(|errno| ExtractError::Tree(errno.into()))?;
        let (entries, tree_bytes) = counts;
        let changed = self.changed.into_values().collect();
        Ok(Flattened { entries, tree_bytes, changed, skipped_devices: self.skipped_devices })
    }

    fn set_directory(&self, path: &[u8], mode: u32, time: Timespec) -> Result<(), Errno> {
        let directory = match path.is_empty() {
            true => rustix::fs::openat(self.root, ".", DIRECTORY, Mode::empty())?,
            false => resolve::open_in_root(
                self.root,
                Path::new(OsStr::from_bytes(path)),
                OFlags::RDONLY | OFlags::DIRECTORY,
            )?,
        };
        rustix::fs::futimens(&directory, &Timestamps { last_access: time, last_modification: time })?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))
    }
}

enum Failed {
    Entry(ExtractError),
    Io(io::Error),
}

fn io_failed(errno: Errno) -> Failed {
    Failed::Io(errno.into())
}

fn directory_mode(format: TreeFormat, mode: u32) -> u32 {
    match format {
        TreeFormat::Private1 => mode & 0o1777 | 0o700,
        TreeFormat::Shared1 => mode & 0o1777 | 0o700 | 0o555,
    }
}

fn file_mode(format: TreeFormat, mode: u32) -> u32 {
    match format {
        TreeFormat::Private1 => mode & 0o1777 | 0o400,
        TreeFormat::Shared1 if mode & 0o111 != 0 => mode & 0o1777 | 0o555,
        TreeFormat::Shared1 => mode & 0o1777 | 0o444,
    }
}

fn epoch() -> Timespec {
    Timespec { tv_sec: 0, tv_nsec: 0 }
}

/// The time of an entry: pax `mtime` with its fraction, else the header's.
fn mtime_of<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<Timespec> {
    let seconds = entry.header().mtime()?;
    Ok(Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 })
}

/// Keeps `user.*` attributes; what the file system does not take is left out.
fn set_xattrs<R: Read>(file: impl AsFd, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        let value = extension.value_bytes();
        if !name.starts_with(b"user.") || name.starts_with(b"user.overlay.") || value.len() > MAX_XATTR_BYTES {
            continue;
        }
        match rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::RANGE | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Components joined by single `/`: `.` and empty ones go, `..` and NUL are refused.
fn normal(raw: &[u8]) -> Result<TreePath, &'static str> {
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return Err("which leaves the root");
        }
        if part.contains(&0) {
            return Err("whose name holds a NUL");
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    Ok(path)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn join(above: &[u8], name: &[u8]) -> TreePath {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

fn is_below(path: &[u8], top: &[u8]) -> bool {
    path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with(b"/"))
}

fn remove_name(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let inner = entry.file_name().to_bytes();
        if inner != b"." && inner != b".." {
            remove_name(directory.as_fd(), inner)?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn count(directory: BorrowedFd<'_>, (entries, bytes): &mut (u64, u64)) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        *entries += 1;
        let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                let mut inner = (0, 0);
                count(rustix::fs::openat(directory, name, DIRECTORY, Mode::empty())?.as_fd(), &mut inner)?;
                *entries += inner.0;
                *bytes += inner.1;
            }
            FileType::RegularFile => *bytes += status.st_size as u64,
            _ => {}
        }
    }
    Ok(())
}
