//! Extraction: the layers of an image become one tree, all at once and in any order.
//!
//! ```text
//! LayerSource → decode → entry ─┬→ writer (by directory) ─┬→ tree: openat, mkdirat, unlinkat …  → finish
//!   (a thread per layer)        └→ writer …               ┘   one name below one descriptor
//! ```
//!
//! The tree is kept in memory (`tree`) and decides by versions what wins, so the order in which entries arrive does not
//! matter, and what an upper layer hides is mostly never written. Nothing on disk is ever resolved: an archive has no
//! path to lead outside. Memory is bounded by the block pool (`blocks`) and some 200 bytes per entry.
//!
//! A component that a lower layer made a symbolic link gives way to a real directory, as in an overlay of the layers; one
//! of the same layer is followed inside the root (`path`). Directories stay writable until the end; their modes and
//! times are set last, deepest first (`finish`).

mod blocks;
mod codec;
mod decoder;
mod directory;
mod entry;
mod error;
mod finish;
mod hard_links;
mod header;
mod path;
mod pax;
mod pipeline;
mod repair;
mod schedule;
mod shared;
mod sparse;
mod tree;
mod writer;

pub use codec::decode;
pub use error::ExtractError;
pub use schedule::Schedule;

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use udocker_core::digest::Digest;
use udocker_core::store::{ChangedEntry, TreeFormat};

/// A layer to flatten.
pub trait LayerSource: Sync {
    /// Its digest, for messages.
    fn digest(&self) -> &Digest;
    /// A reader of the blob as stored; it fails, at its end at the latest, if digest or size are wrong.
    ///
    /// # Errors
    /// The source's.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}

/// How to flatten.
#[derive(Clone, Debug)]
pub struct FlattenOptions {
    /// Modes of what is made.
    pub format: TreeFormat,
    /// Most bytes of all files of all layers together.
    pub max_bytes: u64,
    /// Most entries of all layers together.
    pub max_entries: u64,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flattened {
    /// Entries of the tree, without its root.
    pub entries: u64,
    /// Bytes of its files, each name counted.
    pub tree_bytes: u64,
    /// Entries whose mode or owner in the archive differs from what was made, by path.
    pub changed: Vec<ChangedEntry>,
    /// Devices and fifos, which are not made.
    pub skipped_devices: u64,
}

/// Makes the tree of `layers` (lowest first) in the empty directory `root`. On an error the caller deletes it.
///
/// # Errors
/// [`ExtractError`] names the layer and the entry.
pub fn flatten(
    layers: &[&dyn LayerSource],
    root: BorrowedFd<'_>,
    options: &FlattenOptions,
) -> Result<Flattened, ExtractError> {
    flatten_with(layers, root, options, &Schedule::for_directory(root))
}

/// The same with a schedule of the caller's; the tree is the same with each.
///
/// # Errors
/// As [`flatten`].
pub fn flatten_with(
    layers: &[&dyn LayerSource],
    root: BorrowedFd<'_>,
    options: &FlattenOptions,
    schedule: &Schedule,
) -> Result<Flattened, ExtractError> {
    pipeline::flatten(layers, root, options, schedule)
}

/// A panic elsewhere has ended the work already; what is under the lock is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
