//! Who on this node runs in the tree of an image, whoever's processes they are: for those who may read all run directories.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::run_directory::{tree_line, tree_name};
use crate::members::Members;

/// A process that runs in the tree with this root, by the lists in these run directories; they are only read.
pub fn runner_of(root: &Path, run_dirs: &[PathBuf]) -> Option<u32> {
    let name = tree_name(root)?;
    let line = tree_line(&name);
    run_dirs.iter().find_map(|directory| {
        let living = |list: &Members| list.living().next().map(|member| member.pid);
        let marked = Members::peek(&directory.join(format!("use-{name}")));
        let steps = fs::read_dir(directory).into_iter().flatten().flatten();
        let steps = steps.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"step-"));
        let mut joined = steps.filter_map(|entry| Members::peek(&entry.path()).filter(|list| list.says(&line)));
        marked.as_ref().and_then(living).or_else(|| joined.find_map(|list| living(&list)))
    })
}

/// Where the run directories of all users lie who have a process on this node; `own` are those of user `uid`.
///
/// They differ in the user's number alone: a component that is it, or ends in `-` and it.
pub fn all_run_dirs(own: &[PathBuf], uid: u32) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut owners: Vec<u32> = processes.filter_map(|entry| Some(entry.metadata().ok()?.uid())).chain([uid]).collect();
    owners.sort_unstable();
    owners.dedup();
    owners.iter().flat_map(|owner| own.iter().map(|path| path_of(path, uid, *owner))).collect()
}

fn path_of(path: &Path, uid: u32, owner: u32) -> PathBuf {
    let (from, to) = (uid.to_string(), owner.to_string());
    let changed = path.components().map(|part| match part {
        Component::Normal(name) => match name.to_str().and_then(|name| name.strip_suffix(&from)) {
            Some(rest) if rest.is_empty() || rest.ends_with('-') => PathBuf::from(format!("{rest}{to}")),
            _ => PathBuf::from(name),
        },
        other => PathBuf::from(other.as_os_str()),
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_s_run_directory_has_his_number() {
        for (own, theirs) in [
            ("/run/udocker/0", "/run/udocker/7"),
            ("/dev/shm/udocker-0", "/dev/shm/udocker-7"),
            ("/local/run", "/local/run"),
            ("/local/a10/0/x", "/local/a10/7/x"),
        ] {
            assert_eq!(path_of(own.as_ref(), 0, 7), Path::new(theirs));
        }
    }
}
