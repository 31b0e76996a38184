//! Opens files of configuration so that nobody but those who may can have written what is read.
//!
//! The site's directories and files are opened without following a symbolic link, files beneath the opened directory.
//! Everything is checked on the descriptor that is then read (security rules, "Root contexts").

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat, stat};
use rustix::io::Errno;

use crate::ConfigError;

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Whose word a file is taken for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust {
    /// The administrator's, a plain file that nobody else can write.
    Site {
        /// Who that is.
        owner: u32,
    },
    /// The user's or the administrator's, reached through links if need be, and not writable by everybody. The group may
    /// write: with a umask of 002 every file of a user is so.
    User {
        /// The user.
        uid: u32,
        /// The administrator.
        site_owner: u32,
    },
    /// The user named it, whoever wrote it.
    Named,
}

/// The text of an udocker.conf; `None` if there is none.
pub(crate) fn read_conf(path: &Path, trust: Trust) -> Result<Option<String>, ConfigError> {
    let follow = match trust {
        Trust::Site { .. } => OFlags::NOFOLLOW,
        Trust::User { .. } | Trust::Named => OFlags::empty(),
    };
    // NONBLOCK: a FIFO in the way must not stop us; it is refused below.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | follow;
    let fd = match openat(CWD, path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        // A home that was inherited from another user hides even whether there is a file.
        Err(Errno::ACCESS) if stat(path).is_err() && matches!(trust, Trust::User { .. }) => return Ok(None),
        Err(Errno::LOOP) => return Err(ConfigError::Kind { path: path.into(), expected: "file" }),
        Err(errno) => return Err(failed(path, errno.into())),
    };
    match trust {
        Trust::Site { owner } => check(fd.as_fd(), FileType::RegularFile, path, &[owner], 0o022)?,
        Trust::User { uid, site_owner } => check(fd.as_fd(), FileType::RegularFile, path, &[uid, site_owner], 0o002)?,
        Trust::Named => check(fd.as_fd(), FileType::RegularFile, path, &[], 0)?,
    }
    read_text(fd, path).map(Some)
}

/// A file's path and its text.
pub(crate) type Text = (PathBuf, String);

/// The site's files in the order of merging; none if `site_dir` does not exist. What cannot be trusted or read goes to
/// `problems`; of a directory that is so, nothing is read. The first of `owners` is whose it should be.
pub(crate) fn read_site(site_dir: &Path, owners: &[u32], problems: &mut Vec<ConfigError>) -> Vec<Text> {
    let mut out = Vec::new();
    let read = read_directory(site_dir, owners, |read| match read {
        Ok(text) => out.extend(text),
        Err(problem) => problems.push(problem),
    });
    problems.extend(read.err());
    out
}

fn read_directory(
    site_dir: &Path,
    owners: &[u32],
    mut each: impl FnMut(Result<Option<Text>, ConfigError>),
) -> Result<(), ConfigError> {
    let Some(directory) = open_directory(CWD, site_dir, site_dir, owners)? else { return Ok(()) };
    each(read_file(directory.as_fd(), Path::new("site.toml"), site_dir, owners));
    let path = site_dir.join("conf.d");
    if let Some(parts) = open_directory(directory.as_fd(), Path::new("conf.d"), &path, owners)? {
        for name in toml_names(parts.as_fd(), &path)? {
            each(read_file(parts.as_fd(), &name, &path, owners));
        }
    }
    Ok(())
}

/// The profile `name` of the site's; `None` if it has none.
pub(crate) fn read_profile(site_dir: &Path, name: &Path, owners: &[u32]) -> Result<Option<Text>, ConfigError> {
    let Some(directory) = open_directory(CWD, site_dir, site_dir, owners)? else { return Ok(None) };
    let path = site_dir.join("profiles");
    let Some(profiles) = open_directory(directory.as_fd(), Path::new("profiles"), &path, owners)? else {
        return Ok(None);
    };
    read_file(profiles.as_fd(), name, &path, owners)
}

/// One file of the site's, wherever it lies.
pub(crate) fn read_one(path: &Path, owners: &[u32]) -> Result<Option<Text>, ConfigError> {
    read_at(CWD, path, path, owners)
}

fn open_directory(
    at: BorrowedFd<'_>,
    name: &Path,
    path: &Path,
    owners: &[u32],
) -> Result<Option<OwnedFd>, ConfigError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Some(directory) = open(at, name, flags, path, "directory")? else { return Ok(None) };
    check(directory.as_fd(), FileType::Directory, path, owners, 0o022)?;
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

/// Whether `fd` is of `kind`, belongs to one of `owners` (if any are given) and has none of the bits `closed`.
fn check(fd: BorrowedFd<'_>, kind: FileType, path: &Path, owners: &[u32], closed: u32) -> Result<(), ConfigError> {
    let stat = fstat(fd).map_err(|errno| failed(path, errno.into()))?;
    let path = path.to_path_buf();
    if FileType::from_raw_mode(stat.st_mode) != kind {
        let expected = if kind == FileType::Directory { "directory" } else { "file" };
        return Err(ConfigError::Kind { path, expected });
    }
    if let [expected, ..] = owners
        && !owners.contains(&stat.st_uid)
    {
        return Err(ConfigError::Owner { path, owner: stat.st_uid, expected: *expected });
    }
    if stat.st_mode & closed != 0 {
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
    owners: &[u32],
) -> Result<Option<Text>, ConfigError> {
    read_at(directory, name, &parent.join(name), owners)
}

/// `name` in `directory`, `path` in messages; `None` if it does not exist.
fn read_at(directory: BorrowedFd<'_>, name: &Path, path: &Path, owners: &[u32]) -> Result<Option<Text>, ConfigError> {
    // NONBLOCK: a FIFO in the way must not stop us; it is refused below.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Some(fd) = open(directory, name, flags, path, "file")? else { return Ok(None) };
    check(fd.as_fd(), FileType::RegularFile, path, owners, 0o022)?;
    Ok(Some((path.into(), read_text(fd, path)?)))
}

fn read_text(fd: OwnedFd, path: &Path) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    let read = File::from(fd).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    let length = read.map_err(|source| failed(path, source))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.into(), limit: MAX_FILE_BYTES });
    }
    String::from_utf8(bytes).map_err(|_| ConfigError::NotText { path: path.into() })
}
