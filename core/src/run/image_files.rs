//! The account files that a spec is built from, read beneath the root that the run will have.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::engine::{RootPlan, RootWrite};
use crate::error::{ErrorKind, Explain};
use crate::sys::resolve;

/// Largest account file that is read, in bytes.
const MAX_ACCOUNT_BYTES: u64 = 1 << 20;
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// The accounts: the image's, or the host's with [`super::Accounts::Host`].
#[derive(Clone, Debug, Default)]
pub struct ImageFiles {
    /// /etc/passwd, at most 1 MiB; empty if absent.
    pub passwd: Vec<u8>,
    /// /etc/group, at most 1 MiB; empty if absent.
    pub group: Vec<u8>,
}

/// The accounts of an image or of the host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the accounts of the root {root}")]
pub struct ImageFilesError {
    root: PathBuf,
    #[source]
    source: io::Error,
}

impl Explain for ImageFilesError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::from_io(&self.source)
    }
}

impl ImageFiles {
    /// Reads the files of a root: regular ones only, links resolved inside; what is absent or unreadable is empty. What a
    /// layered container has changed wins.
    ///
    /// # Errors
    /// [`ImageFilesError`] if one of the root's directories cannot be opened.
    pub fn of_root(root: &RootPlan) -> Result<Self, ImageFilesError> {
        match &root.write {
            RootWrite::Layer { upper, .. } => Self::read(&root.tree, Some(upper)),
            _ => Self::read(&root.tree, None),
        }
    }

    /// Reads the host's files.
    ///
    /// # Errors
    /// As [`Self::of_root`].
    pub fn of_host() -> Result<Self, ImageFilesError> {
        Self::read(Path::new("/"), None)
    }

    fn read(root: &Path, upper: Option<&Path>) -> Result<Self, ImageFilesError> {
        let open = |path: &Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| ImageFilesError { root: path.into(), source: errno.into() })
        };
        let (directory, upper) = (open(root)?, upper.map(open).transpose()?);
        let read = |name: &str| match upper.as_ref().map_or(InUpper::Below, |upper| look(upper.as_fd(), name)) {
            InUpper::File(file) => contents(file),
            InUpper::Hidden => Vec::new(),
            InUpper::Below => {
                let path = Path::new("/etc").join(name);
                resolve::open_in_root(&directory, &path, OPEN).map(contents).unwrap_or_default()
            }
        };
        Ok(Self { passwd: read("passwd"), group: read("group") })
    }
}

/// What an overlay's upper directory says about a file in /etc.
enum InUpper {
    File(OwnedFd),
    Hidden,
    Below,
}

fn look(upper: BorrowedFd<'_>, name: &str) -> InUpper {
    let is_whiteout = |at: BorrowedFd<'_>, name: &str| {
        let status = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
        status.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::CharacterDevice && s.st_rdev == 0)
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(etc) = rustix::fs::openat(upper, "etc", flags, Mode::empty()) else {
        return if is_whiteout(upper, "etc") { InUpper::Hidden } else { InUpper::Below };
    };
    match rustix::fs::openat(&etc, name, OPEN | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) if rustix::fs::fgetxattr(&file, c"user.overlay.whiteout", &mut [0u8; 8][..]).is_ok() => {
            InUpper::Hidden
        }
        Ok(file) => InUpper::File(file),
        Err(Errno::NOENT) => {
            let mut value = [0u8; 8];
            match rustix::fs::fgetxattr(&etc, c"user.overlay.opaque", &mut value[..]) {
                Ok(1..) if value[0] == b'y' => InUpper::Hidden,
                _ => InUpper::Below,
            }
        }
        Err(_) => InUpper::Hidden,
    }
}

fn contents(file: OwnedFd) -> Vec<u8> {
    let file = File::from(file);
    let mut bytes = Vec::with_capacity(4096);
    let regular = file.metadata().is_ok_and(|status| status.is_file());
    match regular && file.take(MAX_ACCOUNT_BYTES).read_to_end(&mut bytes).is_ok() {
        true => bytes,
        false => Vec::new(),
    }
}
