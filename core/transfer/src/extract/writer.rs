//! Writers: each takes the jobs of its directories, and gives the finished files their modes and times.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use udocker_core::store::TreeFormat;

use super::blocks::Slice;
use super::sparse::SparseMap;
use super::tree::{Item, Placed, Tree};

/// What a writer does next.
pub(super) enum Job {
    /// Places an item and writes all its bytes, as a map says if it has holes.
    Place(Item, Vec<Slice>, Option<SparseMap>),
    /// Writes a part of a file that the decoder placed.
    Part(Arc<OpenFile>, Slice, u64),
}

impl Job {
    /// Layer and path, for messages.
    pub fn subject(&self) -> (usize, &[u8]) {
        match self {
            Self::Place(item, _, _) => (item.version.layer(), &item.path),
            Self::Part(file, _, _) => (file.item.version.layer(), &file.item.path),
        }
    }

    /// Does it.
    pub fn run(self, tree: &Tree, format: TreeFormat) -> io::Result<()> {
        match self {
            Self::Place(item, data, map) => {
                let Placed::File(mut file) = tree.place(&item)? else { return Ok(()) };
                match map {
                    None => data.iter().try_for_each(|slice| file.write_all(slice))?,
                    Some(map) => write_segments(&file, &data, &map)?,
                }
                finish(&file, &item, format)
            }
            Self::Part(open, slice, offset) => {
                open.file.write_all_at(&slice, offset)?;
                open.written(slice.len() as u64, format)
            }
        }
    }
}

/// Writes data that lie in `data` one after another to where `map` has them.
fn write_segments(file: &File, data: &[Slice], map: &SparseMap) -> io::Result<()> {
    let mut segments = map.segments.iter().copied();
    let mut segment = (0, 0);
    for slice in data {
        let mut rest: &[u8] = slice;
        while !rest.is_empty() {
            if segment.1 == 0 {
                segment = segments.next().expect("a map is of as many bytes as there are");
            }
            let count = rest.len().min(usize::try_from(segment.1).unwrap_or(usize::MAX));
            file.write_all_at(&rest[..count], segment.0)?;
            segment = (segment.0 + count as u64, segment.1 - count as u64);
            rest = &rest[count..];
        }
    }
    file.set_len(map.real_size)
}

/// A file that is written in parts, by whoever gets them.
pub(super) struct OpenFile {
    file: File,
    item: Item,
    missing: AtomicU64,
}

impl OpenFile {
    /// `bytes` are still to come.
    pub fn new(file: File, item: Item, bytes: u64) -> Self {
        Self { file, item, missing: AtomicU64::new(bytes) }
    }

    /// Counts bytes that are in the file; with the last ones the file is finished.
    pub fn written(&self, bytes: u64, format: TreeFormat) -> io::Result<()> {
        match self.missing.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            true => finish(&self.file, &self.item, format),
            false => Ok(()),
        }
    }

    /// Sets the size of a file with holes.
    pub fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}

fn finish(file: &File, item: &Item, format: TreeFormat) -> io::Result<()> {
    set_xattrs(file, &item.xattrs)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(file_mode(format, item.mode)))?;
    Ok(set_times(file, item.mtime)?)
}

pub(super) fn set_times(fd: impl AsFd, mtime: Timespec) -> Result<(), Errno> {
    rustix::fs::futimens(fd, &Timestamps { last_access: mtime, last_modification: mtime })
}

/// Keeps extended attributes; what the file system does not take is left out.
pub(super) fn set_xattrs(fd: impl AsFd, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Errno> {
    for (name, value) in xattrs {
        match rustix::fs::fsetxattr(&fd, &**name, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::RANGE | Errno::TOOBIG | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The mode of a file whose mode in the archive is `mode` (design notes, "Store").
pub(super) fn file_mode(format: TreeFormat, mode: u32) -> u32 {
    match format {
        TreeFormat::Private1 => mode & 0o1777 | 0o400,
        TreeFormat::Shared1 if mode & 0o111 != 0 => mode & 0o1755 | 0o555,
        TreeFormat::Shared1 => mode & 0o1755 | 0o444,
    }
}

/// The same for a directory.
pub(super) fn directory_mode(format: TreeFormat, mode: u32) -> u32 {
    match format {
        TreeFormat::Private1 => mode & 0o1777 | 0o700,
        TreeFormat::Shared1 => mode & 0o1755 | 0o755,
    }
}
