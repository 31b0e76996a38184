//! Collecting what no tag names and no container is based on: blobs, records, trees.
//!
//! What a removed tag needed goes at once. Anything else without a name may be on its way to one (a pull publishes blobs,
//! tree and record before its tag, as does udocker), so it goes only after a day.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::repos::links;
use super::{Record, RemovedTag, RunDirectory, Store, StoreError, TreeId, Users, io_error};
use crate::digest::Digest;

/// What is younger may be about to get a name.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// What must stay, and what may go whatever its age.
#[derive(Default)]
struct Marks {
    /// Names below `layers/`.
    files: HashSet<String>,
    trees: HashSet<String>,
    removed_files: HashSet<String>,
    removed_trees: HashSet<String>,
}

impl Store {
    /// Removes what `removed` needed and nothing else does, and older left-overs; `run` tells what runs on this node. The
    /// caller holds the store's lock.
    ///
    /// # Errors
    /// If something of the store cannot be read, nothing is removed.
    pub fn collect_garbage(&self, removed: &RemovedTag, run: Option<&RunDirectory>) -> Result<(), StoreError> {
        let mut marks = Marks::default();
        marks.removed_files.extend(removed.files.iter().cloned());
        let mut keys = HashSet::new();
        for tag in self.all_tags()? {
            marks.files.extend(links(&tag.directory)?.into_iter().map(|(_, file)| file));
            match self.image_key(&tag.directory) {
                Ok(key) => keys.extend(key),
                // Its links count; a record it cannot have.
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // What a keeper of the store marked is the business of `udocker site gc`.
        for mark in self.marks()? {
            keys.insert(mark.manifest);
            marks.files.extend(mark.blobs);
        }
        for container in self.list_containers()? {
            container.check_base()?;
            marks.trees.extend(container.base().map(|tree| tree.hex().to_owned()));
        }
        let mut users = TreeUsers { run, lists: HashMap::new() };
        let stale = self.mark_records(&keys, removed, &mut users, &mut marks)?;
        for path in stale {
            remove_file(&path)?;
        }
        for holder in entries_below(&self.path().join("rootfs"), 2) {
            let name = file_name(&holder);
            if !marks.trees.contains(&name) && (marks.removed_trees.contains(&name) || is_old(&holder)) {
                // Out of reach first, by one rename; then it may take its time.
                let trash = self.temporary("trash")?;
                let moved = fs::rename(&holder, trash.path().join("tree"));
                moved.map_err(io_error("remove", &holder))?;
            }
        }
        users.forget_unused();
        for path in entries_below(&self.layers(), 1) {
            let name = file_name(&path);
            if !marks.files.contains(&name) && (marks.removed_files.contains(&name) || is_old(&path)) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Marks what the records that stay need, and what those that go needed; returns the files of the latter.
    fn mark_records(
        &self,
        keys: &HashSet<Digest>,
        removed: &RemovedTag,
        users: &mut TreeUsers<'_>,
        marks: &mut Marks,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let mut stale = Vec::new();
        let mut records = Vec::new();
        for path in entries_below(&self.path().join("records"), 2) {
            match fs::read(&path).ok().and_then(|bytes| Record::parse_head(&bytes).ok()) {
                Some(record) => records.push((path, record)),
                None if is_old(&path) => stale.push(path),
                None => {}
            }
        }
        // A record stands under its manifest, its index, or its key; what it describes is always the manifest.
        let manifests_of = |wanted: &dyn Fn(&str) -> bool| -> HashSet<Digest> {
            let named = records.iter().filter(|(path, _)| file_name(path).split('-').next().is_some_and(wanted));
            named.map(|(_, record)| record.manifest.clone()).collect()
        };
        let hexes: HashSet<&str> = keys.iter().map(Digest::hex).collect();
        let kept = manifests_of(&|hex| hexes.contains(hex));
        let gone = manifests_of(&|hex| removed.key.as_ref().is_some_and(|key| key.hex() == hex));
        for (path, record) in records {
            let (tree, config) = (record.tree.hex().to_owned(), record.config_digest.to_string());
            let is_gone = gone.contains(&record.manifest);
            let is_kept = kept.contains(&record.manifest) || !is_gone && !is_old(&path);
            if is_kept || users.run_in(&record.tree, &self.tree(&record.tree))? {
                marks.trees.insert(tree);
                // Images without a configuration blob of their own have it for their record alone.
                marks.files.insert(config);
            } else {
                if is_gone {
                    marks.removed_trees.insert(tree);
                    marks.removed_files.insert(config);
                }
                stale.push(path);
            }
        }
        Ok(stale)
    }
}

/// Who runs in trees that are about to go. Their lists stay locked, so that nobody starts in one meanwhile.
struct TreeUsers<'a> {
    run: Option<&'a RunDirectory>,
    lists: HashMap<TreeId, Option<Users>>,
}

impl TreeUsers<'_> {
    fn run_in(&mut self, tree: &TreeId, root: &Path) -> Result<bool, StoreError> {
        let Some(run) = self.run else { return Ok(false) };
        if !self.lists.contains_key(tree) {
            self.lists.insert(tree.clone(), run.tree_users(root)?);
        }
        Ok(self.lists[tree].as_ref().is_some_and(|users| users.other().is_some()))
    }
    /// Their trees are gone.
    fn forget_unused(self) {
        self.lists.into_values().flatten().filter(|users| users.other().is_none()).for_each(Users::forget);
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether the last change of its inode, a rename among them, is long ago; false for what is gone.
pub(super) fn is_old(path: &Path) -> bool {
    let Ok(status) = path.symlink_metadata() else { return false };
    let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(status.ctime()).unwrap_or(0));
    SystemTime::now().duration_since(changed).is_ok_and(|age| age > GRACE)
}

pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The entries exactly `depth` levels below `directory`; none if it is not there.
pub(super) fn entries_below(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(directory) else { return Vec::new() };
    let paths = list.flatten().map(|entry| entry.path());
    if depth == 1 { paths.collect() } else { paths.flat_map(|path| entries_below(&path, depth - 1)).collect() }
}
