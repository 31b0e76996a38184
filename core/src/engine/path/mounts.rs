//! The bind table: guest directories and files, and the host's behind them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Result;

/// `f_type` of procfs in statfs(2).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// A host directory or file at a place of the guest.
#[derive(Debug)]
pub struct Mount {
    /// Canonical guest path without a slash at its end: the root is empty.
    guest: Vec<u8>,
    /// Canonical host path, likewise.
    host: Vec<u8>,
    fd: OwnedFd,
    /// No other mount of the container has it.
    id: u32,
    read_only: bool,
    is_directory: bool,
    is_proc: bool,
    is_immutable: bool,
}

impl Mount {
    fn open(guest: &[u8], host: &Path, read_only: bool) -> Result<Self> {
        let host = std::fs::canonicalize(host)
            .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))?;
        let fd = rustix::fs::open(&host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory;
        let is_proc = rustix::fs::fstatfs(&fd)?.f_type as i64 == PROC_SUPER_MAGIC;
        let host = match host.as_os_str().as_bytes() {
            b"/" => Vec::new(),
            path => path.to_vec(),
        };
        Ok(Self { guest: guest.to_vec(), host, fd, id: 0, read_only, is_directory, is_proc, is_immutable: false })
    }

    /// The host path behind it; empty for the host's root.
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// Where it is in the guest; empty for the root.
    pub fn guest(&self) -> &[u8] {
        &self.guest
    }

    /// Its root, as an `O_PATH` descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What tells it from the other mounts of the container.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether nothing below it may change.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether it is a directory of procfs, whose links lead where no text says.
    pub fn is_proc(&self) -> bool {
        self.is_proc
    }

    /// Whether nobody at all changes it while it is used, as a shared rootfs: what was seen once holds.
    pub fn is_immutable(&self) -> bool {
        self.is_immutable
    }
}

/// All mounts of one container.
#[derive(Debug)]
pub struct Mounts {
    /// The longest guest path first, so the first that fits is the innermost; the root is last.
    list: Vec<Mount>,
    last_id: u32,
}

impl Mounts {
    /// Begins with `tree` as the root. An immutable one is also read-only.
    ///
    /// # Errors
    /// Those of realpath(3) and open(2).
    pub fn new(tree: &Path, immutable: bool) -> Result<Self> {
        let mut root = Mount::open(b"", tree, immutable)?;
        root.is_immutable = immutable;
        Ok(Self { list: vec![root], last_id: 0 })
    }

    /// Puts the host path `source` at `guest`, a canonical guest path; one that is there already is replaced, and what
    /// lies below it is hidden.
    ///
    /// # Errors
    /// Those of realpath(3) and open(2).
    pub fn add(&mut self, guest: &[u8], source: &Path, read_only: bool) -> Result<()> {
        let mut mount = Mount::open(guest, source, read_only)?;
        self.last_id += 1;
        mount.id = self.last_id;
        self.list.retain(|other| other.guest.is_empty() || rest_below(guest, &other.guest).is_none());
        let at = self.list.iter().position(|other| other.guest.len() < guest.len()).unwrap_or(self.list.len() - 1);
        self.list.insert(at, mount);
        Ok(())
    }

    /// The innermost mount that the canonical guest path lies in, and the rest of the path: empty, or `/…`.
    pub fn find<'path>(&self, guest: &'path [u8]) -> (&Mount, &'path [u8]) {
        self.list
            .iter()
            .find_map(|mount| rest_below(&mount.guest, guest).map(|rest| (mount, rest)))
            .expect("the root fits every path")
    }

    /// The guest path of a canonical host path, if the guest sees it.
    pub fn guest_of(&self, host: &[u8]) -> Option<Vec<u8>> {
        let host = if host == b"/" { b"" } else { host };
        let mut fits: Vec<_> =
            self.list.iter().filter_map(|mount| Some((mount, rest_below(&mount.host, host)?))).collect();
        fits.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.host.len()));
        fits.into_iter().find_map(|(mount, rest)| {
            let guest = [&mount.guest, rest].concat();
            // Another mount may hide it there.
            std::ptr::eq(self.find(&guest).0, mount).then_some(guest)
        })
    }

    /// Whether the directory entry `name`, in whatever directory, may be the place of a mount.
    pub fn is_mount_name(&self, name: &[u8]) -> bool {
        self.list.iter().any(|mount| mount.guest.rsplit(|byte| *byte == b'/').next() == Some(name))
    }

    /// Whether `guest` is the place of a mount itself.
    pub fn is_mount_point(&self, guest: &[u8]) -> bool {
        self.list.iter().any(|mount| mount.guest == guest)
    }

    /// Whether every path of the guest may be written to, as far as we say.
    pub fn all_writable(&self) -> bool {
        self.list.iter().all(|mount| !mount.read_only)
    }

    /// How many there are, with the root.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether the mount is a file.
    pub(super) fn is_file(mount: &Mount) -> bool {
        !mount.is_directory
    }
}

/// What is left of `path` below `top`, `None` if it is not there.
fn rest_below<'path>(top: &[u8], path: &'path [u8]) -> Option<&'path [u8]> {
    path.strip_prefix(top).filter(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_takes_a_path_and_gives_it_back() {
        let host = tempfile::tempdir().unwrap();
        let host = host.path().canonicalize().unwrap();
        for directory in ["root", "data/deep", "other"] {
            std::fs::create_dir_all(host.join(directory)).unwrap();
        }
        let mut mounts = Mounts::new(&host.join("root"), true).unwrap();
        mounts.add(b"/data", &host.join("data"), false).unwrap();
        mounts.add(b"/data/deep", &host.join("other"), true).unwrap();
        for (guest, behind) in [
            ("/", "root/"),
            ("", "root"),
            ("/etc/x", "root/etc/x"),
            ("/data", "data"),
            ("/database", "root/database"),
            ("/data/x", "data/x"),
            ("/data/deep/x", "other/x"),
            ("/data/deeper", "data/deeper"),
        ] {
            let (mount, rest) = mounts.find(guest.as_bytes());
            let found = [mount.host(), rest].concat();
            assert_eq!(String::from_utf8_lossy(&found), host.join(behind).to_str().unwrap(), "{guest}");
            if guest != "/" {
                assert_eq!(mounts.guest_of(&found).as_deref(), Some(guest.as_bytes()), "{guest}");
            }
        }
        let hidden = host.join("data/deep/x");
        assert_eq!(mounts.guest_of(hidden.as_os_str().as_bytes()), None, "another mount hides it");
        assert_eq!(mounts.guest_of(b"/"), None);
        mounts.add(b"/data", &host.join("other"), false).unwrap();
        assert_eq!(mounts.find(b"/data/deep/x").1, b"/deep/x", "a later mount hides those below");
    }
}
