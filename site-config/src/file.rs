//! Opens the site's files so that nobody but their owner can have written what is read.
//!
//! Directories and files are opened without following a symbolic link, files beneath the opened directory, and checked
//! on the descriptor that is then read (security rules, "Root contexts").

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::ConfigError;

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The site's files in the order of merging, each with its text; none if `site_dir` does not exist.
pub(crate) fn read_site(site_dir: &Path, owner: u32) -> Result<Vec<(PathBuf, String)>, ConfigError> {
    let mut out = Vec::new();
    let Some(directory) = open_directory(CWD, site_dir, site_dir, owner)? else { return Ok(out) };
    read_file(directory.as_fd(), Path::new("site.toml"), site_dir, owner, &mut out)?;
    let path = site_dir.join("conf.d");
    if let Some(parts) = open_directory(directory.as_fd(), Path::new("conf.d"), &path, owner)? {
        for name in toml_names(parts.as_fd(), &path)? {
            read_file(parts.as_fd(), &name, &path, owner, &mut out)?;
        }
    }
    Ok(out)
}

fn open_directory(at: BorrowedFd<'_>, name: &Path, path: &Path, owner: u32) -> Result<Option<OwnedFd>, ConfigError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Some(directory) = open(at, name, flags, path, "directory")? else { return Ok(None) };
    check(directory.as_fd(), FileType::Directory, path, owner)?;
    Ok(Some(directory))
}

/// Opens `name`; `None` if it does not exist.
fn open(
    at: BorrowedFd<'_>,
    name: &Path,
    flags: OFlags,
    path: &Path,
    expected: &'static str,
) -> Result<Option<OwnedFd>, ConfigError> {
    match openat(at, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => Err(ConfigError::Kind { path: path.into(), expected }),
        Err(errno) => Err(failed(path, errno.into())),
    }
}

fn failed(path: &Path, source: std::io::Error) -> ConfigError {
    ConfigError::Read { path: path.into(), source }
}

fn check(fd: BorrowedFd<'_>, kind: FileType, path: &Path, owner: u32) -> Result<(), ConfigError> {
    let stat = fstat(fd).map_err(|errno| failed(path, errno.into()))?;
    let path = path.to_path_buf();
    if FileType::from_raw_mode(stat.st_mode) != kind {
        let expected = if kind == FileType::Directory { "directory" } else { "file" };
        return Err(ConfigError::Kind { path, expected });
    }
    if stat.st_uid != owner {
        return Err(ConfigError::Owner { path, owner: stat.st_uid, expected: owner });
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(ConfigError::Writable { path, mode: stat.st_mode & 0o7777 });
    }
    Ok(())
}

fn toml_names(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(|errno| failed(path, errno.into()))? {
        let entry = entry.map_err(|errno| failed(path, errno.into()))?;
        let name = entry.file_name().to_bytes();
        if name.ends_with(b".toml") && name[0] != b'.' {
            names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
        }
    }
    names.sort();
    Ok(names)
}

fn read_file(
    directory: BorrowedFd<'_>,
    name: &Path,
    parent: &Path,
    owner: u32,
    out: &mut Vec<(PathBuf, String)>,
) -> Result<(), ConfigError> {
    let path = parent.join(name);
    // NONBLOCK: a FIFO in the way must not stop us; it is refused below.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Some(fd) = open(directory, name, flags, &path, "file")? else { return Ok(()) };
    check(fd.as_fd(), FileType::RegularFile, &path, owner)?;
    let mut bytes = Vec::new();
    let read = File::from(fd).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    let length = read.map_err(|source| failed(&path, source))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path, limit: MAX_FILE_BYTES });
    }
    match String::from_utf8(bytes) {
        Ok(text) => out.push((path, text)),
        Err(_) => return Err(ConfigError::NotText { path }),
    }
    Ok(())
}
