//! A tree on disk, or an upper layer over one, entry by entry into a tar.
//!
//! The two are read side by side and nothing is made of them: what is in the upper wins; a device 0/0 or the attribute
//! `user.overlay.whiteout` hides what the lower has; `user.overlay.opaque=y` hides a directory's contents (kernel:
//! `Documentation/filesystems/overlayfs.rst`). Entries come in the order of their names' bytes. Nothing is resolved: each
//! is one name below one descriptor, links are not followed and mounts not entered.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::EntryType;
use udocker_core::store::ChangedEntry;
use udocker_core::text::escape;

use super::error::file_error;
use super::tar_writer::{Meta, TarWriter};
use super::{ArchiveError, Output};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// See the module's head.
pub(super) struct TreeWriter<'a> {
    tar: TarWriter<&'a mut Output>,
    failed: Box<dyn Fn(io::Error) -> ArchiveError>,
    /// Of files with several names, the first one in the archive.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// What could not be read, escaped.
    unreadable: Vec<String>,
}

/// One tree to write.
pub(super) struct Source<'a> {
    /// Its name in the archive; empty if it is the archive's root.
    pub name: &'a [u8],
    pub lower: &'a Path,
    pub upper: Option<&'a Path>,
    /// Names at its top that are left out.
    pub without: &'a [&'a str],
    /// If the lower is an image's: modes and owners of the image, by path, where they are not those on disk and root.
    pub originals: Option<&'a HashMap<Vec<u8>, ChangedEntry>>,
}

/// A directory of the lower and of the upper tree, at least one of which is there.
struct Level {
    lower: Option<OwnedFd>,
    upper: Option<OwnedFd>,
}

#[derive(Default)]
struct Found {
    lower: Option<Stat>,
    upper: Option<Stat>,
    hidden: bool,
}

impl<'a> TreeWriter<'a> {
    /// Begins an archive.
    pub fn new(output: &'a mut Output) -> Self {
        let failed = Box::new(output.failed());
        Self { tar: TarWriter::new(output), failed, links: HashMap::new(), unreadable: Vec::new() }
    }

    /// Writes a tree.
    pub fn add(&mut self, source: &Source<'_>) -> Result<(), ArchiveError> {
        let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(file_error("open", path));
        let level = Level { lower: Some(open(source.lower)?), upper: source.upper.map(open).transpose()? };
        let status = |side: &Option<OwnedFd>| side.as_ref().map(rustix::fs::fstat).transpose();
        let failed = |errno: Errno| file_error("read", source.lower)(errno);
        let root = Found {
            lower: status(&level.lower).map_err(failed)?,
            upper: status(&level.upper).map_err(failed)?,
            hidden: false,
        };
        let name = if source.name.is_empty() { b"." } else { source.name };
        self.tar.directory(name, meta(&root, b"", source)).map_err(&self.failed)?;
        let devices = [&root.lower, &root.upper].map(|status| status.as_ref().map_or(0, |status| status.st_dev));
        self.directory(level, &devices, &mut Vec::new(), source)
    }

    /// Ends the archive; returns what could not be read.
    pub fn finish(self) -> Result<Vec<String>, ArchiveError> {
        self.tar.finish().map_err(self.failed)?;
        Ok(self.unreadable)
    }

    fn directory(
        &mut self,
        level: Level,
        devices: &[u64; 2],
        path: &mut Vec<u8>,
        source: &Source<'_>,
    ) -> Result<(), ArchiveError> {
        let shown = |path: &[u8]| PathBuf::from(format!("{}/{}", source.lower.display(), escape(path)));
        let entries = level.entries().map_err(|errno| file_error("list", &shown(path))(errno))?;
        for (name, found) in entries {
            if path.is_empty() && name.to_str().is_ok_and(|name| source.without.contains(&name)) {
                continue;
            }
            let length = path.len();
            path.extend(if length > 0 { &b"/"[..] } else { b"" });
            path.extend(name.to_bytes());
            match self.entry(&level, &name, &found, devices, path, source) {
                Err(Stop::Read(Errno::ACCESS | Errno::PERM)) => self.unreadable.push(escape(path)),
                // Something runs in the container, and removed it.
                Err(Stop::Read(Errno::NOENT)) => {}
                Err(Stop::Read(errno)) => return Err(file_error("read", &shown(path))(errno)),
                Err(Stop::Write(error)) => return Err((self.failed)(error)),
                Err(Stop::Below(error)) => return Err(error),
                Ok(()) => {}
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        level: &Level,
        name: &CStr,
        found: &Found,
        devices: &[u64; 2],
        path: &mut Vec<u8>,
        source: &Source<'_>,
    ) -> Result<(), Stop> {
        let Some((parent, status)) = level.winner(found) else { return Ok(()) };
        let full = if source.name.is_empty() { path.clone() } else { [source.name, b"/", path].concat() };
        let meta = meta(found, path, source);
        let kind = FileType::from_raw_mode(status.st_mode);
        if kind != FileType::Directory && status.st_nlink > 1 {
            let key = (status.st_dev, status.st_ino);
            if let Some(first) = self.links.get(&key) {
                return Ok(self.tar.special(&full, EntryType::Link, meta, first)?);
            }
            self.links.insert(key, full.clone());
        }
        match kind {
            FileType::Directory => {
                let below = level.open(name, found)?;
                self.tar.directory(&full, meta)?;
                let is_here = |status: &Option<Stat>, device| status.as_ref().is_none_or(|s| s.st_dev == device);
                if is_here(&found.lower, devices[0]) && is_here(&found.upper, devices[1]) {
                    self.directory(below, devices, path, source).map_err(Stop::Below)?;
                }
            }
            FileType::RegularFile => {
                let file = File::from(rustix::fs::openat(parent, name, FILE, Mode::empty())?);
                let size = rustix::fs::fstat(&file)?.st_size as u64;
                self.tar.disk_file(&full, meta, size, &file)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                self.tar.special(&full, EntryType::Symlink, meta, target.to_bytes())?;
            }
            FileType::Fifo => self.tar.special(&full, EntryType::Fifo, meta, b"")?,
            // A socket means nothing without its process, and devices are the host's.
            _ => {}
        }
        Ok(())
    }
}

/// Why an entry did not get into the archive.
enum Stop {
    Read(Errno),
    Write(io::Error),
    Below(ArchiveError),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Read(errno)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// What an entry's header tells: of an image's own entry as the image has it, else as it is on disk.
fn meta(found: &Found, path: &[u8], source: &Source<'_>) -> Meta {
    let status = found.upper.as_ref().or(found.lower.as_ref()).expect("an entry is somewhere");
    let on_disk = Meta {
        mode: status.st_mode & 0o7777,
        uid: status.st_uid.into(),
        gid: status.st_gid.into(),
        mtime: u64::try_from(status.st_mtime).unwrap_or(0),
    };
    let Some(originals) = source.originals else { return on_disk };
    let is_the_images = match (&found.lower, &found.upper) {
        (Some(_), None) => true,
        // A directory that is in the upper since something below it is.
        (Some(lower), Some(upper)) => is_directory(upper) && lower.st_mode == upper.st_mode,
        _ => false,
    };
    match originals.get(path) {
        _ if !is_the_images => on_disk,
        Some(original) => Meta { mode: original.mode, uid: original.uid, gid: original.gid, ..on_disk },
        None => Meta { uid: 0, gid: 0, ..on_disk },
    }
}

impl Level {
    fn entries(&self) -> Result<BTreeMap<CString, Found>, Errno> {
        let mut entries: BTreeMap<CString, Found> = BTreeMap::new();
        if let Some(upper) = &self.upper {
            let has_marks = attribute(upper, c"user.overlay.opaque") == Some(b'x');
            for (name, status) in list(upper)? {
                let kind = FileType::from_raw_mode(status.st_mode);
                let hidden = match kind {
                    FileType::CharacterDevice => status.st_rdev == 0,
                    FileType::RegularFile => has_marks && is_mark(upper, &name),
                    _ => false,
                };
                entries.insert(name, Found { upper: Some(status), lower: None, hidden });
            }
        }
        if let Some(lower) = &self.lower {
            for (name, status) in list(lower)? {
                let found = entries.entry(name).or_default();
                let merges = found.upper.as_ref().is_none_or(is_directory) && is_directory(&status);
                if found.upper.is_none() || merges && !found.hidden {
                    found.lower = Some(status);
                }
            }
        }
        entries.retain(|_, found| !found.hidden);
        Ok(entries)
    }

    /// The entry that is seen, and the directory that it is in.
    fn winner<'b>(&'b self, found: &'b Found) -> Option<(&'b OwnedFd, &'b Stat)> {
        let side = |directory: &'b Option<OwnedFd>, status: &'b Option<Stat>| directory.as_ref().zip(status.as_ref());
        side(&self.upper, &found.upper).or(side(&self.lower, &found.lower))
    }

    /// The directory `name`.
    fn open(&self, name: &CStr, found: &Found) -> Result<Self, Errno> {
        let open = |directory: &Option<OwnedFd>, status: &Option<Stat>| match (directory, status) {
            (Some(directory), Some(_)) => rustix::fs::openat(directory, name, DIRECTORY, Mode::empty()).map(Some),
            _ => Ok(None),
        };
        let upper = open(&self.upper, &found.upper)?;
        let is_opaque = upper.as_ref().is_some_and(|upper| attribute(upper, c"user.overlay.opaque") == Some(b'y'));
        Ok(Self { lower: if is_opaque { None } else { open(&self.lower, &found.lower)? }, upper })
    }
}

fn list(directory: &OwnedFd) -> Result<Vec<(CString, Stat)>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        match rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            // Something runs in the container, and removed it.
            Err(Errno::NOENT) => {}
            status => entries.push((name, status?)),
        }
    }
    Ok(entries)
}

fn is_directory(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::Directory
}

fn is_mark(directory: &OwnedFd, name: &CStr) -> bool {
    let file = rustix::fs::openat(directory, name, FILE, Mode::empty());
    // A mark is readable; what is not is a file of the user's.
    file.is_ok_and(|file| rustix::fs::fgetxattr(&file, c"user.overlay.whiteout", &mut [0u8; 8][..]).is_ok())
}

/// The first byte of an attribute.
fn attribute(file: &OwnedFd, name: &CStr) -> Option<u8> {
    let mut value = [0; 8];
    let count = rustix::fs::fgetxattr(file, name, &mut value[..]).ok()?;
    value[..count].first().copied()
}
