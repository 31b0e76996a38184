//! Flattening what a store has without a tree: images that udocker wrote, and those of stores that hold blobs alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use udocker_core::digest::Digest;
use udocker_core::manifest::{Descriptor, ImageManifest};
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::store::{Record, Store, StoredForm, StoredImage, StoredLayer};

use crate::fetch::{BlobSource, copy_and_digest};
use crate::stage::{Incoming, StageError, StageOptions, Staged, stage};

/// Flattens `image` into `store`; `key` is by what its record is found ([`Store::image_key`]), `known` a record of it in the store
/// that it comes from: the copy came by the same index and names.
///
/// Layers of version 1 are hashed first, since their names prove nothing.
///
/// # Errors
/// As [`stage`]; a missing layer is a damaged store.
pub fn stage_stored(
    store: &Store,
    image: &StoredImage,
    (key, known): (&Digest, Option<&Record>),
    platform: &Platform,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<Record, StageError> {
    let mut files = HashMap::new();
    let mut layers = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        let size = layer.size()?;
        let digest = match &layer.digest {
            Some(digest) => digest.clone(),
            None => computed_digest(layer)?,
        };
        files.insert(digest.clone(), layer.path.clone());
        layers.push(Descriptor { media_type: String::new(), digest, size, urls: Vec::new() });
    }
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest.clone()).collect();
    let config = Descriptor {
        media_type: String::new(),
        digest: Digest::sha256_of(&image.config),
        size: image.config.len() as u64,
        urls: Vec::new(),
    };
    let incoming = Incoming {
        manifest_bytes: image.identity(&digests),
        manifest: ImageManifest { config, layers },
        index: known.and_then(|record| record.index.clone()),
        config_bytes: image.config.clone(),
        platform: platform.clone(),
    };
    // The layers stay where they are.
    let mut names = known.map(|record| record.names.clone()).unwrap_or_default();
    names.extend(options.names.iter().filter(|name| known.is_none_or(|record| !record.names.contains(name))).cloned());
    let options = StageOptions { keep_layers: false, names, ..options.clone() };
    let Staged { record, .. } = &stage(store, &incoming, &Files(files), &options, progress)?;
    if matches!(image.form, StoredForm::Ancestry(_)) {
        store.publish_record_as(key, record)?;
    }
    Ok(record.clone())
}

/// The SHA-256 of a layer's file.
///
/// # Errors
/// [`StageError::File`] if it cannot be read.
pub fn computed_digest(layer: &StoredLayer) -> Result<Digest, StageError> {
    let hashed = File::open(&layer.path).and_then(|file| copy_and_digest(file, io::sink()));
    let (digest, _) = hashed.map_err(|source| StageError::File { action: "read", path: layer.path.clone(), source })?;
    Ok(digest)
}

struct Files(HashMap<Digest, PathBuf>);

impl BlobSource for Files {
    fn open(&self, descriptor: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let path = self.0.get(&descriptor.digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(File::open(path)?))
    }
    fn local_file(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        self.0.get(&descriptor.digest).cloned()
    }
}
