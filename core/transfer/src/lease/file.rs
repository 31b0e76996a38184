//! The lease file: made, read, touched, and taken away from one holder and no other.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use udocker_core::store::{Maker, Temporary};

use super::error::{LeaseError, io_error};

/// What a lease file says; two are the same lease if they are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder(pub(super) String);

impl Holder {
    pub(super) fn of(folder: &Temporary) -> Self {
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
        Self(format!("{name}\n{}\n", rustix::system::uname().nodename().to_string_lossy()))
    }

    /// Whether it can be asked, and is no more.
    pub(super) fn is_dead(&self) -> bool {
        let maker = self.0.lines().next().and_then(Maker::parse);
        maker.and_then(|maker| maker.is_dead(&Maker::me())) == Some(true)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines = self.0.lines();
        match (lines.next().and_then(Maker::parse), lines.next()) {
            (Some(maker), Some(host)) => write!(f, "process {} on {}", maker.pid(), host.escape_debug()),
            _ => f.write_str("another process"),
        }
    }
}

/// Makes the lease file, if there is none.
pub(super) fn create(path: &Path, me: &Holder) -> Result<Option<File>, LeaseError> {
    match File::options().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(me.0.as_bytes()).map_err(io_error("write", path))?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(io_error("make", path)(error)),
    }
}

/// Who holds it, and when it was renewed, as the server has it: opening asks the server, which stat(2) need not.
pub(super) fn read(path: &Path) -> Result<Option<(Holder, SystemTime)>, LeaseError> {
    let look = || -> io::Result<_> {
        let mut file = File::open(path)?;
        let renewed = file.metadata()?.modified()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok((Holder(String::from_utf8_lossy(&text).into_owned()), renewed))
    };
    match look() {
        Ok(found) => Ok(Some(found)),
        // NFS answers ESTALE for a file that another client removed.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

pub(super) fn is_held_by(path: &Path, me: &Holder) -> bool {
    matches!(read(path), Ok(Some((holder, _))) if holder == *me)
}

/// How long ago `renewed` was for the file server.
pub(super) fn age(renewed: SystemTime, folder: &Temporary, path: &Path) -> Result<Duration, LeaseError> {
    let now = || {
        let file = File::create(folder.path().join("now"))?;
        touch(&file)?;
        file.metadata()?.modified()
    };
    let now = now().map_err(io_error("tell the age of", path))?;
    Ok(now.duration_since(renewed).unwrap_or_default())
}

/// Sets the time of change to the server's own (NFS: SET_TO_SERVER_TIME).
pub(super) fn touch(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

/// Removes the lease of `holder`, and no other one.
pub(super) fn displace(path: &Path, holder: &Holder, folder: &Temporary) -> Result<(), LeaseError> {
    if !is_held_by(path, holder) {
        return Ok(());
    }
    let aside = folder.path().join("taken");
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_error("take over", path))?,
    }
    if !is_held_by(&aside, holder) {
        // Another one came between the look and the rename. It finds its lease lost if a third has made one since.
        match fs::hard_link(&aside, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("put back", path)(error));
            }
            _ => {}
        }
    }
    fs::remove_file(&aside).map_err(io_error("remove", &aside))
}
