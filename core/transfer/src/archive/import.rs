//! `import`: a root file system in a tar becomes an image of one layer.

use std::fs::File;
use std::io::{self, Read};

use serde_json::json;
use udocker_core::digest::Digest;
use udocker_core::manifest::{Descriptor, ImageManifest};
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::reference::ImageReference;
use udocker_core::store::{Record, Store};

use super::{ArchiveError, CONFIG_MEDIA_TYPE, layer_media_type, manifest_json};
use crate::extract::decode;
use crate::fetch::{BlobSource, copy_and_digest};
use crate::stage::{Incoming, StageOptions, stage};

/// What the imported image is.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// For which platform its programs are.
    pub platform: Platform,
    /// How it is staged.
    pub stage: StageOptions,
}

/// Makes an image `reference` of the tar `input` (any compression; `input_name` in messages).
///
/// # Errors
/// [`ArchiveError::Exists`] if `reference` is there already.
pub fn import(
    store: &Store,
    input: Box<dyn Read + Send>,
    input_name: &str,
    reference: &ImageReference,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Record, ArchiveError> {
    if store.has_tag(reference.typed_name(), &reference.selector()) {
        return Err(ArchiveError::Exists(reference.clone()));
    }
    let folder = store.temporary("import")?;
    let path = folder.path().join("layer");
    let failed = |action| move |source| ArchiveError::File { action, path: "the copy of the layer".into(), source };
    let broken = |source| ArchiveError::Archive { name: input_name.to_owned(), source };
    let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed("write"))?;
    let (digest, size) = copy_and_digest(input, &file).map_err(broken)?;
    // The diff ID is the digest of what the layer is without its compression.
    let reopened = File::open(&path).map_err(failed("read"))?;
    let (diff_id, _) = copy_and_digest(decode(Box::new(reopened)).map_err(broken)?, io::sink()).map_err(broken)?;
    let mut head = [0; 4];
    let count = File::open(&path).and_then(|mut file| file.read(&mut head)).map_err(failed("read"))?;

    let platform = &options.platform;
    let mut config = json!({
        "os": platform.os,
        "architecture": platform.architecture,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    if let Some(variant) = &platform.variant {
        config["variant"] = json!(variant);
    }
    let config_bytes = serde_json::to_vec(&config).expect("a JSON value of ours serialises");
    let config = Descriptor {
        media_type: CONFIG_MEDIA_TYPE.to_owned(),
        digest: Digest::sha256_of(&config_bytes),
        size: config_bytes.len() as u64,
        urls: Vec::new(),
    };
    let layer = Descriptor { media_type: layer_media_type(&head[..count]).to_owned(), digest, size, urls: Vec::new() };
    let manifest = ImageManifest { config, layers: vec![layer] };
    let blobs = [manifest.layers[0].digest.clone(), manifest.config.digest.clone()];
    let incoming = Incoming {
        manifest_bytes: manifest_json(&manifest.config, &manifest.layers),
        manifest,
        index: None,
        config_bytes,
        platform: platform.clone(),
    };
    let staged = stage(store, &incoming, &OneFile(file), &options.stage, progress)?;
    store.publish_tag(reference.typed_name(), &reference.selector(), &incoming.manifest_bytes, &blobs)?;
    Ok(staged.record.clone())
}

struct OneFile(File);

impl BlobSource for OneFile {
    fn open(&self, descriptor: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        struct FromStart(File, u64, u64);
        impl Read for FromStart {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let limit = buffer.len().min(usize::try_from(self.2 - self.1).unwrap_or(usize::MAX));
                let count = std::os::unix::fs::FileExt::read_at(&self.0, &mut buffer[..limit], self.1)?;
                self.1 += count as u64;
                Ok(count)
            }
        }
        Ok(Box::new(FromStart(self.0.try_clone()?, 0, descriptor.size)))
    }
}
