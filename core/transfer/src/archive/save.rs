//! `save`: images as a docker-archive that docker, skopeo, podman and udocker load.
//!
//! ```text
//! ID/VERSION, ID/json, ID/layer.tar     a directory per layer and chain of parents, as before Docker 1.10 (udocker reads these)
//! HEX.json                              configuration, named by its digest
//! manifest.json, repositories
//! ```
//! Layers are unpacked, so that their digests are the configuration's diff IDs, which docker and skopeo check. One that
//! several images have is written once; where another chain has it, a hard link leads to it. The same images give the same
//! bytes: times and owners are 0.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};
use tar::EntryType;
use udocker_core::digest::{Algorithm, Digest};
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::store::Stores;

use super::error::file_error;
use super::stored::{SavedImage, SavedLayer};
use super::tar_writer::{Meta, TarWriter};
use super::{ArchiveError, Output};
use crate::extract::decode;
use crate::fetch::{FetchError, Hasher, copy_and_digest};

const FILE: Meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: 0 };
const DIRECTORY: Meta = Meta { mode: 0o755, ..FILE };

/// A layer without its compression.
#[derive(Clone)]
struct Unpacked {
    diff_id: Digest,
    size: u64,
}

/// Writes the images that `references` name into `output`, and ends it.
///
/// # Errors
/// [`ArchiveError::NoImage`], [`ArchiveError::NoBlob`] where layers were not kept; what reading and writing give.
pub fn save(stores: &Stores, references: &[ImageReference], mut output: Output) -> Result<(), ArchiveError> {
    let images: Vec<_> =
        references.iter().map(|reference| SavedImage::find(stores, reference)).collect::<Result<_, _>>()?;
    let distinct: HashSet<&SavedLayer> = images.iter().flat_map(|image| &image.layers).collect();
    // Sizes stand before the bytes, so each layer is unpacked twice; the first time all at once.
    let unpacked: HashMap<&SavedLayer, Unpacked> =
        distinct.into_par_iter().map(|layer| Ok((layer, measure(layer)?))).collect::<Result<_, ArchiveError>>()?;
    let failed = output.failed();
    let mut archive = Archive {
        tar: TarWriter::new(&mut output),
        failed: &failed,
        layers: HashMap::new(),
        members: HashSet::new(),
        manifest: Vec::new(),
        repositories: BTreeMap::new(),
    };
    for (reference, image) in references.iter().zip(&images) {
        archive.image(reference, image, &unpacked)?;
    }
    archive.finish()?;
    output.finish()
}

/// An image's configuration with the diff IDs that its layers have; what version 1 kept per layer goes.
pub(super) fn image_config(mut config: Value, diff_ids: &Value) -> Vec<u8> {
    if let Some(object) = config.as_object_mut() {
        for name in ["id", "parent", "parent_id", "layer_id", "throwaway", "Size", "size"] {
            object.remove(name);
        }
        let is_empty = |value: Option<&Value>| value.is_none_or(Value::is_null);
        if is_empty(object.get("config"))
            && let Some(old) = object.get("container_config").cloned()
        {
            object.insert("config".into(), old);
        }
        let native = Platform::native();
        for (name, value) in [("os", native.os), ("architecture", native.architecture)] {
            if object.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                object.insert(name.into(), value.into());
            }
        }
        object.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
    }
    serde_json::to_vec(&config).expect("a JSON value serialises into memory")
}

/// An image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

struct Archive<'a> {
    tar: TarWriter<&'a mut Output>,
    failed: &'a dyn Fn(io::Error) -> ArchiveError,
    /// Where the bytes of a layer are, by its diff ID.
    layers: HashMap<Digest, String>,
    members: HashSet<String>,
    manifest: Vec<ManifestItem>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Archive<'_> {
    fn image(
        &mut self,
        reference: &ImageReference,
        image: &SavedImage,
        unpacked: &HashMap<&SavedLayer, Unpacked>,
    ) -> Result<(), ArchiveError> {
        let measured: Vec<_> = image.layers.iter().map(|layer| &unpacked[layer]).collect();
        let diff_ids = json!(measured.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>());
        let config = match image.config["rootfs"]["diff_ids"] == diff_ids {
            true => image.config_bytes.clone(),
            // Version 1 has none, and an author may have claimed others: what loads this checks them.
            false => image_config(image.config.clone(), &diff_ids),
        };
        let config_id = Digest::sha256_of(&config).hex().to_owned();
        let (mut parent, mut paths) = (None, Vec::new());
        for (position, (layer, unpacked)) in image.layers.iter().zip(measured).enumerate() {
            // The top has the configuration, so that its directory belongs to one image.
            let top = (position + 1 == image.layers.len()).then_some(&image.config);
            let chain = parent.as_deref().unwrap_or_default();
            let text = format!("{chain}\n{}\n{}\n", unpacked.diff_id, top.map_or("", |_| &config_id));
            let id = Digest::sha256_of(text.as_bytes()).hex().to_owned();
            if self.members.insert(id.clone()) {
                self.layer(&id, &layer_json(&id, parent.as_deref(), top), layer, unpacked)?;
            }
            paths.push(self.layers[&unpacked.diff_id].clone());
            parent = Some(id);
        }
        let config_name = format!("{config_id}.json");
        if self.members.insert(config_name.clone()) {
            self.small(&config_name, &config)?;
        }
        let tag = reference.digest().is_none().then(|| reference.selector());
        if let (Some(tag), Some(top)) = (&tag, parent) {
            self.repositories.entry(reference.typed_name().to_owned()).or_default().insert(tag.clone(), top);
        }
        let name = tag.map(|tag| format!("{}:{tag}", reference.typed_name()));
        match self.manifest.iter_mut().find(|item| item.config == config_name && item.layers == paths) {
            Some(item) => {
                let new: Vec<_> = name.into_iter().filter(|name| !item.repo_tags.contains(name)).collect();
                item.repo_tags.extend(new);
            }
            None => {
                let repo_tags = name.into_iter().collect();
                self.manifest.push(ManifestItem { config: config_name, repo_tags, layers: paths });
            }
        }
        Ok(())
    }

    fn layer(&mut self, id: &str, json: &[u8], layer: &SavedLayer, unpacked: &Unpacked) -> Result<(), ArchiveError> {
        let Unpacked { diff_id, size } = unpacked;
        self.tar.directory(id.as_bytes(), DIRECTORY).map_err(self.failed)?;
        self.small(&format!("{id}/VERSION"), b"1.0")?;
        self.small(&format!("{id}/json"), json)?;
        let path = format!("{id}/layer.tar");
        if let Some(there) = self.layers.get(diff_id) {
            let linked = self.tar.special(path.as_bytes(), EntryType::Link, FILE, there.as_bytes());
            return linked.map_err(self.failed);
        }
        let reader = open(layer).and_then(|file| decode(Box::new(file)).map_err(file_error("read", &layer.path)))?;
        let mut bytes = Digested { reader, hash: Hasher::new(Algorithm::Sha256) };
        self.tar.file(path.as_bytes(), FILE, *size, &mut bytes).map_err(self.failed)?;
        if bytes.hash.finish() != *diff_id {
            let changed = io::Error::other("it changed while it was read");
            return Err(file_error("read", &layer.path)(changed));
        }
        self.layers.insert(diff_id.clone(), path);
        Ok(())
    }

    fn finish(mut self) -> Result<(), ArchiveError> {
        let (manifest, repositories) = (json!(self.manifest), json!(self.repositories));
        self.small("manifest.json", manifest.to_string().as_bytes())?;
        self.small("repositories", repositories.to_string().as_bytes())?;
        self.tar.finish().map(drop).map_err(self.failed)
    }

    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.tar.file(name.as_bytes(), FILE, bytes.len() as u64, bytes).map_err(self.failed)
    }
}

/// What Docker before 1.10 and udocker read of a layer.
fn layer_json(id: &str, parent: Option<&str>, config: Option<&Value>) -> Vec<u8> {
    let mut json = config.cloned().unwrap_or_else(|| json!({}));
    if let Some(object) = json.as_object_mut() {
        object.remove("rootfs");
        object.remove("history");
        object.remove("parent");
        object.insert("id".into(), id.into());
        object.entry("created").or_insert("1970-01-01T00:00:00Z".into());
        object.extend(parent.map(|parent| ("parent".to_owned(), parent.into())));
    }
    serde_json::to_vec(&json).expect("a JSON value serialises into memory")
}

fn open(layer: &SavedLayer) -> Result<File, ArchiveError> {
    File::open(&layer.path).map_err(file_error("open", &layer.path))
}

/// Reads a layer to its end, checks it against its digest, and measures what it unpacks to.
fn measure(layer: &SavedLayer) -> Result<Unpacked, ArchiveError> {
    let failed = |source| file_error("read", &layer.path)(source);
    let file = open(layer)?;
    let rest = file.try_clone().map_err(failed)?;
    let algorithm = layer.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let packed = Arc::new(Mutex::new(Hasher::new(algorithm)));
    let reader = decode(Box::new(Shared { file, hash: Arc::clone(&packed) })).map_err(failed)?;
    let unpacked = copy_and_digest(reader, io::sink());
    // A codec may end before its file does.
    let drained = copy_and_digest(Shared { file: rest, hash: Arc::clone(&packed) }, io::sink());
    drained.map_err(failed)?;
    let packed = Arc::into_inner(packed).expect("its readers are gone").into_inner();
    let actual = packed.unwrap_or_else(PoisonError::into_inner).finish();
    if let Some(digest) = layer.digest.as_ref().filter(|digest| **digest != actual) {
        return Err(FetchError::Stored { digest: digest.clone(), path: layer.path.clone() }.into());
    }
    let (diff_id, size) = unpacked.map_err(failed)?;
    Ok(Unpacked { diff_id, size })
}

/// A file that is hashed as it is read; its readers follow one another.
struct Shared {
    file: File,
    hash: Arc<Mutex<Hasher>>,
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).update(&buffer[..count]);
        Ok(count)
    }
}

struct Digested<R> {
    reader: R,
    hash: Hasher,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
