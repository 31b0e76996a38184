//! Removing from the run directory what only the dead needed. Nobody who arrives meanwhile loses anything: a list is removed
//! under its lock, and who waits for it makes a new one.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{Head, own_pids, shape_path};
use crate::members::{Members, open_own};
use crate::store::{RunDirectory, remove_tree};

/// What is younger may belong to a rank on its way to its step's list.
const YOUNG: Duration = Duration::from_secs(60);
/// Answers of probes are kept for so long.
const PROBE_AGE: Duration = Duration::from_secs(24 * 3600);

/// In the directory of a relay, the file that it has locked while it lives.
pub const RELAY_LOCK: &str = "launch";

/// Removes what no living process of this user needs; returns how many files went, and how many are still needed.
pub fn reap(run: &RunDirectory) -> (usize, usize) {
    run.sweep();
    let (gone, needed) = remove(run.path(), usize::MAX, Duration::ZERO);
    if needed == 0
        && let Some(sockets) = run.for_programs()
    {
        for entry in fs::read_dir(sockets).into_iter().flatten().flatten() {
            // What cannot be removed does no harm.
            let _ = remove_tree(&entry.path());
        }
    }
    (gone, needed)
}

/// The same now and then, for some files only: who makes one removes some, so their number stays bounded.
pub(super) fn reap_some(run: &Path) {
    remove(run, 64, YOUNG);
}

fn remove(directory: &Path, most: usize, age: Duration) -> (usize, usize) {
    let Ok(entries) = fs::read_dir(directory) else { return (0, 0) };
    let entries: Vec<_> =
        entries.flatten().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry))).collect();
    let is_old = |entry: &fs::DirEntry, age: Duration| {
        let modified = entry.metadata().and_then(|status| status.modified());
        modified.is_ok_and(|time| time.elapsed().is_ok_and(|since| since >= age))
    };
    let (mut gone, mut needed) = (0, 0);
    let mut alive = HashSet::new();
    let is_list = |name: &str| {
        ["step-", "container-", "use-"].iter().any(|kind| name.starts_with(kind)) && !name.ends_with(".shape")
    };
    for (name, entry) in entries.iter().filter(|(name, _)| is_list(name)) {
        let list = match gone < most && is_old(entry, age) {
            true => Members::try_lock(&entry.path()).ok().flatten(),
            false => None,
        };
        // Of processes that are numbered elsewhere nobody here knows whether they live; who asks for it takes that on himself.
        let is_known =
            |list: &Members| age.is_zero() || Head::parse(list.head()).is_none_or(|head| head.pids == own_pids());
        match list.filter(|list| list.living().next().is_none() && is_known(list)) {
            Some(list) => {
                // Its file goes with it; what is left of a crash here goes the next time.
                let _ = fs::remove_file(shape_path(&entry.path()));
                gone += usize::from(list.remove().is_ok());
            }
            None => {
                needed += 1;
                alive.extend(step_of(name));
            }
        }
    }
    for (name, entry) in entries.iter().filter(|(name, _)| !is_list(name)) {
        let goes = match name.split('-').next() {
            Some("said" | "image" | "plain") => {
                step_of(name).is_some_and(|step| !alive.contains(step)) && is_old(entry, age)
            }
            Some("namespaces" | "overlay") => is_old(entry, PROBE_AGE),
            // What a registry said holds for a minute.
            Some("resolved") => is_old(entry, age.max(YOUNG)),
            Some("lock") => is_old(entry, age) && is_free(&entry.path()),
            Some("relay") => is_old(entry, age) && is_free(&entry.path().join(RELAY_LOCK)),
            _ => false,
        };
        if goes && gone < most {
            let removed = if entry.path().is_dir() {
                remove_tree(&entry.path()).is_ok()
            } else {
                fs::remove_file(entry.path()).is_ok()
            };
            gone += usize::from(removed);
        }
    }
    (gone, needed)
}

/// Whether nobody holds a lock. Who waits for a file that is removed holds it beside a newcomer, which costs work alone.
fn is_free(path: &Path) -> bool {
    open_own(fs::File::options().read(true), path)
        .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// The second part of `KIND-STEP-…`.
fn step_of(name: &str) -> Option<&str> {
    name.split('-').nth(1)
}
