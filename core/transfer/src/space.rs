//! Whether an image has room in a store, asked before its first byte: the file system's free space, and the quotas of who pulls.
//!
//! The tree is at least about as large as its blobs; a store without that much room need not be filled to find out.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use udocker_core::manifest::{Descriptor, ImageManifest};
use udocker_core::store::Store;
use udocker_core::sys::quota::{Quota, Whose, quota};

use crate::stage_error::StageError;

/// What an image needs at the very least.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// Its missing blobs, and a tree of the same size as all of them.
    bytes: u64,
    /// Its missing blobs, the configuration, the record, the tree and its folder.
    files: u64,
}

/// Refuses an image that has no room in `store`; layers that are read where they lie need none.
///
/// # Errors
/// [`StageError::NoSpace`], [`StageError::NoFiles`], [`StageError::Quota`]
pub(crate) fn check(
    store: &Store,
    manifest: &ImageManifest,
    is_read_elsewhere: impl Fn(&Descriptor) -> bool,
) -> Result<(), StageError> {
    let is_missing = |layer: &&Descriptor| !is_read_elsewhere(layer) && !store.blob(&layer.digest).is_file();
    let missing = || manifest.layers.iter().filter(is_missing);
    let packed: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    let bytes = missing().map(|layer| layer.size).sum::<u64>().saturating_add(packed);
    let need = Need { bytes, files: missing().count() as u64 + 4 };
    let path = store.path();
    let failed = |action| move |errno: Errno| StageError::File { action, path: path.into(), source: errno.into() };
    let status = rustix::fs::statvfs(path).map_err(failed("read the free space of"))?;
    let available = status.f_bavail.saturating_mul(status.f_frsize);
    if available < need.bytes {
        return Err(StageError::NoSpace { path: path.into(), available, needed: need.bytes });
    }
    // File systems without such a limit tell no number of files at all.
    if status.f_files != 0 && status.f_favail < need.files {
        return Err(StageError::NoFiles { path: path.into(), available: status.f_favail, needed: need.files });
    }
    // Root is bound by none.
    let user = rustix::process::geteuid();
    if user.is_root() {
        return Ok(());
    }
    let directory = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let directory = directory.map_err(failed("open"))?;
    for whose in [Whose::User(user.as_raw()), Whose::Group(group_of_new_files(path))] {
        if let Some(quota) = quota(&directory, whose) {
            check_quota(path, whose, &quota, need, now())?;
        }
    }
    Ok(())
}

/// That of a directory with the set-group-id bit, else the caller's.
fn group_of_new_files(directory: &Path) -> u32 {
    let status = directory.metadata().ok().filter(|status| status.mode() & 0o2000 != 0);
    status.map_or_else(|| rustix::process::getegid().as_raw(), |status| status.gid())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn check_quota(path: &Path, whose: Whose, quota: &Quota, need: Need, now: u64) -> Result<(), StageError> {
    for (unit, limit, needed) in [("bytes", quota.bytes, need.bytes), ("files", quota.files, need.files)] {
        if let Some((available, limit)) = limit.left(now)
            && available < needed
        {
            let whose = match whose {
                Whose::User(id) => format!("uid {id}"),
                Whose::Group(id) => format!("gid {id}"),
            };
            return Err(StageError::Quota { whose, path: path.into(), unit, available, limit, needed });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use udocker_core::error::{ErrorKind, Explain};
    use udocker_core::sys::quota::Limit;

    use super::*;

    #[test]
    fn a_quota_that_leaves_too_little_is_told_with_its_numbers() {
        let need = Need { bytes: 5000, files: 7 };
        let limit = |hard, used| Limit { hard, used, ..Limit::default() };
        let free = Limit::default();
        for (whose, bytes, files, expected) in [
            (Whose::User(8), free, free, None),
            (Whose::User(8), limit(9000, 4000), limit(10, 3), None),
            (
                Whose::User(8),
                limit(9000, 4001),
                free,
                Some("the quota of uid 8 on /s leaves 4999 of 9000 bytes, and the image needs at least 5000"),
            ),
            (
                Whose::Group(9),
                free,
                limit(10, 4),
                Some("the quota of gid 9 on /s leaves 6 of 10 files, and the image needs at least 7"),
            ),
            (
                Whose::User(8),
                Limit { soft: 100, used: 200, grace_ends: 50, hard: 90_000 },
                free,
                Some("the quota of uid 8 on /s leaves 0 of 100 bytes, and the image needs at least 5000"),
            ),
        ] {
            let error = check_quota(Path::new("/s"), whose, &Quota { bytes, files }, need, 60).err();
            assert_eq!(error.as_ref().map(ToString::to_string).as_deref(), expected);
            assert!(error.is_none_or(|error| error.kind() == ErrorKind::NoSpace && error.hints().len() == 1));
        }
    }
}
