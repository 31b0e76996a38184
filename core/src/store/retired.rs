//! Deleting what was retired from a central store long ago.
//!
//! What is deleted goes out of reach first, by a rename of its tree into `trash/`; its mark goes last. So whatever ends the
//! work, the next one goes on with it. What a tag names or a mark pins, and what runs, stays.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::garbage::{entries_below, file_name, is_old, remove_file};
use super::repos::links;
use super::{HeldImage, MarkKind, Store, StoreError, TreeId, io_error};
use crate::digest::Digest;

/// What became of one image that was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// Its manifest.
    pub manifest: Digest,
    /// A name that it had.
    pub shown: String,
    /// Bytes of its tree.
    pub bytes: u64,
    /// The process that runs in it: it stays.
    pub spared_for: Option<u32>,
}

impl Store {
    /// Deletes the images that were retired `age` ago, and what nothing names for a day; `runner` tells a process that runs
    /// in a tree. The caller holds the store's lock alone.
    ///
    /// # Errors
    /// If something of the store cannot be read, nothing is deleted.
    pub fn collect_retired(
        &self,
        age: Duration,
        runner: &dyn Fn(&Path) -> Option<u32>,
    ) -> Result<Vec<Collected>, StoreError> {
        self.settle_marks()?;
        let is_due = |image: &HeldImage| {
            let retired = image.mark.as_ref().filter(|mark| mark.kind == MarkKind::Retired && image.tags.is_empty());
            retired.is_some_and(|mark| SystemTime::now().duration_since(mark.since).is_ok_and(|since| since >= age))
        };
        let (due, mut kept): (Vec<_>, Vec<_>) = self.held_images()?.into_iter().partition(is_due);
        let mut collected = Vec::with_capacity(due.len());
        let mut gone = Vec::with_capacity(due.len());
        for image in due {
            let trees: HashSet<&TreeId> = image.records.iter().map(|(_, record)| &record.tree).collect();
            let spared_for = trees.iter().find_map(|tree| runner(&self.tree(tree)));
            collected.push(Collected {
                manifest: image.manifest.clone(),
                shown: image.shown(),
                bytes: image.records.first().map_or(0, |(_, record)| record.tree_bytes),
                spared_for,
            });
            if spared_for.is_some() { kept.push(image) } else { gone.push(image) }
        }
        let needed = self.needed_by(&kept)?;
        let mut blobs = HashSet::new();
        for image in &gone {
            for (path, record) in &image.records {
                if !needed.trees.contains(record.tree.hex()) {
                    self.discard(self.tree(&record.tree).parent().unwrap_or(Path::new("")))?;
                }
                blobs.insert(record.config_digest.to_string());
                remove_file(path)?;
            }
            blobs.extend(image.mark.iter().flat_map(|mark| mark.blobs.iter().cloned()));
        }
        for holder in entries_below(&self.path().join("rootfs"), 2) {
            if !needed.trees.contains(&file_name(&holder)) && is_old(&holder) {
                self.discard(&holder)?;
            }
        }
        for path in entries_below(&self.layers(), 1) {
            let name = file_name(&path);
            if !needed.files.contains(&name) && (blobs.contains(&name) || is_old(&path)) {
                remove_file(&path)?;
            }
        }
        gone.iter().try_for_each(|image| self.remove_mark(&image.manifest))?;
        Ok(collected)
    }

    /// What `images` and all tags, whole or not, and the containers of the store need.
    fn needed_by(&self, images: &[HeldImage]) -> Result<Needed, StoreError> {
        let mut needed = Needed::default();
        for image in images {
            needed.files.extend(image.mark.iter().flat_map(|mark| mark.blobs.iter().cloned()));
            for (_, record) in &image.records {
                needed.trees.insert(record.tree.hex().to_owned());
                needed.files.insert(record.config_digest.to_string());
            }
        }
        for tag in self.all_tags()? {
            needed.files.extend(links(&tag.directory)?.into_iter().map(|(_, file)| file));
        }
        for container in self.list_containers()? {
            needed.trees.extend(container.base().map(|tree| tree.hex().to_owned()));
        }
        Ok(needed)
    }

    /// Moves the holder of a tree out of reach, and removes it then.
    fn discard(&self, holder: &Path) -> Result<(), StoreError> {
        let trash = self.trash()?;
        match fs::rename(holder, trash.path().join("tree")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", holder)(error)),
            _ => Ok(()),
        }
    }
}

/// Names of what must stay, below `layers/` and `rootfs/FORMAT/`.
#[derive(Default)]
struct Needed {
    files: HashSet<String>,
    trees: HashSet<String>,
}
