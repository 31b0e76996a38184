//! Paths of an image or a container, resolved beneath a directory that they cannot leave.
//!
//! The kernel does it where openat2(2) is (5.6); else components are walked on `O_PATH` descriptors. Both follow symbolic
//! links as the container would: `/` and `..` stop at the root.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// As many links as the kernel follows.
const MAX_LINKS: u32 = 40;
/// openat2 answers EAGAIN when a rename or mount anywhere races with a `..`.
const MAX_RACES: u32 = 64;

static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Where a path leads.
#[derive(Debug)]
pub enum Resolved {
    /// To this file.
    Found(OwnedFd),
    /// Nowhere: the deepest directory that exists, and the names still to be made in it, first one first.
    Missing {
        /// The directory.
        parent: OwnedFd,
        /// At least one name, none of them `..`.
        names: Vec<OsString>,
    },
}

/// Resolves `path` beneath `root`, following symbolic links inside; an `O_PATH` descriptor comes back.
///
/// # Errors
/// ELOOP beyond 40 links, ENOTDIR through a file, ENOENT if a missing name is followed by `..`, EACCES.
pub fn resolve(root: impl AsFd, path: &Path) -> Result<Resolved> {
    match open_beneath(root.as_fd(), path) {
        Ok(fd) => Ok(Resolved::Found(fd)),
        Err(Errno::NOENT | Errno::NOSYS) => walk(root.as_fd(), path),
        Err(error) => Err(error),
    }
}

/// Opens what `path` leads to beneath `root`, for use: `flags` beside `O_CLOEXEC`.
///
/// # Errors
/// ENOENT if it is missing, those of [`resolve`] and open(2).
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    match resolve(root, path)? {
        // A second open by descriptor: what was found cannot be replaced in between.
        Resolved::Found(fd) => {
            let again = super::fds::FdPath::new(fd.as_fd());
            rustix::fs::open(again.as_c_str(), flags | OFlags::CLOEXEC, Mode::empty())
        }
        Resolved::Missing { .. } => Err(Errno::NOENT),
    }
}

/// Opens `path` beneath `root` as an `O_PATH` descriptor if it exists and no symbolic link lies on the way.
///
/// # Errors
/// ELOOP for a link, ENOSYS without openat2(2), those of open(2).
pub fn open_without_links(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open_by(root.as_fd(), path, ResolveFlags::NO_SYMLINKS)
}

/// Opens `path` beneath `root` with openat2(2); ENOSYS where there is none.
fn open_beneath(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    open_by(root, path, ResolveFlags::empty())
}

fn open_by(root: BorrowedFd<'_>, path: &Path, more: ResolveFlags) -> Result<OwnedFd> {
    if NO_OPENAT2.load(Ordering::Relaxed) {
        return Err(Errno::NOSYS);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    for _ in 0..MAX_RACES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Container runtimes answered EPERM to calls that they did not know.
            Err(Errno::NOSYS | Errno::PERM) => {
                NO_OPENAT2.store(true, Ordering::Relaxed);
                return Err(Errno::NOSYS);
            }
            done => return done,
        }
    }
    // The walk cannot be starved.
    Err(Errno::NOSYS)
}

/// Resolves component by component.
fn walk(root: BorrowedFd<'_>, path: &Path) -> Result<Resolved> {
    let mut parents: Vec<OwnedFd> = Vec::new();
    let mut pending: Vec<OsString> = Vec::new();
    push_components(&mut pending, path);
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == ".." {
            parents.pop();
            continue;
        }
        let directory = parents.last().map_or(root, |fd| fd.as_fd());
        let fd = match open_entry(directory, &name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                pending.push(name);
                pending.reverse();
                if pending.iter().any(|name| name == "..") {
                    return Err(Errno::NOENT);
                }
                return Ok(Resolved::Missing { parent: open_entry(directory, OsStr::new("."))?, names: pending });
            }
            Err(error) => return Err(error),
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = OsString::from_vec(rustix::fs::readlinkat(&fd, c"", Vec::new())?.into_bytes());
                if target.as_bytes().first() == Some(&b'/') {
                    parents.clear();
                }
                push_components(&mut pending, Path::new(&target));
            }
            FileType::Directory => parents.push(fd),
            _ if pending.is_empty() => return Ok(Resolved::Found(fd)),
            _ => return Err(Errno::NOTDIR),
        }
    }
    match parents.pop() {
        Some(fd) => Ok(Resolved::Found(fd)),
        None => open_entry(root, OsStr::new(".")).map(Resolved::Found),
    }
}

fn open_entry(directory: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Puts the components of `path` on the stack, the first on top.
fn push_components(pending: &mut Vec<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => pending.push(name.to_owned()),
            Component::ParentDir => pending.push("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

/// What a missing target becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakeKind {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

/// Makes `names` beneath `parent`, all but the last as directories, and opens the last.
///
/// Existing directories on the way are used; links are not followed, since the names come from [`resolve`].
///
/// # Errors
/// Those of mkdirat(2) and openat(2).
pub fn make(parent: impl AsFd, names: &[OsString], kind: MakeKind) -> Result<OwnedFd> {
    let mut current = open_entry(parent.as_fd(), OsStr::new("."))?;
    for (index, name) in names.iter().enumerate() {
        if index + 1 == names.len() && kind == MakeKind::File {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&current, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        } else {
            match rustix::fs::mkdirat(&current, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        current = open_entry(current.as_fd(), name)?;
    }
    Ok(current)
}

/// Whether `fd` is open on a directory.
///
/// # Errors
/// Those of fstat(2).
pub fn is_directory(fd: impl AsFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

/// Whether two descriptors are open on one file.
///
/// # Errors
/// Those of fstat(2).
pub fn is_same_file(one: impl AsFd, other: impl AsFd) -> Result<bool> {
    let one = rustix::fs::statat(one, c"", AtFlags::EMPTY_PATH)?;
    let other = rustix::fs::statat(other, c"", AtFlags::EMPTY_PATH)?;
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    fn open_root(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// A tree of directories, files and links in all directions.
    fn make_tree(links: &[(String, String)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for directory in ["a", "a/b", "a/b/c", "d"] {
            std::fs::create_dir(tree.path().join(directory)).unwrap();
        }
        for file in ["a/f", "d/f", "f"] {
            std::fs::write(tree.path().join(file), file).unwrap();
        }
        for (place, target) in links {
            // The place may be taken by an earlier link.
            let _ = symlink(target, tree.path().join(place));
        }
        tree
    }

    proptest! {
        #[test]
        fn the_walk_agrees_with_openat2(
            links in prop::collection::vec(("(a/|a/b/|d/)?[lm]", "/{0,1}(\\.\\./){0,3}(a|d|l|m|f|a/l|b|a/b/m|x|\\.)?"), 0..6),
            path in "/?(a|b|c|d|f|l|m|x|\\.\\.|\\.)(/(a|b|c|d|f|l|m|x|\\.\\.|\\.)){0,5}",
        ) {
            let links: Vec<_> = links.into_iter().filter(|(_, target)| !target.is_empty()).collect();
            let tree = make_tree(&links);
            let root = open_root(tree.path());
            // A trailing `.` or `/` asks for a directory in the kernel; targets of mounts never have one.
            let path: std::path::PathBuf = Path::new(&path).components().collect();
            match (open_beneath(root.as_fd(), &path), walk(root.as_fd(), &path)) {
                (Ok(one), Ok(Resolved::Found(other))) => prop_assert!(is_same_file(one, other).unwrap()),
                (Err(Errno::NOENT), Ok(Resolved::Missing { .. })) => {}
                (Err(one), Err(other)) => prop_assert_eq!(one, other),
                (one, other) => prop_assert!(false, "openat2: {:?}, walk: {:?}", one, other),
            }
        }
    }

    #[test]
    fn missing_names_come_back_behind_their_last_directory() {
        let tree = make_tree(&[("a/l".into(), "/d/new".into())]);
        let root = open_root(tree.path());
        let Resolved::Missing { parent, names } = resolve(&root, Path::new("/a/l/deep")).unwrap() else {
            panic!("found");
        };
        assert!(is_same_file(&parent, open_root(&tree.path().join("d"))).unwrap());
        assert_eq!(names, ["new", "deep"]);
        make(&parent, &names, MakeKind::File).unwrap();
        assert!(tree.path().join("d/new/deep").is_file());
    }

    #[test]
    fn links_out_of_the_root_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let tree =
            make_tree(&[("l".into(), outside.path().to_str().unwrap().into()), ("m".into(), "../../../f".into())]);
        let root = open_root(tree.path());
        assert!(matches!(resolve(&root, Path::new("/l")).unwrap(), Resolved::Missing { .. }));
        let Resolved::Found(found) = resolve(&root, Path::new("m")).unwrap() else { panic!("missing") };
        assert!(is_same_file(&found, open_root(tree.path().join("f").parent().unwrap())).is_ok_and(|same| !same));
        let file = rustix::fs::openat(&root, "f", OFlags::PATH, Mode::empty()).unwrap();
        assert!(is_same_file(&found, &file).unwrap());
    }
}
