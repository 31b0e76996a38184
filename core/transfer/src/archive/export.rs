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
    let written = writer.add(&Source {
        name: b"",
        lower: &root.tree,
        upper: root.above.as_deref(),
        without: &[],
        originals: originals.as_ref(),
    });
    // What a removal took away while it was being written is not in the archive.
    container.still_there()?;
    written?;
    let unreadable = writer.finish()?;
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
    let written = write_clone(&mut writer, store, container, stores);
    container.still_there()?;
    written?;
    let unreadable = writer.finish()?;
    output.finish()?;
    Ok(unreadable)
}

fn write_clone(
    writer: &mut TreeWriter<'_>,
    store: &Store,
    container: &Container,
    stores: &Stores,
) -> Result<(), ArchiveError> {
    let plain = Source { name: b"", lower: container.directory(), upper: None, without: &LAYER_FILES, originals: None };
    writer.add(&plain)?;
    if container.is_layered() {
        let root = store.container_view(container, stores)?;
        let (lower, upper) = (root.tree.as_path(), root.above.as_deref());
        writer.add(&Source { name: b"ROOT", lower, upper, without: &[], ..plain })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use udocker_core::settings::{Settings, StoreKind, StoreParts, StoreSettings};
    use udocker_core::store::StoreError;

    use super::super::output::Existing;
    use super::*;

    #[test]
    fn a_container_that_is_removed_meanwhile_is_not_exported() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            name: "s".into(),
            path: folder.path().join("store"),
            parts: StoreParts::default(),
            kind: StoreKind::User,
            readonly: false,
            keep_layers: true,
            sync: false,
            access: Default::default(),
        };
        let store = Store::create(&settings).unwrap();
        store.publish_container(store.begin_container().unwrap(), None).unwrap();
        let container = store.list_containers().unwrap().remove(0);
        store.remove_container(&container, &[], None).unwrap();
        let stores = Stores::open(&Settings { stores: vec![settings], ..Settings::default() }).unwrap();
        let file = folder.path().join("x.tar");
        for write in [export, export_clone] {
            let output = Output::of(Some(Path::new(&file)), Existing::Refuse).unwrap();
            let result = write(&store, &container, &stores, output);
            assert!(matches!(result, Err(ArchiveError::Store(StoreError::Gone { .. }))), "{result:?}");
            assert!(!file.exists());
        }
    }
}
