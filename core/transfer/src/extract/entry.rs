//! One entry of a layer: ustar, GNU and pax headers, read with caps.
//!
//! What the header blocks hold is POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Extended Header", and GNU tar's
//! manual, "Basic Tar Format" and "Storing Sparse Files". Extensions are capped at 1 MiB, extended attributes of an entry
//! at 64 KiB; sizes that contradict each other are refused, since two readers would see two archives (CVE-2025-62518).

use std::io;

use rustix::fs::Timespec;
use udocker_core::text::escape;

use super::header::{BLOCK, ByteSource, MAX_EXTENSION_BYTES, ended, number, unsigned, until_nul};
use super::pax::Pax;
use super::sparse::{self, SparseMap};

/// Longest target of a link that the kernel takes.
const MAX_TARGET_BYTES: usize = 4095;
/// From here on a size does not fit into the eleven octal digits of a header.
const OCTAL_LIMIT: u64 = 1 << 33;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// Device or fifo: noted, never made.
    Device,
}

/// An entry as the archive has it; `data_bytes` of the stream follow it, and then padding to a whole block.
#[derive(Debug)]
pub(super) struct Entry {
    pub path: Vec<u8>,
    pub kind: EntryKind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Timespec,
    pub link: Vec<u8>,
    /// `user.*` only.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub data_bytes: u64,
    /// Bytes of the extension headers before it.
    pub extension_bytes: u64,
    /// Bytes to skip behind the data.
    pub padding: u64,
    pub sparse: Option<SparseMap>,
}

/// An entry cannot be read.
#[derive(Debug)]
pub(super) enum EntryError {
    /// The stream failed, or what it holds is no tar archive.
    Stream(io::Error),
    /// This entry is refused.
    Bad { entry: String, what: &'static str },
}

impl From<io::Error> for EntryError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

fn damaged(what: &'static str) -> EntryError {
    EntryError::Stream(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Reads the next entry's headers; `None` at the end of the archive.
pub(super) fn next_entry(source: &mut impl ByteSource) -> Result<Option<Entry>, EntryError> {
    let mut long_name = None;
    let mut long_link = None;
    let mut pax = Pax::default();
    // Of all of one entry together: each alone may be small, and their number has no bound.
    let mut extended = 0;
    loop {
        let Some(header) = next_header(source)? else {
            return match long_name.is_some() || long_link.is_some() || pax.seen {
                true => Err(EntryError::Stream(ended())),
                false => Ok(None),
            };
        };
        let old = header.as_old();
        let size = unsigned(&old.size).ok_or_else(|| damaged("the size of an entry is no number"))?;
        let mut extension = |source: &mut _| -> Result<Vec<u8>, EntryError> {
            extended = size.saturating_add(extended).saturating_add(BLOCK as u64);
            if extended > MAX_EXTENSION_BYTES + BLOCK as u64 {
                return Err(damaged("an extension header of more than 1 MiB"));
            }
            Ok(ByteSource::read_padded(source, size)?)
        };
        match old.linkflag[0] {
            b'L' => long_name = Some(until_nul(&extension(source)?).to_vec()),
            b'K' => long_link = Some(until_nul(&extension(source)?).to_vec()),
            b'x' | b'X' => pax.read(&extension(source)?).map_err(damaged)?,
            // Global records and volume labels say nothing about files.
            b'g' | b'V' => drop(extension(source)?),
            _ => {
                let entry = build(source, &header, size, long_name, long_link, pax)?;
                return Ok(Some(Entry { extension_bytes: extended, ..entry }));
            }
        }
    }
}

fn next_header(source: &mut impl ByteSource) -> Result<Option<tar::Header>, EntryError> {
    let mut header = tar::Header::new_old();
    match source.fill(header.as_mut_bytes())? {
        // Archives without the closing zeros are common enough.
        0 => return Ok(None),
        BLOCK => {}
        _ => return Err(EntryError::Stream(ended())),
    }
    if header.as_bytes().iter().all(|byte| *byte == 0) {
        let mut second = [0; BLOCK];
        let count = source.fill(&mut second)?;
        return match second[..count].iter().all(|byte| *byte == 0) {
            true => Ok(None),
            false => Err(damaged("a block of zeros stands in the middle of the archive")),
        };
    }
    let bytes = header.as_bytes();
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    let field: u32 = bytes[148..156].iter().map(|byte| u32::from(*byte)).sum();
    if unsigned(&header.as_old().cksum) != Some(u64::from(sum - field + 8 * u32::from(b' '))) {
        return Err(damaged("this is no tar archive, or a header of it is damaged (wrong checksum)"));
    }
    Ok(Some(header))
}

fn build(
    source: &mut impl ByteSource,
    header: &tar::Header,
    size: u64,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    mut pax: Pax,
) -> Result<Entry, EntryError> {
    let old = header.as_old();
    let path = pax.path.take().or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
    let bad = |what| EntryError::Bad { entry: escape_name(&path), what };
    let kind = match old.linkflag[0] {
        // Before ustar a directory was a file whose name ends in a slash.
        b'0' | 0 | b'7' if path.ends_with(b"/") => EntryKind::Directory,
        b'0' | 0 | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' | b'4' | b'6' => EntryKind::Device,
        b'5' | b'D' => EntryKind::Directory,
        _ => return Err(bad("of a kind that is not known")),
    };
    let link = pax.link.take().or(long_link).unwrap_or_else(|| until_nul(&old.linkname).to_vec());
    if matches!(kind, EntryKind::Symlink | EntryKind::HardLink) && (link.is_empty() || link.contains(&0)) {
        return Err(bad("a link with an empty or broken target"));
    }
    if link.len() > MAX_TARGET_BYTES {
        return Err(bad("a link with a target of more than 4095 bytes"));
    }
    let stored = match pax.size {
        None => size,
        Some(told) if told == size => told,
        // Writers put nothing, or all ones, into a field that is too small.
        Some(told) if told >= OCTAL_LIMIT && (size == 0 || size == OCTAL_LIMIT - 1) => told,
        Some(_) => return Err(bad("whose two sizes contradict each other")),
    };
    // Links, devices and directories have no data, whatever some writers put into their size. What is a directory by its
    // slash alone has: other readers skip them, and must not see another archive (CVE-2025-62518).
    let stored = match old.linkflag[0] {
        b'1'..=b'6' => 0,
        _ => stored,
    };
    let mut data_bytes = stored;
    let sparse = match (kind, old.linkflag[0], header.as_gnu()) {
        (EntryKind::File, b'S', Some(gnu)) => Some(sparse::read_old_gnu(source, gnu)),
        (EntryKind::File, b'S', None) => return Err(bad("a sparse file without GNU's header")),
        (EntryKind::File, _, _) => sparse::read_pax(source, &pax.sparse, &mut data_bytes),
        _ => None,
    };
    let sparse = match sparse {
        None => None,
        Some(map) => Some(map?.ok_or_else(|| bad("whose map of holes is wrong"))?),
    };
    if sparse.as_ref().is_some_and(|map| !map.is_of(data_bytes)) {
        return Err(bad("whose map of holes is wrong"));
    }
    let number = |field: &[u8]| number(field).ok_or_else(|| bad("with a field that is no number"));
    Ok(Entry {
        kind,
        mode: number(&old.mode)? as u32 & 0o7777,
        uid: pax.uid.unwrap_or(number(&old.uid)? as u64),
        gid: pax.gid.unwrap_or(number(&old.gid)? as u64),
        mtime: match pax.mtime {
            Some(time) => time,
            None => Timespec { tv_sec: number(&old.mtime)?, tv_nsec: 0 },
        },
        link,
        xattrs: pax.xattrs,
        data_bytes,
        extension_bytes: 0,
        padding: stored.next_multiple_of(BLOCK as u64) - stored,
        sparse,
        path,
    })
}

/// A name for a message, cut where no file system would take more of it.
pub(super) fn escape_name(name: &[u8]) -> String {
    const SHOWN_BYTES: usize = 4096;
    match name.get(..SHOWN_BYTES) {
        Some(start) if name.len() > SHOWN_BYTES => format!("{}…", escape(start)),
        _ => escape(name),
    }
}
