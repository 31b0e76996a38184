//! A node's own copies of images: trees on a local disk, so that a job's programs are read from there.
//!
//! It is a store without tags and layers, of one user, mode 0700. A copy is made beside what the shared store has (by
//! `udocker stage`, once per node) and may go whenever nothing on the node runs in it: the shared store has it still.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Record, RunDirectory, Store, StoreError, TreeId, io_error};
use crate::settings::{NodeCache, StoreKind, StoreParts, StoreSettings};

/// A copy in a cache.
struct Copy {
    tree: TreeId,
    bytes: u64,
    made: SystemTime,
    records: Vec<PathBuf>,
    configuration: PathBuf,
}

impl Store {
    /// The cache of this node; `None` if there is none yet, or if its place is not this user's alone.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_node_cache(cache: &NodeCache) -> Result<Option<Self>, StoreError> {
        // The same is asked of a run directory.
        match RunDirectory::open(std::slice::from_ref(&cache.path)) {
            Some(_) => Self::open(&settings_of(cache)),
            None => Ok(None),
        }
    }

    /// The same, made if it is missing.
    ///
    /// # Errors
    /// I/O, and EPERM for a place that is not this user's alone.
    pub fn create_node_cache(cache: &NodeCache) -> Result<Self, StoreError> {
        if RunDirectory::open(std::slice::from_ref(&cache.path)).is_none() {
            return Err(io_error("use as the node cache", &cache.path)(rustix::io::Errno::PERM));
        }
        Self::create(&settings_of(cache))
    }

    /// Removes copies, oldest first, until `bytes` more are allowed (`limit`, of all copies) and free on the disk; spares what
    /// runs on this node. Returns how many bytes there is room for.
    ///
    /// # Errors
    /// I/O
    pub fn make_room(&self, bytes: u64, limit: Option<u64>, run: &RunDirectory) -> Result<u64, StoreError> {
        let mut copies = self.copies()?;
        copies.sort_by_key(|copy| copy.made);
        let mut used: u64 = copies.iter().map(|copy| copy.bytes).sum();
        let mut room = self.room(used, limit)?;
        for copy in copies {
            if room >= bytes {
                break;
            }
            if self.evict(&copy, run)? {
                used = used.saturating_sub(copy.bytes);
                room = self.room(used, limit)?;
            }
        }
        Ok(room)
    }

    fn room(&self, used: u64, limit: Option<u64>) -> Result<u64, StoreError> {
        let status = rustix::fs::statvfs(self.path()).map_err(io_error("read the free space of", self.path()))?;
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        Ok(limit.map_or(free, |limit| free.min(limit.saturating_sub(used))))
    }

    /// Whether nothing runs in it, and it is gone.
    fn evict(&self, copy: &Copy, run: &RunDirectory) -> Result<bool, StoreError> {
        let root = self.tree(&copy.tree);
        // Held to the end: nobody begins to run in it meanwhile.
        let Some(users) = run.tree_users(&root)? else { return Ok(false) };
        if users.other().is_some() {
            return Ok(false);
        }
        for path in copy.records.iter().chain([&copy.configuration]) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error("remove", path)(error));
                }
                _ => {}
            }
        }
        let trash = self.temporary("trash")?;
        let holder = root.parent().expect("a tree's path has a parent");
        fs::rename(holder, trash.path().join("tree")).map_err(io_error("remove", holder))?;
        users.forget();
        Ok(true)
    }

    fn copies(&self) -> Result<Vec<Copy>, StoreError> {
        let mut copies: Vec<Copy> = Vec::new();
        let directory = self.path().join("records/sha256");
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(copies),
            other => other.map_err(io_error("list", &directory))?,
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            // One that is being written is no copy yet.
            let Some(record) = fs::read(&path).ok().and_then(|bytes| Record::parse_head(&bytes).ok()) else { continue };
            match copies.iter_mut().find(|copy| copy.tree == record.tree) {
                Some(copy) => copy.records.push(path),
                None => copies.push(Copy {
                    made: made(&path),
                    bytes: record.tree_bytes,
                    configuration: self.blob(&record.config_digest),
                    tree: record.tree,
                    records: vec![path],
                }),
            }
        }
        Ok(copies)
    }
}

fn made(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|status| status.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn settings_of(cache: &NodeCache) -> StoreSettings {
    StoreSettings {
        name: "node cache".into(),
        path: cache.path.clone(),
        parts: StoreParts::default(),
        kind: StoreKind::Cache,
        readonly: false,
        keep_layers: false,
        sync: false,
        access: Default::default(),
    }
}
