//! Who uses a container, and its end. Both hold the container's list of users, so that neither passes the other.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::Container;
use crate::engine::native::as_mapped_root;
use crate::members::Kind;
use crate::run::Range;
use crate::store::{RunDirectory, Store, StoreError, io_error, remove_tree};

impl Store {
    /// Removes a container and its names. `subordinate`: the caller's ranges of uids and gids, whose files may lie in it.
    ///
    /// # Errors
    /// [`StoreError::ProtectedContainer`]; [`StoreError::InUse`] while something runs in it; [`StoreError::Gone`] if
    /// another was faster; I/O.
    pub fn remove_container(
        &self,
        container: &Container,
        run_dirs: &[PathBuf],
        subordinate: Option<(Range, Range)>,
    ) -> Result<(), StoreError> {
        if container.is_protected() {
            return Err(StoreError::ProtectedContainer);
        }
        let users = RunDirectory::open(run_dirs).map(|run| run.users(&container.id.0)).transpose()?;
        if let Some(pid) = users.as_ref().and_then(|users| users.other()) {
            return Err(StoreError::InUse { id: container.id.0.clone(), pid });
        }
        // Out of sight by one rename; what then stays half removed is only a temporary.
        let trash = self.temporary_for_container("trash")?;
        let moved = trash.path().join("container");
        match fs::rename(&container.directory, &moved) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Gone { id: container.id.0.clone() });
            }
            other => other.map_err(io_error("remove", &container.directory))?,
        }
        if let Some(users) = users {
            users.forget();
        }
        for entry in fs::read_dir(self.containers()).map_err(io_error("list", &self.containers()))?.flatten() {
            let ours = fs::read_link(entry.path()).is_ok_and(|t| t.file_name().is_some_and(|n| *n == *container.id.0));
            if ours {
                fs::remove_file(entry.path()).map_err(io_error("remove", &entry.path()))?;
            }
        }
        match (remove_tree(&moved), subordinate) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(ranges)) => {
                as_mapped_root(ranges, || remove_tree(&moved)).map_err(io_error("remove", &container.directory))
            }
            (Err(error), None) => Err(io_error("remove", &container.directory)(error)),
        }
    }

    /// Marks the container as in use by this process. Who writes into a layered one shares its overlay with all others who
    /// do (see [`crate::rendezvous`]), since two overlays may not share an upper directory, nor may one lie below another
    /// while it is written (kernel: `Documentation/filesystems/overlayfs.rst`, "Sharing and copying layers").
    ///
    /// # Errors
    /// [`StoreError::InUse`] if it is looked at; [`StoreError::Gone`] if it was removed a moment ago; I/O.
    pub fn mark_in_use(&self, container: &Container, writes: bool, run_dirs: &[PathBuf]) -> Result<(), StoreError> {
        if let Some(run) = RunDirectory::open(run_dirs) {
            let users = run.users(&container.id.0)?;
            if let Some(pid) = users.other_viewer().filter(|_| writes && container.is_layered()) {
                return Err(StoreError::InUse { id: container.id.0.clone(), pid });
            }
            users.enlist(if writes { Kind::Rank } else { Kind::Viewer })?;
        }
        container.still_there()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, StoreKind, StoreParts, StoreSettings};
    use crate::store::Stores;

    #[test]
    fn who_comes_after_a_removal_is_told_that_the_container_is_gone() {
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
        let new = store.begin_container().unwrap();
        store.publish_container(new, None).unwrap();
        let found = store.list_containers().unwrap().remove(0);
        store.remove_container(&found, &[], None).unwrap();
        let again = store.remove_container(&found, &[], None);
        assert!(matches!(again, Err(StoreError::Gone { .. })), "{again:?}");
        let stores = Stores::open(&Settings { stores: vec![settings], ..Settings::default() }).unwrap();
        let copied = store.clone_container(&found, &stores, None);
        assert!(matches!(copied, Err(StoreError::Gone { .. })), "{copied:?}");
        assert!(store.list_containers().unwrap().is_empty());
    }
}
