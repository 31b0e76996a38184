//! Paths inside a root, resolved without ever leaving it: openat2(2) (Linux 5.6), before that a walk on descriptors.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

const MAX_LINKS: usize = 40;

/// Opens `path` as if `root` were `/`, with `flags` beside `O_CLOEXEC`; symbolic links are followed inside.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => walk(root, path, flags),
        other => other,
    }
}

/// The same by a walk of one component at a time; the fallback, and what tests compare openat2 with.
pub fn walk(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut stack: Vec<OwnedFd> = Vec::new();
    let mut todo: VecDeque<OsString> = components(path.as_os_str());
    let must_be_directory = path.as_os_str().as_bytes().ends_with(b"/");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        // `.` stays in the list, so that `file/.` asks for a directory.
        if name == "." {
            continue;
        }
        if name == ".." {
            stack.pop();
            continue;
        }
        let here = stack.last().map_or(root, |fd| fd.as_fd());
        let next = rustix::fs::openat(here, &name, step, Mode::empty())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode);
        let last = todo.is_empty();
        if kind == FileType::Symlink && !(last && flags.contains(OFlags::NOFOLLOW)) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let target = rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes();
            if target.is_empty() {
                return Err(Errno::NOENT);
            }
            if target.starts_with(b"/") {
                stack.clear();
            }
            let mut target = components(OsStr::from_bytes(&target));
            target.append(&mut todo);
            todo = target;
            continue;
        }
        if !last && kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        stack.push(next);
    }
    let found = match stack.last() {
        Some(fd) => fd.as_fd(),
        None => root,
    };
    let flags = if must_be_directory { flags | OFlags::DIRECTORY } else { flags };
    if flags.contains(OFlags::PATH) && !flags.contains(OFlags::DIRECTORY) {
        return match stack.pop() {
            Some(fd) => Ok(fd),
            None => rustix::fs::openat(root, ".", flags, Mode::empty()),
        };
    }
    // A second open by descriptor: what was found cannot be replaced in between.
    let path = super::mount::fd_path(found);
    rustix::fs::open(path.as_c_str(), flags - OFlags::NOFOLLOW, Mode::empty())
}

fn components(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|b| *b == b'/').filter(|part| !part.is_empty());
    parts.map(|part| OsString::from_vec(part.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_walk_resolves_as_openat2_does() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/file"), "x").unwrap();
        for (target, name) in [
            ("/a", "absolute"), ("../../../..", "a/up"), ("/etc/passwd", "host"), ("loop", "loop"), ("a/b/../file", "relative"),
            ("/absolute/b", "two"), ("nowhere", "dangling"), ("/", "a/b/root"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        let root = std::fs::File::open(directory.path()).unwrap();
        let words = ["a", "b", "file", "absolute", "up", "host", "loop", "relative", "two", "dangling", "root", "..", "."];
        let mut paths = vec![String::new()];
        for _ in 0..3 {
            let longer: Vec<_> = paths.iter().flat_map(|p| words.iter().map(move |w| format!("{p}/{w}"))).collect();
            paths.extend(longer);
        }
        let identity = |fd: Result<OwnedFd, Errno>| fd.map(|fd| rustix::fs::fstat(fd).map(|s| (s.st_dev, s.st_ino)).unwrap());
        for path in paths.iter().filter(|path| !path.is_empty()) {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let kernel = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve);
            assert_eq!(identity(walk(root.as_fd(), Path::new(path), flags)), identity(kernel), "{path}");
        }
    }
}
