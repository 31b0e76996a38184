//! What all threads of an extraction see: the tree, the blocks, the limits, and the first failure.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use udocker_core::digest::Digest;
use udocker_core::store::TreeFormat;
use udocker_core::text::escape;

use super::blocks::BlockPool;
use super::tree::Tree;
use super::{ExtractError, FlattenOptions, LayerSource, lock};

/// What all threads see.
pub(super) struct Shared<'a> {
    pub layers: &'a [&'a dyn LayerSource],
    pub tree: Tree,
    pub pool: BlockPool,
    pub format: TreeFormat,
    pub devices: AtomicU64,
    options: &'a FlattenOptions,
    entries: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicBool,
    first_error: Mutex<Option<ExtractError>>,
}

impl<'a> Shared<'a> {
    pub fn new(layers: &'a [&'a dyn LayerSource], tree: Tree, pool: BlockPool, options: &'a FlattenOptions) -> Self {
        Self {
            layers,
            tree,
            pool,
            format: options.format,
            devices: AtomicU64::new(0),
            options,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            first_error: Mutex::default(),
        }
    }

    /// What failed first, if anything did.
    pub fn take_error(&self) -> Option<ExtractError> {
        lock(&self.first_error).take()
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn fail(&self, error: ExtractError) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            *lock(&self.first_error) = Some(error);
        }
    }

    /// Counts an entry. Directories that names imply have the same limit: one name may be 512 of them.
    pub fn count_entry(&self) -> Result<(), ExtractError> {
        let limit = self.options.max_entries;
        let fits = self.entries.fetch_add(1, Ordering::Relaxed) < limit;
        match fits && self.tree.implied_directories() <= limit {
            true => Ok(()),
            false => Err(ExtractError::TooLarge { limit, unit: "entries" }),
        }
    }

    /// Counts what was decoded, whether it is kept or not: else a layer of nothing but hidden bytes has no end.
    pub fn count_bytes(&self, bytes: u64) -> Result<(), ExtractError> {
        let limit = self.options.max_bytes;
        match self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= limit {
            true => Ok(()),
            false => Err(ExtractError::TooLarge { limit, unit: "bytes" }),
        }
    }
}

pub(super) fn write_error(digest: &Digest, path: &[u8], source: io::Error) -> ExtractError {
    ExtractError::Write { digest: digest.clone(), entry: escape(path), source }
}
