//! Extraction: the layers of an image become one tree.
//!
//! Layers are applied lowest first, each entry beneath the descriptor of its parent directory, which is reached one
//! component at a time and never through a link; so nothing an archive says leads outside. A whiteout or an opaque mark
//! hides what *lower* layers made, whatever its place in its own layer. A component that a lower layer made a symbolic
//! link gives way to a real directory, as in an overlay of the layers; one of the same layer is followed inside the root.
//! Directories stay writable until the end; their modes and times are set last, deepest first.

mod codec;
mod error;
mod tree;

pub use codec::decode;
pub use error::ExtractError;

use std::io::{self, Read};
use std::os::fd::BorrowedFd;

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
    /// Most bytes of all files together.
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
    let mut tree = tree::Tree::new(root, options)?;
    for layer in layers {
        apply(&mut tree, *layer)?;
    }
    tree.finish()
}

fn apply(tree: &mut tree::Tree<'_>, layer: &dyn LayerSource) -> Result<(), ExtractError> {
    let broken = |source| ExtractError::Layer { digest: layer.digest().clone(), source };
    let mut archive = tar::Archive::new(layer.open().and_then(decode).map_err(broken)?);
    tree.begin_layer(layer.digest());
    for entry in archive.entries().map_err(broken)? {
        tree.apply(&mut entry.map_err(broken)?)?;
    }
    // The source tells only at its end whether the bytes were right.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(())
}
