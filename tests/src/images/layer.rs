//! One layer as a tar, written entry by entry.

use std::path::Path;

use tar::{Builder, EntryType, Header};

/// The time of entries that have no other: 2023-11-14 22:13:20 UTC.
pub const EPOCH: u64 = 1_700_000_000;

/// See the module's head. Entries lie in the tar in the order of the calls.
pub struct Layer {
    tar: Builder<Vec<u8>>,
    prefix: &'static str,
    time: u64,
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// An empty layer; names as `etc/passwd`.
    pub fn new() -> Self {
        Self { tar: Builder::new(Vec::new()), prefix: "", time: EPOCH }
    }

    /// An empty layer; names as `./etc/passwd`, as GNU tar writes them.
    pub fn dotted() -> Self {
        Self { prefix: "./", ..Self::new() }
    }

    /// The entries from here on have this time, in seconds.
    pub fn at(mut self, time: u64) -> Self {
        self.time = time;
        self
    }

    /// Adds a directory.
    pub fn directory(self, name: &str, mode: u32) -> Self {
        self.entry(name, EntryType::Directory, mode, "", b"")
    }

    /// Adds directories with mode 0755.
    pub fn directories(self, names: &[&str]) -> Self {
        names.iter().fold(self, |layer, name| layer.directory(name, 0o755))
    }

    /// Adds a file.
    pub fn file(self, name: &str, mode: u32, contents: impl AsRef<[u8]>) -> Self {
        self.entry(name, EntryType::Regular, mode, "", contents.as_ref())
    }

    /// Adds a symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, 0o777, target, b"")
    }

    /// Adds a hard link to an entry of this layer.
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        let target = format!("{}{target}", self.prefix);
        self.entry(name, EntryType::Link, 0o644, &target, b"")
    }

    /// Adds the mark that hides `name` of the layers below.
    pub fn whiteout(self, name: &str) -> Self {
        let name = match name.rsplit_once('/') {
            Some((parent, name)) => format!("{parent}/.wh.{name}"),
            None => format!(".wh.{name}"),
        };
        self.entry(&name, EntryType::Regular, 0o644, "", b"")
    }

    /// Adds the mark that hides what the layers below have in directory `name`.
    pub fn opaque(self, name: &str) -> Self {
        self.entry(&format!("{name}/.wh..wh..opq"), EntryType::Regular, 0o644, "", b"")
    }

    /// The next entry carries these pax records.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.tar.append_pax_extensions(records.iter().copied()).expect("a tar in memory");
        self
    }

    /// Adds any entry.
    pub fn entry(mut self, name: &str, kind: EntryType, mode: u32, target: &str, contents: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.time);
        header.set_size(contents.len() as u64);
        let name = format!("{}{name}", self.prefix);
        let done = if target.is_empty() {
            self.tar.append_data(&mut header, Path::new(&name), contents)
        } else {
            self.tar.append_link(&mut header, Path::new(&name), Path::new(target))
        };
        done.expect("a tar in memory");
        self
    }

    /// Returns the tar.
    pub fn finish(self) -> Vec<u8> {
        self.tar.into_inner().expect("a tar in memory")
    }
}
