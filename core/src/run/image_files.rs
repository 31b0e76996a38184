//! The account files that a spec is built from, read beneath the root that the run will have.

use std::ffi::OsStr;
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        match (&root.write, &root.above) {
            (RootWrite::Layer { upper, .. }, None) => Self::read(&root.tree, Some(upper)),
            (_, above) => Self::read(&root.tree, above.as_deref()),
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

/// Whether `path` (a list of directories, as in `PATH`) leads to a program `name` in the root.
///
/// A guess, good enough to choose a default by: mounts are not looked at, and a link is believed, since what it leads to
/// may lie in another layer.
pub fn has_program(root: &RootPlan, path: &OsStr, name: &str) -> bool {
    let upper = match &root.write {
        RootWrite::Layer { upper, .. } => Some(upper),
        _ => root.above.as_ref(),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |tree: &PathBuf| rustix::fs::open(tree, flags, Mode::empty()).ok();
    let trees: Vec<OwnedFd> = upper.into_iter().chain([&root.tree]).filter_map(open).collect();
    let kind = |tree: &OwnedFd, directory: &Path| {
        let directory = resolve::open_in_root(tree, directory, flags).ok()?;
        let status = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(status.st_mode))
    };
    // The uppermost entry counts: there, a device of overlayfs says that the program was removed.
    let found = |directory: &Path| trees.iter().find_map(|tree| kind(tree, directory));
    std::env::split_paths(path)
        .any(|directory| matches!(found(&directory), Some(FileType::RegularFile | FileType::Symlink)))
}

/// What an overlay's upper directory says about a file in /etc.
enum InUpper {
    File(OwnedFd),
    Hidden,
    Below,
}

fn look(upper: BorrowedFd<'_>, name: &str) -> InUpper {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(etc) = rustix::fs::openat(upper, "etc", flags, Mode::empty()) else {
        // A whiteout, a file or a link in its place: the /etc below is not seen through any of them.
        return match rustix::fs::statat(upper, "etc", AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => InUpper::Below,
            _ => InUpper::Hidden,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn programs_are_found_in_the_base_and_in_the_layer() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, upper) = (directory.path().join("tree"), directory.path().join("upper"));
        fs::create_dir_all(tree.join("usr/bin")).unwrap();
        fs::create_dir_all(upper.join("opt")).unwrap();
        symlink("/usr/bin", tree.join("bin")).unwrap();
        symlink("/in/another/layer", upper.join("opt/link")).unwrap();
        fs::write(tree.join("usr/bin/bash"), "").unwrap();
        fs::write(upper.join("opt/zsh"), "").unwrap();
        let work = directory.path().join("work");
        let root = RootPlan::new(&tree, RootWrite::Layer { upper: upper.clone(), work });
        let found = |root: &RootPlan, name: &str| has_program(root, OsStr::new("/nothere:/bin:/opt"), name);
        for (name, expected) in [("bash", true), ("zsh", true), ("link", true), ("bin", false), ("fish", false)] {
            assert_eq!(found(&root, name), expected, "{name}");
        }
        assert!(!found(&RootPlan::new(&tree, RootWrite::ReadOnly), "zsh"));
        assert!(found(&RootPlan { above: Some(upper), ..RootPlan::new(&tree, RootWrite::ReadOnly) }, "zsh"));
    }

    #[test]
    fn what_an_upper_directory_has_hides_what_is_below() {
        let directory = tempfile::tempdir().unwrap();
        let (root, upper) = (directory.path().join("root"), directory.path().join("upper"));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/passwd"), "below").unwrap();
        fs::create_dir(&upper).unwrap();
        let read = || String::from_utf8(ImageFiles::read(&root, Some(&upper)).unwrap().passwd).unwrap();
        assert_eq!(read(), "below");
        symlink("elsewhere", upper.join("etc")).unwrap();
        assert_eq!(read(), "");
        fs::remove_file(upper.join("etc")).unwrap();
        fs::write(upper.join("etc"), "").unwrap();
        assert_eq!(read(), "");
        fs::remove_file(upper.join("etc")).unwrap();
        fs::create_dir(upper.join("etc")).unwrap();
        assert_eq!(read(), "below");
        fs::write(upper.join("etc/passwd"), "above").unwrap();
        assert_eq!(read(), "above");
    }
}
