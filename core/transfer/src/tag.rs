//! Another name for a stored image.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use udocker_core::digest::{Algorithm, Digest};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::reference::ImageReference;
use udocker_core::store::{LockKind, Patience, Store, StoreError, Stores, TagContents, Temporary};

use crate::fetch::{copy_and_digest, copy_and_digest_by};

/// An image cannot be given another name; the texts are udocker's.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// The new name is taken.
    #[error("target already exists")]
    TargetExists(ImageReference),
    /// There is no such image.
    #[error("source does not exist")]
    NoSource(ImageReference),
    /// The image is protected.
    #[error("source repository is protected")]
    ProtectedSource(ImageReference),
    /// The image's store has not kept its layers.
    #[error("the store {} has the image without its layers", store.display())]
    NoLayers {
        /// The image.
        source_image: ImageReference,
        /// Where it is.
        store: PathBuf,
    },
    /// The target's store has another file under the name of a layer of version 1.
    #[error("{path} has the name of a layer of the image and other bytes")]
    OtherLayer {
        /// The file that is there.
        path: PathBuf,
    },
    /// A layer cannot be copied.
    #[error("cannot copy the layer {path}")]
    Copy {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A layer's bytes are others than its name says.
    #[error("the stored blob {path} is damaged: its bytes have the digest {actual}")]
    Corrupt {
        /// Its file.
        path: PathBuf,
        /// What its bytes have.
        actual: Digest,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for TagError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TargetExists(_) | Self::OtherLayer { .. } => ErrorKind::Conflict,
            Self::NoSource(_) | Self::NoLayers { .. } => ErrorKind::NotFound,
            Self::ProtectedSource(_) => ErrorKind::Denied,
            Self::Copy { source, .. } => ErrorKind::from_io(source),
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Store(error) => error.kind(),
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::TargetExists(target) => vec![format!("`udocker rmi {target}` removes it; or take another name")],
            Self::NoSource(source) => {
                vec!["`udocker images` lists what is here".into(), format!("`udocker pull {source}` gets it")]
            }
            Self::ProtectedSource(source) => vec![format!("`udocker unprotect {source}` takes the protection away")],
            Self::NoLayers { source_image, .. } => {
                vec![format!("`udocker pull {source_image}` gets it into your own store")]
            }
            Self::Store(error) => error.hints(),
            Self::OtherLayer { .. } => {
                vec!["remove the image that it belongs to, or name another store by `--repo=DIR` or UDOCKER_DIR".into()]
            }
            Self::Copy { .. } | Self::Corrupt { .. } => Vec::new(),
        }
    }
}

/// Gives the image `source` of `stores` the name `target` in `store`: at once, or not at all.
///
/// Within a store nothing is copied; an image of another store brings its layers along.
///
/// # Errors
/// See [`TagError`].
pub fn tag(stores: &Stores, store: &Store, source: &ImageReference, target: &ImageReference) -> Result<(), TagError> {
    let (name, tag) = (target.typed_name(), target.selector());
    if store.find_tag(target).is_some() {
        return Err(TagError::TargetExists(target.clone()));
    }
    // Until the new tag is there nobody removes what the old one names.
    let _lock = store.lock(LockKind::Publish, &Patience::long(&|| {}))?;
    let (holder, found) = stores.find_tag(source).ok_or_else(|| TagError::NoSource(source.clone()))?;
    if found.protected {
        return Err(TagError::ProtectedSource(source.clone()));
    }
    let contents = holder.tag_contents(&found)?;
    if !contents.files.iter().any(|(name, _)| name == "manifest" || name == "ancestry") {
        return Err(TagError::NoSource(source.clone()));
    }
    if holder.path() != store.path() {
        copy_layers(holder, store, source, &contents)?;
    }
    match store.place_tag(name, &tag, &contents)? {
        true => Ok(()),
        false => Err(TagError::TargetExists(target.clone())),
    }
}

fn copy_layers(from: &Store, to: &Store, source: &ImageReference, contents: &TagContents) -> Result<(), TagError> {
    let folder = to.temporary("tag")?;
    for (_, file) in &contents.links {
        let (original, target) = (from.layers().join(file), to.layers().join(file));
        if !original.is_file() {
            return Err(TagError::NoLayers { source_image: source.clone(), store: from.path().to_owned() });
        }
        if target.is_file() {
            if file.parse::<Digest>().is_err() && digest_of(&original)? != digest_of(&target)? {
                return Err(TagError::OtherLayer { path: target });
            }
            continue;
        }
        let copy = copy_layer(&folder, &original, file)?;
        to.publish_layer(&copy, file)?;
    }
    Ok(())
}

fn digest_of(path: &Path) -> Result<Digest, TagError> {
    let hashed = File::open(path).and_then(|file| copy_and_digest(file, io::sink()));
    hashed.map(|(digest, _)| digest).map_err(|source| TagError::Copy { path: path.to_owned(), source })
}

/// A copy of a layer in `folder`; a layer that is named by a digest is checked against it.
fn copy_layer(folder: &Temporary, original: &Path, name: &str) -> Result<PathBuf, TagError> {
    let failed = |source| TagError::Copy { path: original.to_owned(), source };
    let expected = name.parse::<Digest>().ok();
    let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let copy = folder.path().join(name);
    let (actual, _) = File::open(original)
        .and_then(|from| copy_and_digest_by(algorithm, from, File::create_new(&copy)?))
        .map_err(failed)?;
    match expected.is_none_or(|expected| expected == actual) {
        true => Ok(copy),
        false => Err(TagError::Corrupt { path: original.to_owned(), actual }),
    }
}
