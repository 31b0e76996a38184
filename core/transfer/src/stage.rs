//! The one way of an image into a store: fetch and flatten at once into a private folder, then publish by renames.
//!
//! Order of publishing: blobs, tree, record. Each is content-addressed, so a crash between them leaves only things that
//! are right and will be found by the next pull or collected. A tag is the caller's to write, last.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use udocker_core::deadline::Deadline;
use udocker_core::digest::Digest;
use udocker_core::image_config::ImageConfig;
use udocker_core::manifest::{Descriptor, ImageManifest};
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::settings::{Limits, Settings};
use udocker_core::store::{FileLock, LockKind, Patience, Record, Store, TreeId};

use crate::extract::{FlattenOptions, LayerSource, flatten};
use crate::fetch::{Blob, BlobSource, fetch_during};
use crate::space;
pub use crate::stage_error::StageError;

/// An image whose manifest and configuration are known and whose layers are to come.
#[derive(Debug)]
pub struct Incoming {
    /// The manifest's bytes as they came.
    pub manifest_bytes: Vec<u8>,
    /// What they say.
    pub manifest: ImageManifest,
    /// The index that it was found through.
    pub index: Option<Digest>,
    /// The verified bytes of the configuration.
    pub config_bytes: Vec<u8>,
    /// For which platform the image was selected.
    pub platform: Platform,
}

/// How to stage.
#[derive(Clone, Debug)]
pub struct StageOptions {
    /// Limits on the image.
    pub limits: Limits,
    /// Blobs fetched at a time.
    pub parallel: usize,
    /// Flush the store's file system before publishing (syncfs(2)).
    pub sync: bool,
    /// Keep the blobs beside the tree.
    pub keep_layers: bool,
    /// The names under which a registry gave it.
    pub names: Vec<String>,
    /// Others are waited for until then.
    pub deadline: Deadline,
}

impl StageOptions {
    /// What the settings say for this store.
    pub fn of(settings: &Settings, store: &Store) -> Self {
        Self {
            limits: settings.limits.clone(),
            parallel: settings.registries.parallel,
            sync: store.settings().sync,
            keep_layers: store.settings().keep_layers,
            names: Vec::new(),
            deadline: Deadline::after(settings.limits.wait),
        }
    }
}

/// An image whose blobs, tree and record are in the store. While this lives nobody collects what no tag names yet.
#[derive(Debug)]
pub struct Staged {
    /// Its record.
    pub record: Record,
    _lock: FileLock,
}

/// Brings blobs, tree and record of `incoming` into `store`; what is there already is neither fetched nor made again. Who
/// tags the image keeps the result until that is done.
///
/// # Errors
/// On any error the store is as before, but for blobs and trees that were whole.
pub fn stage(
    store: &Store,
    incoming: &Incoming,
    source: &dyn BlobSource,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<Staged, StageError> {
    if let Some(layer) = incoming.manifest.layers.iter().find(|layer| !layer.urls.is_empty()) {
        return Err(StageError::ForeignLayer(layer.digest.clone()));
    }
    let keep_layers = options.keep_layers;
    let config = ImageConfig::parse(&incoming.config_bytes)?;
    let digests: Vec<Digest> = incoming.manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
    let tree = TreeId::of(store.format(), &digests);
    let manifest = Digest::sha256_of(&incoming.manifest_bytes);

    let waiting = || progress.warning("waiting for the end of a removal in the store");
    let lock = store.lock(LockKind::Publish, &Patience::until(&options.deadline, &waiting))?;
    let known =
        store.read_record(&manifest, &incoming.platform)?.filter(|r| r.tree == tree && store.tree(&tree).is_dir());
    let is_present = |digest: &Digest| store.blob(digest).is_file();
    if let Some(mut record) = known
        && is_present(&record.config_digest)
        && (!keep_layers || digests.iter().all(is_present))
    {
        let learned = learn(&mut record, incoming, options);
        if learned {
            store.publish_record(&Record {
                changed: store.read_changed(&manifest, &incoming.platform)?,
                ..record.clone()
            })?;
        }
        return Ok(Staged { record, _lock: lock });
    }
    drop(lock);

    space::check(store, &incoming.manifest, |layer| !keep_layers && source.local_file(layer).is_some())?;
    let folder = store.temporary("pull")?;
    let root = make_directory(folder.path().join("root"))?;
    make_directory(folder.path().join("blobs"))?;

    // Top layers first: what they hide is then never written.
    let mut blobs: Vec<Blob> = Vec::new();
    let mut blob_of_layer = vec![0; incoming.manifest.layers.len()];
    for (position, layer) in incoming.manifest.layers.iter().enumerate().rev() {
        blob_of_layer[position] = match blobs.iter().position(|blob| blob.descriptor().digest == layer.digest) {
            Some(same) => same,
            None => {
                // A blob that is to be kept has to come into this store.
                let local = if keep_layers { None } else { source.local_file(layer) };
                blobs.push(open_blob(store, layer, local, folder.path())?);
                blobs.len() - 1
            }
        };
    }
    let layers: Vec<&dyn LayerSource> = blob_of_layer.iter().map(|i| &blobs[*i] as &dyn LayerSource).collect();
    let flatten_options = FlattenOptions {
        format: store.format(),
        max_bytes: options.limits.image_bytes,
        max_entries: options.limits.image_entries,
    };
    let flattened = fetch_during(&blobs, source, options.parallel, progress, || {
        flatten(&layers, root.as_fd(), &flatten_options).map_err(StageError::from)
    })?;

    let config_path = folder.path().join("config");
    fs::write(&config_path, &incoming.config_bytes).map_err(|source| StageError::File {
        action: "write",
        path: config_path.clone(),
        source,
    })?;
    if options.sync {
        rustix::fs::syncfs(&root).map_err(|errno| StageError::File {
            action: "flush the file system of",
            path: folder.path().into(),
            source: errno.into(),
        })?;
    }
    let lock = store.lock(LockKind::Publish, &Patience::until(&options.deadline, &waiting))?;
    if keep_layers {
        for blob in &blobs {
            publish_blob(store, blob, folder.path())?;
        }
    }
    // Containers are made of it, so it stays with the record, whatever becomes of the layers.
    store.publish_blob(&config_path, &incoming.manifest.config.digest)?;
    store.publish_tree(&folder.path().join("root"), &tree)?;
    let record = Record {
        manifest,
        index: incoming.index.clone(),
        names: options.names.clone(),
        config_digest: incoming.manifest.config.digest.clone(),
        platform: incoming.platform.clone(),
        tree,
        layers: digests.len() as u64,
        packed_bytes: incoming.manifest.layers.iter().map(|layer| layer.size).sum(),
        tree_bytes: flattened.tree_bytes,
        entries: flattened.entries,
        config: ImageConfig { platform: None, ..config },
        changed: flattened.changed,
    };
    store.publish_record(&record)?;
    Ok(Staged { record, _lock: lock })
}

/// Takes down what `record` did not know: the index that the image was found through, the name that it came under.
fn learn(record: &mut Record, incoming: &Incoming, options: &StageOptions) -> bool {
    let before = (record.index.clone(), record.names.len());
    if incoming.index.is_some() {
        record.index.clone_from(&incoming.index);
    }
    record.names.extend(options.names.iter().filter(|name| !record.names.contains(name)).cloned().collect::<Vec<_>>());
    (&record.index, record.names.len()) != (&before.0, before.1)
}

/// Also one that was in the store at the beginning and was removed since.
fn publish_blob(store: &Store, blob: &Blob, folder: &Path) -> Result<(), StageError> {
    let digest = &blob.descriptor().digest;
    if !blob.was_present() {
        return Ok(store.publish_blob(blob.path(), digest)?);
    }
    if store.blob(digest).is_file() {
        return Ok(());
    }
    let copy = folder.join("blobs").join(digest.to_string());
    blob.copy_to(&copy).map_err(|source| StageError::File { action: "write", path: copy.clone(), source })?;
    Ok(store.publish_blob(&copy, digest)?)
}

fn open_blob(store: &Store, layer: &Descriptor, local: Option<PathBuf>, folder: &Path) -> Result<Blob, StageError> {
    for path in std::iter::once(store.blob(&layer.digest)).chain(local) {
        match File::open(&path) {
            Ok(file) => return Ok(Blob::present(layer.clone(), path, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StageError::File { action: "open", path, source }),
        }
    }
    Ok(Blob::missing(layer.clone(), folder.join("blobs").join(layer.digest.to_string()))?)
}

fn make_directory(path: PathBuf) -> Result<File, StageError> {
    let made = fs::create_dir(&path).and_then(|()| File::open(&path));
    made.map_err(|source| StageError::File { action: "make", path, source })
}
