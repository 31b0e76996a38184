//! Writing a tar in GNU's format: long names, byte-exact links, sparse files; ended only when it is whole.
//!
//! The `tar` crate's builder ends an archive when it is dropped, so that one which broke off looks whole, and it rewrites
//! the targets of links. Only its headers are used here.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::fs::SeekFrom;
use tar::{EntryType, GnuExtSparseHeader, Header};

const BLOCK: u64 = 512;
const NAME_BYTES: usize = 100;

/// What the header of an entry tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
}

/// See the module's head.
pub(super) struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// A directory; `name` without a `/` at its end.
    pub fn directory(&mut self, name: &[u8], meta: Meta) -> io::Result<()> {
        let name = [name, b"/"].concat();
        self.header(&name, EntryType::Directory, meta, b"", 0)
    }

    /// A symbolic link, a hard link to an earlier entry, or a fifo.
    pub fn special(&mut self, name: &[u8], kind: EntryType, meta: Meta, target: &[u8]) -> io::Result<()> {
        self.header(name, kind, meta, target, 0)
    }

    /// A file of exactly `size` bytes; where `data` has fewer, zeros follow.
    pub fn file(&mut self, name: &[u8], meta: Meta, size: u64, data: impl Read) -> io::Result<()> {
        self.header(name, EntryType::Regular, meta, b"", size)?;
        self.bytes(data, size)?;
        self.pad(size)
    }

    /// A file as it lies on disk, its holes as holes.
    pub fn disk_file(&mut self, name: &[u8], meta: Meta, size: u64, file: &File) -> io::Result<()> {
        let segments = match is_hollow(file, size)? {
            true => data_segments(file, size)?,
            false => return self.file(name, meta, size, file),
        };
        let on_disk = segments.iter().map(|(_, length)| length).sum();
        let mut header = self.plain_header(name, EntryType::GNUSparse, meta, b"", on_disk)?;
        let gnu = header.as_gnu_mut().expect("the header is GNU's");
        gnu.set_real_size(size);
        let (first, rest) = segments.split_at(segments.len().min(gnu.sparse.len()));
        for ((offset, length), place) in first.iter().zip(&mut gnu.sparse) {
            place.set_offset(*offset);
            place.set_length(*length);
        }
        gnu.set_is_extended(!rest.is_empty());
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        let mut rest = rest.chunks(GnuExtSparseHeader::new().sparse.len()).peekable();
        while let Some(chunk) = rest.next() {
            let mut extension = GnuExtSparseHeader::new();
            for ((offset, length), place) in chunk.iter().zip(&mut extension.sparse) {
                place.set_offset(*offset);
                place.set_length(*length);
            }
            extension.set_is_extended(rest.peek().is_some());
            self.out.write_all(extension.as_bytes())?;
        }
        for (offset, length) in segments {
            rustix::fs::seek(file, SeekFrom::Start(offset))?;
            self.bytes(file, length)?;
        }
        self.pad(on_disk)
    }

    /// Ends the archive and gives its writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(self.out)
    }

    fn header(&mut self, name: &[u8], kind: EntryType, meta: Meta, target: &[u8], size: u64) -> io::Result<()> {
        let mut header = self.plain_header(name, kind, meta, target, size)?;
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    /// A header without its checksum; what is too long for it is written before it.
    fn plain_header(
        &mut self,
        name: &[u8],
        kind: EntryType,
        meta: Meta,
        target: &[u8],
        size: u64,
    ) -> io::Result<Header> {
        for (text, kind) in [(target, EntryType::GNULongLink), (name, EntryType::GNULongName)] {
            if text.len() > NAME_BYTES {
                let mut header = Header::new_gnu();
                let label = b"././@LongLink";
                header.as_old_mut().name[..label.len()].copy_from_slice(label);
                header.set_entry_type(kind);
                header.set_mode(0o644);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(0);
                header.set_size(text.len() as u64 + 1);
                header.set_cksum();
                self.out.write_all(header.as_bytes())?;
                self.out.write_all(text)?;
                self.out.write_all(b"\0")?;
                self.pad(text.len() as u64 + 1)?;
            }
        }
        let mut header = Header::new_gnu();
        let short = |text: &[u8]| text.len().min(NAME_BYTES);
        let old = header.as_old_mut();
        old.name[..short(name)].copy_from_slice(&name[..short(name)]);
        old.linkname[..short(target)].copy_from_slice(&target[..short(target)]);
        header.set_entry_type(kind);
        header.set_mode(meta.mode);
        header.set_uid(meta.uid);
        header.set_gid(meta.gid);
        header.set_mtime(meta.mtime);
        header.set_size(size);
        Ok(header)
    }

    fn bytes(&mut self, data: impl Read, size: u64) -> io::Result<()> {
        let copied = io::copy(&mut data.take(size), &mut self.out)?;
        io::copy(&mut io::repeat(0).take(size - copied), &mut self.out).map(drop)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = (BLOCK - size % BLOCK) % BLOCK;
        self.out.write_all(&[0; BLOCK as usize][..rest as usize])
    }
}

/// Whether a file takes less room than its size.
fn is_hollow(file: &File, size: u64) -> io::Result<bool> {
    Ok((rustix::fs::fstat(file)?.st_blocks as u64) * 512 < size)
}

/// Where a file has data, and at the end `(size, 0)`, as GNU tar ends its maps.
fn data_segments(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= end {
            break;
        }
        segments.push((start, end - start));
        at = end;
    }
    segments.push((size, 0));
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    const META: Meta = Meta { mode: 0o644, uid: 7, gid: 3_000_000, mtime: 0 };

    #[test]
    fn long_names_and_targets_stay_byte_for_byte() {
        let long = [b"d/".repeat(80).as_slice(), b"\xffname"].concat();
        let target = b"..//./x/".repeat(30);
        let mut writer = TarWriter::new(Vec::new());
        writer.directory(b"dir", META).unwrap();
        writer.file(&long, META, 5, &b"abc"[..]).unwrap();
        writer.special(b"link", EntryType::Symlink, META, &target).unwrap();
        writer.special(b"short", EntryType::Symlink, META, b"a//./b/").unwrap();
        let bytes = writer.finish().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (7, 3_000_000));
            seen.push((entry.path_bytes().into_owned(), entry.link_name_bytes().map(|n| n.into_owned()), data));
        }
        assert_eq!(
            seen,
            [
                (b"dir/".to_vec(), None, vec![]),
                (long, None, b"abc\0\0".to_vec()),
                (b"link".to_vec(), Some(target), vec![]),
                (b"short".to_vec(), Some(b"a//./b/".to_vec()), vec![]),
            ]
        );
    }

    #[test]
    fn holes_are_not_written_out() {
        let file = tempfile::tempfile().unwrap();
        let places: Vec<u64> = (0..60).map(|n| n << 20).collect();
        places.iter().for_each(|at| file.write_all_at(b"data", *at).unwrap());
        let size = (60 << 20) + 11;
        file.set_len(size).unwrap();
        let mut writer = TarWriter::new(Vec::new());
        writer.disk_file(b"hollow", META, size, &file).unwrap();
        let bytes = writer.finish().unwrap();
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        assert_eq!(data.len() as u64, size);
        assert!(places.iter().all(|at| data[*at as usize..].starts_with(b"data")));
    }
}
