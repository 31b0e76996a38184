//! What dead processes left in run directories goes when a job ends on a node, and when slurmd starts: by `udocker-launch reap`,
//! as the user whose directory it is. Nothing here fails to Slurm, whose answer would be to drain the node, and nothing waits
//! for long.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use udocker_site_config::default_run_dirs;
use udocker_spank_sys::{Spank, error};

use crate::line::Line;

/// What the litter of one user may take.
const LIMIT: Duration = Duration::from_secs(5);
/// What that of all may take when slurmd starts.
const LIMIT_AT_START: Duration = Duration::from_secs(10);

/// Cleans up after the job that has ended here. `words`: of plugstack.conf.
pub fn after_job(spank: &Spank<'_>, words: &[&OsStr]) {
    let (Ok(uid), Ok(gid)) = (spank.user(), spank.group()) else { return };
    // Who has run no container here pays a look at three names.
    if default_run_dirs(uid).iter().any(|path| owner(path).is_some_and(|(owner, _)| owner == uid)) {
        told(reap(words, uid, gid, LIMIT));
    }
}

/// Cleans up after jobs that ended while nobody looked.
pub fn at_start(words: &[&OsStr]) {
    let since = Instant::now();
    for (uid, gid) in owners(&default_run_dirs(0)) {
        let left = LIMIT_AT_START.saturating_sub(since.elapsed());
        if left.is_zero() {
            return error(&format!(
                "udocker: cleaning up took longer than {} s: the rest stays",
                LIMIT_AT_START.as_secs()
            ));
        }
        told(reap(words, uid, gid, left.min(LIMIT)));
    }
}

fn told(outcome: Result<(), String>) {
    if let Err(text) = outcome {
        error(&text);
    }
}

/// Owner and group of a directory that is no symbolic link.
fn owner(path: &Path) -> Option<(u32, u32)> {
    let status = fs::symlink_metadata(path).ok()?;
    status.is_dir().then(|| (status.uid(), status.gid()))
}

/// Who has a run directory, beside those that root's `of_root` may be: named by its uid, and its own.
fn owners(of_root: &[impl AsRef<Path>]) -> BTreeMap<u32, u32> {
    let mut owners = BTreeMap::new();
    for path in of_root.iter().map(AsRef::as_ref) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else { continue };
        let prefix = name.strip_suffix('0').unwrap_or(name);
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
            if let Some((owner, group)) = owner(&entry.path())
                && uid == Some(owner)
            {
                owners.insert(owner, group);
            }
        }
    }
    owners
}

/// Runs `udocker-launch reap` as that user, who has no other groups, and ends it after `limit`.
fn reap(words: &[&OsStr], uid: u32, gid: u32, limit: Duration) -> Result<(), String> {
    let failed = |reason: String| format!("udocker: cannot remove what jobs of uid {uid} left on this node: {reason}");
    let line = Line::of(words).map_err(|error| failed(error.to_string()))?;
    let launcher = &line.launcher;
    let mut command = Command::new(launcher);
    // A prolog or epilog has no environment to speak of, and slurmd's is none of a user's.
    command.arg("reap").env_clear().current_dir("/").uid(uid).gid(gid);
    line.configure(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(format!("cannot run {}: {error}", launcher.display())))?;
    let since = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(format!("{} reap: {status}", launcher.display()))),
            Ok(None) if since.elapsed() < limit => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Ok(None) => {
                // It is gone at once, but for what hangs in a file system, which nobody waits for.
                let _ = child.kill();
                std::thread::sleep(Duration::from_millis(20));
                let _ = child.try_wait();
                return Err(failed(format!("{} reap took longer than {} s", launcher.display(), limit.as_secs())));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_is_named_by_its_owner() {
        let parent = std::env::temp_dir().join(format!("udocker-owners-{}", std::process::id()));
        let me = rustix::process::getuid().as_raw();
        for name in [format!("udocker-{me}"), format!("udocker-{}", me + 1), "udocker-x".into(), "other".into()] {
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("other", parent.join(format!("link-{me}"))).unwrap();
        let mine = BTreeMap::from([(me, rustix::process::getgid().as_raw())]);
        assert_eq!(owners(&[parent.join("udocker-0")]), mine);
        assert_eq!(owners(&[parent.join("link-0")]), BTreeMap::new());
        assert_eq!(owners(&[parent.join("nothere/0")]), BTreeMap::new());
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_reap_that_fails_or_hangs_says_so() {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let told = |word: &str, limit: u64| {
            reap(&[OsStr::new(word)], uid, gid, Duration::from_millis(limit))
                .unwrap_err()
                .replace(&uid.to_string(), "U")
        };
        let cannot = "udocker: cannot remove what jobs of uid U left on this node: ";
        assert_eq!(told("launcher=/bin/false", 5000), format!("{cannot}/bin/false reap: exit status: 1"));
        assert_eq!(
            told("launcher=/nothere", 5000),
            format!("{cannot}cannot run /nothere: No such file or directory (os error 2)")
        );
        let script = std::env::temp_dir().join(format!("udocker-hangs-{}", std::process::id()));
        fs::write(&script, "#!/bin/sh\nexec sleep 100\n").unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let since = Instant::now();
        let text = told(&format!("launcher={}", script.display()), 1000);
        assert_eq!(
            text,
            format!("{cannot}{} reap took longer than 1 s", script.display()).replace(&uid.to_string(), "U")
        );
        assert!(since.elapsed() < Duration::from_secs(50));
        fs::remove_file(script).unwrap();
        assert_eq!(told("x=y", 5000), format!("{cannot}`x=y` in plugstack.conf says nothing"));
        assert_eq!(reap(&[OsStr::new("launcher=/bin/true")], uid, gid, LIMIT), Ok(()));
    }
}
