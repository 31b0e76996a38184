//! `load`: docker-archives (`docker save`, `udocker save`, `podman save`) and OCI layouts in a tar.

use std::collections::HashMap;
use std::io::Read;

use serde::Deserialize;
use udocker_core::digest::Digest;
use udocker_core::image_config::{ImageConfig, MAX_CONFIG_BYTES};
use udocker_core::manifest::{Descriptor, Document, IndexEntry, MAX_MANIFEST_BYTES, ManifestError};
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::reference::{DEFAULT_TAG, ImageReference};
use udocker_core::store::Store;

use super::members::{ArchiveBlobs, Members};
use super::{ArchiveError, CONFIG_MEDIA_TYPE, layer_media_type, manifest_json};
use crate::stage::{Incoming, StageOptions, stage};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// One image of an archive, with the names it shall have.
struct Found {
    incoming: Incoming,
    names: Vec<ImageReference>,
    blob_names: HashMap<Digest, String>,
}

/// Loads the images of `input` (`input_name` in messages) into `store` and returns the references that were made.
///
/// `name` replaces the name of the archive's image, its tag stays; an image without any name gets a random one.
///
/// # Errors
/// [`ArchiveError::Exists`] if one of the references is there already: nothing is changed then.
pub fn load(
    store: &Store,
    input: Box<dyn Read + Send>,
    input_name: &str,
    name: Option<&ImageReference>,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<Vec<ImageReference>, ArchiveError> {
    let folder = store.temporary("load")?;
    let members = Members::spread(input, input_name, folder.path())?;
    let found = if members.get("index.json").is_some() {
        from_layout(&members, name)?
    } else if members.get("manifest.json").is_some() {
        from_docker_archive(&members, name)?
    } else {
        return Err(ArchiveError::NotAnImage(input_name.to_owned()));
    };
    if found.is_empty() {
        return Err(ArchiveError::Empty(input_name.to_owned()));
    }
    for reference in found.iter().flat_map(|image| &image.names) {
        if store.has_tag(reference.typed_name(), &reference.selector()) {
            return Err(ArchiveError::Exists(reference.clone()));
        }
    }
    let mut loaded = Vec::new();
    for Found { incoming, names, blob_names } in found {
        let blobs = ArchiveBlobs { members: &members, names: blob_names };
        let _staged = stage(store, &incoming, &blobs, options, progress)?;
        let mut digests: Vec<_> = incoming.manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
        digests.push(incoming.manifest.config.digest.clone());
        for name in names {
            store.publish_tag(name.typed_name(), &name.selector(), &incoming.manifest_bytes, &digests)?;
            loaded.push(name);
        }
    }
    Ok(loaded)
}

fn named(name: Option<&ImageReference>, tag: Option<&str>) -> Result<ImageReference, ArchiveError> {
    let base = match name {
        Some(name) => name.typed_name().to_owned(),
        None => random_name(),
    };
    let tag = name.and_then(ImageReference::tag).or(tag).unwrap_or(DEFAULT_TAG);
    Ok(format!("{base}:{tag}").parse()?)
}

/// 16 lower-case letters and digits: a name for an image that has none.
pub(super) fn random_name() -> String {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    debug_assert_eq!(filled, Ok(16), "getrandom(2) fills up to 256 bytes at once");
    bytes.iter().map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyz012345"[usize::from(byte & 31)])).collect()
}

fn from_layout(members: &Members, name: Option<&ImageReference>) -> Result<Vec<Found>, ArchiveError> {
    let bytes = members.read("index.json", MAX_MANIFEST_BYTES)?;
    let Document::Index(index) = Document::parse(None, &bytes)? else {
        return Err(ManifestError::Contradiction("`index.json` is no index".into()).into());
    };
    let native = Platform::native();
    index.manifests.iter().map(|entry| layout_image(members, entry, name, &native)).collect()
}

fn layout_image(
    members: &Members,
    entry: &IndexEntry,
    name: Option<&ImageReference>,
    native: &Platform,
) -> Result<Found, ArchiveError> {
    let mut digest = entry.descriptor.digest.clone();
    let mut bytes = members.blob(&digest, MAX_MANIFEST_BYTES)?;
    let mut index = None;
    let of_schema1 = || ManifestError::Contradiction("it is of schema 1, which no layout holds".into());
    let manifest = match Document::parse(None, &bytes)? {
        Document::Image(manifest) => manifest,
        Document::Schema1(_) => return Err(of_schema1().into()),
        Document::Index(nested) => {
            index = Some(digest);
            digest = nested.select(native)?.digest.clone();
            bytes = members.blob(&digest, MAX_MANIFEST_BYTES)?;
            match Document::parse(None, &bytes)? {
                Document::Image(manifest) => manifest,
                Document::Schema1(_) => return Err(of_schema1().into()),
                Document::Index(_) => {
                    return Err(
                        ManifestError::Contradiction("an index within an index within `index.json`".into()).into()
                    );
                }
            }
        }
    };
    let config_bytes = members.blob(&manifest.config.digest, MAX_CONFIG_BYTES)?;
    let platform = ImageConfig::parse(&config_bytes)?.platform.unwrap_or_else(|| native.clone());
    let full =
        entry.annotations.get(CONTAINERD_NAME).or(entry.annotations.get(REF_NAME).filter(|n| n.contains([':', '/'])));
    let reference = match (name, full) {
        (None, Some(full)) => full.parse()?,
        _ => named(name, entry.annotations.get(REF_NAME).map(|n| n.rsplit(':').next().unwrap_or(n)))?,
    };
    let incoming = Incoming { manifest_bytes: bytes, manifest, index, config_bytes, platform };
    Ok(Found { incoming, names: vec![reference], blob_names: HashMap::new() })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn from_docker_archive(members: &Members, name: Option<&ImageReference>) -> Result<Vec<Found>, ArchiveError> {
    let bytes = members.read("manifest.json", MAX_MANIFEST_BYTES)?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Json { name: "manifest.json".into(), source })?;
    images.iter().map(|image| docker_image(members, image, name)).collect()
}

fn docker_image(members: &Members, image: &DockerImage, name: Option<&ImageReference>) -> Result<Found, ArchiveError> {
    let config_bytes = members.read(&image.config, MAX_CONFIG_BYTES)?;
    let mut blob_names = HashMap::new();
    let mut layers = Vec::new();
    for layer in &image.layers {
        let member = members.need(layer)?;
        let mut head = [0; 4];
        let failed = |source| ArchiveError::File { action: "read", path: member.path.clone(), source };
        let count = std::fs::File::open(&member.path).and_then(|mut file| file.read(&mut head)).map_err(failed)?;
        blob_names.insert(member.digest.clone(), layer.clone());
        layers.push(Descriptor {
            media_type: layer_media_type(&head[..count]).to_owned(),
            digest: member.digest.clone(),
            size: member.size,
            urls: Vec::new(),
        });
    }
    let config = Descriptor {
        media_type: CONFIG_MEDIA_TYPE.to_owned(),
        digest: Digest::sha256_of(&config_bytes),
        size: config_bytes.len() as u64,
        urls: Vec::new(),
    };
    let manifest_bytes = manifest_json(&config, &layers);
    let platform = ImageConfig::parse(&config_bytes)?.platform.unwrap_or_else(Platform::native);
    let tags = image.repo_tags.iter().flatten();
    let mut names = Vec::new();
    for tag in tags {
        let reference: ImageReference = tag.parse()?;
        names.push(if name.is_some() { named(name, reference.tag())? } else { reference });
    }
    if names.is_empty() {
        names.push(named(name, None)?);
    }
    names.dedup();
    let manifest = udocker_core::manifest::ImageManifest { config, layers };
    let incoming = Incoming { manifest_bytes, manifest, index: None, config_bytes, platform };
    Ok(Found { incoming, names, blob_names })
}
