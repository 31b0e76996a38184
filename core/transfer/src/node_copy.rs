//! The copy of an image in the cache of this node: made from the layers of the store that has it, once per node.

use udocker_core::deadline::Deadline;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::platform::Platform;
use udocker_core::progress::{Progress, Silent};
use udocker_core::reference::ImageReference;
use udocker_core::settings::{NodeCache, Settings};
use udocker_core::store::{Patience, RunDirectory, Store, StoreError, Stores};

use crate::stage::{StageError, StageOptions};
use crate::stored::stage_stored;

/// There is no copy on this node; the image runs from its store.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy {reference} into the node cache {}, so it runs from its store", cache.display())]
pub struct NodeCopyError {
    reference: ImageReference,
    cache: std::path::PathBuf,
    #[source]
    cause: StageError,
}

impl Explain for NodeCopyError {
    fn kind(&self) -> ErrorKind {
        self.cause.kind()
    }
    fn hints(&self) -> Vec<String> {
        vec!["`[paths] node_cache` and `[stage] node_cache_size` of site.toml say where it is and how large".into()]
    }
}

/// Copies `reference`, which a store of `stores` has flattened, into `cache`, and tells whether a copy is there; none is made
/// of an image without a tag, which runs from its store.
///
/// # Errors
/// [`NodeCopyError`]; what is half-made does not stay.
pub fn copy_to_node(
    stores: &Stores,
    reference: &ImageReference,
    platform: &Platform,
    (cache, settings): (&NodeCache, &Settings),
    progress: &dyn Progress,
) -> Result<bool, NodeCopyError> {
    copy(stores, reference, platform, (cache, settings), progress).map_err(|cause| NodeCopyError {
        reference: reference.clone(),
        cache: cache.path.clone(),
        cause,
    })
}

fn copy(
    stores: &Stores,
    reference: &ImageReference,
    platform: &Platform,
    (cache, settings): (&NodeCache, &Settings),
    progress: &dyn Progress,
) -> Result<bool, StageError> {
    let Some(found) = stores.find_image(reference, platform)? else { return Ok(false) };
    let (Some(record), Some(directory)) = (&found.record, &found.find_tag_directory(reference)?) else {
        return Ok(false);
    };
    // Without it nobody knows what runs here.
    let Some(run) = RunDirectory::open(&settings.run_dirs) else { return Ok(false) };
    let deadline = Deadline::after(settings.limits.wait);
    let told = || progress.warning("waiting for another process of yours that copies the same image to this node");
    let _lock = run.lock(&format!("copy-{}", found.key.hex()), &Patience::until(&deadline, &told))?;
    let store = Store::create_node_cache(cache)?;
    if store.flattened(&found.key, platform)?.is_some() {
        return Ok(true);
    }
    let room = store.make_room(record.tree_bytes, cache.bytes, &run)?;
    if room < record.tree_bytes {
        return Err(StageError::NoSpace { path: cache.path.clone(), available: room, needed: record.tree_bytes });
    }
    let gone = || StoreError::Damaged { path: directory.clone(), what: "it has no image any more".into() };
    let image = found.store.read_image(directory)?.ok_or_else(gone)?;
    let names = vec![reference.typed_name().to_owned()];
    let options = StageOptions { deadline, names, ..StageOptions::of(settings, &store) };
    // What is told of the layers of a pull was told by who pulled.
    stage_stored(&store, &image, (&found.key, Some(record)), platform, &options, &Silent)?;
    Ok(true)
}
