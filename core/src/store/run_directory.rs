//! The run directory: node-local, private, on tmpfs; and in it, who runs what.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{StoreError, io_error};
use crate::sys::process::start_time;

/// A directory of ours that passed its checks.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// The first of `candidates` that is a directory of this user, mode 0700 and no symbolic link; made if it is missing.
    pub fn open(candidates: &[PathBuf]) -> Option<Self> {
        candidates.iter().find(|path| Self::usable(path)).map(|path| Self { path: path.clone() })
    }

    fn usable(path: &Path) -> bool {
        // One that exists is checked below, and one that cannot be made is not used.
        let _ = fs::DirBuilder::new().mode(0o700).create(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(directory) = rustix::fs::open(path, flags, Mode::empty()) else { return false };
        File::from(directory)
            .metadata()
            .is_ok_and(|status| status.uid() == rustix::process::geteuid().as_raw() && status.mode() & 0o7777 == 0o700)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds this process to the users of `name`; if `alone`, refuses while another lives and returns its pid.
    pub fn enlist(&self, name: &str, alone: bool) -> Result<Option<u32>, StoreError> {
        let path = self.path.join(format!("use-{name}"));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(io_error("lock", &path))?;
        let mut living = living(&path)?;
        let me = std::process::id();
        if let Some((pid, _)) = living.iter().find(|(pid, _)| alone && *pid != me) {
            return Ok(Some(*pid));
        }
        living.retain(|(pid, _)| *pid != me);
        living.push((me, start_time(me).unwrap_or(0)));
        let text: String = living.iter().map(|(pid, start)| format!("{pid} {start}\n")).collect();
        fs::write(&path, text).map_err(io_error("write", &path))?;
        Ok(None)
    }

    /// A living user of `name`, if there is one.
    pub fn user_of(&self, name: &str) -> Option<u32> {
        let users = living(&self.path.join(format!("use-{name}"))).ok()?;
        users.first().map(|(pid, _)| *pid)
    }
}

fn living(path: &Path) -> Result<Vec<(u32, u64)>, StoreError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_error("read", path))?,
    };
    let pairs = text.lines().filter_map(|line| {
        let (pid, start) = line.split_once(' ')?;
        Some((pid.parse().ok()?, start.parse().ok()?))
    });
    Ok(pairs.filter(|(pid, start)| start_time(*pid).ok() == Some(*start)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_living_count() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(&[directory.path().join("run")]).unwrap();
        assert_eq!(run.user_of("x"), None);
        let me = std::process::id();
        fs::write(run.path().join("use-x"), format!("{me} 1\n1 1\n")).unwrap();
        assert_eq!(run.user_of("x"), None);
        assert_eq!(run.enlist("x", true).unwrap(), None);
        assert_eq!(run.user_of("x"), Some(me));
        let parent = std::os::unix::process::parent_id();
        fs::write(run.path().join("use-x"), format!("{parent} {}\n", start_time(parent).unwrap())).unwrap();
        assert_eq!(run.enlist("x", true).unwrap(), Some(parent));
    }

    #[test]
    fn a_foreign_or_open_directory_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (open, link, good) =
            (directory.path().join("open"), directory.path().join("link"), directory.path().join("good"));
        fs::DirBuilder::new().mode(0o755).create(&open).unwrap();
        fs::create_dir(&good).unwrap();
        std::os::unix::fs::symlink(&good, &link).unwrap();
        fs::remove_dir(&good).unwrap();
        assert_eq!(RunDirectory::open(&[open, link, good.clone()]).unwrap().path(), good);
    }
}
