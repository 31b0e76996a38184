//! `export`: a container's root as a tar, or the whole container as udocker's `import --clone` reads it.
//!
//! A layered container stays as it is: its base and its upper layer are written as the one tree that they show. In the plain
//! form what is the image's own has the image's modes and owners again (set-id bits, and 0 where the image says so); what
//! was made in the container, and every file of a full one, has the numeric owner that it has on disk.

use std::collections::HashMap;

use udocker_core::container::Container;
use udocker_core::store::{Store, Stores};

use super::tree::{Source, TreeWriter};
use super::{ArchiveError, Output};

/// Files of a layered container that a full one does not have.
const LAYER_FILES: [&str; 3] = ["layered", "upper", "work"];

/// Writes the root of `container`, which is in `store`, and ends `output`. Returns the files that cannot be read and are
/// not in the archive, by their escaped paths.
///
/// # Errors
/// [`udocker_core::store::StoreError::NoBase`] if its image's tree is gone; what reading and writing give.
pub fn export(
    store: &Store,
    container: &Container,
    stores: &Stores,
    mut output: Output,
) -> Result<Vec<String>, ArchiveError> {
    let root = store.container_view(container, stores)?;
    let originals: Option<HashMap<_, _>> = match container.is_layered() {
        true => container.base_originals(stores),
        false => None,
    }
    .map(|changed| changed.into_iter().map(|entry| (entry.path.clone(), entry)).collect());
    let mut writer = TreeWriter::new(&mut output);
    writer.add(&Source {
        name: b"",
        lower: &root.tree,
        upper: root.above.as_deref(),
        without: &[],
        originals: originals.as_ref(),
    })?;
    let unreadable = writer.finish()?;
    // What a removal took away while it was being written is not in the archive.
    container.still_there()?;
    output.finish()?;
    Ok(unreadable)
}

/// The same with the container's settings beside its root, as a directory of a full container has them.
///
/// # Errors
/// As [`export`].
pub fn export_clone(
    store: &Store,
    container: &Container,
    stores: &Stores,
    mut output: Output,
) -> Result<Vec<String>, ArchiveError> {
    let mut writer = TreeWriter::new(&mut output);
    let plain = Source { name: b"", lower: container.directory(), upper: None, without: &LAYER_FILES, originals: None };
    writer.add(&plain)?;
    if container.is_layered() {
        let root = store.container_view(container, stores)?;
        writer.add(&Source {
            name: b"ROOT",
            lower: &root.tree,
            upper: root.above.as_deref(),
            without: &[],
            ..plain
        })?;
    }
    let unreadable = writer.finish()?;
    // What a removal took away while it was being written is not in the archive.
    container.still_there()?;
    output.finish()?;
    Ok(unreadable)
}
