//! `import`: a root file system in a tar becomes an image of one layer, or a container.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;
use udocker_core::container::{ContainerName, CreateOptions, Created};
use udocker_core::digest::Digest;
use udocker_core::manifest::{Descriptor, ImageManifest};
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::reference::ImageReference;
use udocker_core::store::{LockKind, Patience, Record, RemovedTag, RunDirectory, Store, StoreError, TreeId};

use super::error::file_error;
use super::input::receive;
use super::{ArchiveError, Input, config_descriptor, layer_media_type, manifest_json};
use crate::extract::decode;
use crate::fetch::{BlobSource, copy_and_digest};
use crate::stage::{Incoming, StageOptions, stage};

/// What udocker calls the image of a container that was made of a tar.
pub(super) const UNKNOWN_IMAGE: &str = "IMPORTED:unknown";

/// What is imported, and how.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// For which platform its programs are.
    pub platform: Platform,
    /// The tar is moved: without a copy if it is the user's and lies on the store's file system.
    pub take: bool,
    /// How it is staged.
    pub stage: StageOptions,
    /// Where this node's runs are listed.
    pub run_dirs: Vec<PathBuf>,
}

/// Makes an image `reference` of the tar `input` (any compression); returns the digest of its layer.
///
/// # Errors
/// [`ArchiveError::Exists`] if `reference` is there already, before anything is read.
pub fn import(
    store: &Store,
    input: &Input,
    reference: &ImageReference,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Digest, ArchiveError> {
    if store.has_tag(reference.typed_name(), &reference.selector()) {
        return Err(ArchiveError::Exists(reference.clone()));
    }
    let layer = Layer::put(store, input, options.take, &options.run_dirs, progress)?;
    let incoming = layer.image(&options.platform);
    let tagged = stage(store, &incoming, &layer.source, &options.stage, progress).map_err(ArchiveError::from).and_then(
        |_staged| {
            let blobs = [layer.descriptor.digest.clone(), incoming.manifest.config.digest.clone()];
            let (name, tag) = (reference.typed_name(), reference.selector());
            match store.publish_new_tag(name, &tag, &incoming.manifest_bytes, &blobs)? {
                true => Ok(()),
                false => Err(ArchiveError::Exists(reference.clone())),
            }
        },
    );
    let digest = layer.descriptor.digest.clone();
    layer.settle(store, tagged.map(|()| digest), options.stage.keep_layers, &options.run_dirs, progress)
}

/// Makes a container of the tar `input`; no image is left that could be listed.
///
/// `image` is what the container is said to come from; without it udocker's `IMPORTED:unknown`.
///
/// # Errors
/// [`udocker_core::store::StoreError::NameTaken`] before anything is read.
pub fn import_container(
    store: &Store,
    input: &Input,
    image: Option<&ImageReference>,
    name: Option<&ContainerName>,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Created, ArchiveError> {
    if let Some(name) = name {
        store.check_name_is_free(name)?;
    }
    let layer = Layer::put(store, input, options.take, &options.run_dirs, progress)?;
    let incoming = layer.image(&options.platform);
    let manifest = Digest::sha256_of(&incoming.manifest_bytes);
    let made = (|| {
        let tree = TreeId::of(store.format(), std::slice::from_ref(&layer.descriptor.digest));
        let was_known = store.tree(&tree).is_dir() || store.read_record(&manifest, &options.platform)?.is_some();
        let stage_options = StageOptions { keep_layers: false, ..options.stage.clone() };
        let staged = stage(store, &incoming, &layer.source, &stage_options, progress)?;
        let created = container_of(store, &staged.record, &incoming.config_bytes, image, name);
        drop(staged);
        // A full container has its own files, and a failed one none.
        if !was_known && created.as_ref().map_or(true, |created| created.full_because.is_some()) {
            let files = vec![layer.descriptor.digest.to_string(), incoming.manifest.config.digest.to_string()];
            forget(store, &RemovedTag { key: Some(manifest), files }, &options.run_dirs)?;
        }
        created
    })();
    layer.settle(store, made, false, &options.run_dirs, progress)
}

/// Collects what an import leaves behind; what somebody else needs of it by now stays, and all of it while
/// others publish.
fn forget(store: &Store, image: &RemovedTag, run_dirs: &[PathBuf]) -> Result<(), StoreError> {
    let _alone = match store.lock(LockKind::Remove, &Patience::short()) {
        Err(StoreError::Busy { .. }) => return Ok(()),
        other => other?,
    };
    let run = RunDirectory::open(run_dirs);
    store.collect_garbage(image, run.as_ref())
}

fn container_of(
    store: &Store,
    record: &Record,
    config: &[u8],
    image: Option<&ImageReference>,
    name: Option<&ContainerName>,
) -> Result<Created, ArchiveError> {
    let nobody = "imported:unknown".parse().expect("a constant reference parses");
    let tree = store.tree(&record.tree);
    let options = CreateOptions { image: image.unwrap_or(&nobody), record, tree: &tree, config, name };
    let created = store.create_container(&options)?;
    if image.is_none() {
        store.label_container(&created.id, UNKNOWN_IMAGE)?;
    }
    Ok(created)
}

/// A tar among the blobs of a store.
struct Layer {
    descriptor: Descriptor,
    diff_id: Digest,
    source: OneFile,
    /// Somebody else's then, and not ours to remove.
    was_there: bool,
    /// The user's file and its mode, if it shall go.
    taken: Option<(PathBuf, u32)>,
}

impl Layer {
    /// Brings the tar into the store: by a hard link if it may be taken and can be, else by a copy.
    fn put(
        store: &Store,
        input: &Input,
        take: bool,
        run_dirs: &[PathBuf],
        progress: &dyn Progress,
    ) -> Result<Self, ArchiveError> {
        let folder = store.temporary("import")?;
        let path = folder.path().join("layer");
        let broken = |source| ArchiveError::Archive { name: input.name(), source };
        let tar = input.regular().filter(|_| take);
        let taken = tar.map(|tar| Ok((tar.to_owned(), tar.metadata()?.permissions().mode())));
        let taken: Option<(PathBuf, u32)> = taken.transpose().map_err(broken)?;
        let (digest, size) = if tar.is_some_and(|tar| links(tar, &path)) {
            File::open(&path).and_then(|file| copy_and_digest(file, io::sink())).map_err(broken)?
        } else {
            receive(input.open()?, &path, &input.name())?
        };
        let failed = |source| file_error("read", &path)(source);
        let file = File::open(&path).map_err(failed)?;
        let mut head = [0; 4];
        let count = file.try_clone().and_then(|mut file| file.read(&mut head)).map_err(failed)?;
        // The diff ID is the digest of what the layer is without its compression.
        let reader = File::open(&path).and_then(|file| decode(Box::new(file))).map_err(broken)?;
        let (diff_id, _) = copy_and_digest(reader, io::sink()).map_err(broken)?;
        let media_type = layer_media_type(&head[..count]).to_owned();
        let was_there = store.blob(&digest).is_file();
        let descriptor = Descriptor { media_type, digest, size, urls: Vec::new() };
        let layer = Self { descriptor, diff_id, source: OneFile(file), was_there, taken };
        if !was_there && let Err(error) = store.publish_blob(&path, &layer.descriptor.digest) {
            return layer.settle(store, Err(error.into()), false, run_dirs, progress);
        }
        Ok(layer)
    }

    /// The image of this layer alone.
    fn image(&self, platform: &Platform) -> Incoming {
        let mut config = json!({
            "os": platform.os,
            "architecture": platform.architecture,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [self.diff_id]},
        });
        if let Some(variant) = &platform.variant {
            config["variant"] = json!(variant);
        }
        let config_bytes = serde_json::to_vec(&config).expect("a JSON value of ours serialises");
        let manifest =
            ImageManifest { config: config_descriptor(&config_bytes), layers: vec![self.descriptor.clone()] };
        Incoming {
            manifest_bytes: manifest_json(&manifest.config, &manifest.layers),
            manifest,
            index: None,
            config_bytes,
            platform: platform.clone(),
        }
    }

    /// After the work: a failure leaves the user's file and no blob, success removes the file that was to be moved.
    fn settle<T>(
        self,
        store: &Store,
        result: Result<T, ArchiveError>,
        keep: bool,
        run_dirs: &[PathBuf],
        progress: &dyn Progress,
    ) -> Result<T, ArchiveError> {
        if !self.was_there && (result.is_err() || !keep) {
            // Somebody else may have made an image of the same tar meanwhile.
            forget(store, &RemovedTag { key: None, files: vec![self.descriptor.digest.to_string()] }, run_dirs)?;
        }
        if let Some((path, mode)) = self.taken {
            let settled = match &result {
                Ok(_) => fs::remove_file(&path),
                Err(_) => fs::set_permissions(&path, fs::Permissions::from_mode(mode)),
            };
            if let Err(error) = settled {
                progress.warning(&format!("{} stays as it is: {error}", path.display()));
            }
        }
        result
    }
}

/// Gives a file of the user's own the name `path` too, if it lies on the same file system.
fn links(tar: &Path, path: &Path) -> bool {
    let owner = rustix::process::geteuid().as_raw();
    tar.symlink_metadata().is_ok_and(|status| status.is_file() && status.uid() == owner)
        && fs::hard_link(tar, path).is_ok()
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
