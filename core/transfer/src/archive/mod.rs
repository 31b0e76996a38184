//! Images from files: `load` of docker-archives and OCI layouts, `import` of a root file system.
//!
//! An archive is first spread into a private folder of the store, each member under a number of ours, so that no name of
//! the archive is ever a path. What follows is the same as for a pull: [`crate::stage`].

mod import;
mod load;
mod members;

pub use import::{ImportOptions, import};
pub use load::load;

use std::io;
use std::path::PathBuf;

use serde_json::json;
use udocker_core::digest::{Digest, DigestError};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::image_config::ImageConfigError;
use udocker_core::manifest::{Descriptor, ManifestError};
use udocker_core::reference::{ImageReference, ReferenceError};
use udocker_core::store::StoreError;

use crate::stage::StageError;

/// An archive could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The stream is no tar archive, or breaks off.
    #[error("cannot read the archive {name}")]
    Archive {
        /// Its path, or `standard input`.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is a tar archive of something else.
    #[error("{0} is no image archive: it has neither `manifest.json` nor `index.json`")]
    NotAnImage(String),
    /// A member that another one names is absent.
    #[error("the archive names `{0}` and does not have it")]
    MissingMember(String),
    /// One of its JSON documents is unreadable.
    #[error("`{name}` of the archive cannot be read")]
    Json {
        /// Which member.
        name: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest is not usable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A configuration is not usable.
    #[error(transparent)]
    Config(#[from] ImageConfigError),
    /// A name in the archive is no image name.
    #[error("the archive's image has a name that cannot be used")]
    Name(#[from] ReferenceError),
    /// A digest in the archive is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The bytes of a member are others than its name says.
    #[error("blob {expected} of the archive is corrupt: its bytes have the digest {actual}")]
    Corrupt {
        /// By its name.
        expected: Digest,
        /// By its bytes.
        actual: Digest,
    },
    /// The image is there already.
    #[error("image {0} exists already")]
    Exists(ImageReference),
    /// It holds nothing that can be loaded.
    #[error("the archive {0} has no image")]
    Empty(String),
    /// Staging failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for ArchiveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } => ErrorKind::from_io(source),
            Self::Name(_) => ErrorKind::Usage,
            Self::Exists(_) => ErrorKind::Conflict,
            Self::Stage(error) => error.kind(),
            Self::Store(error) => error.kind(),
            _ => ErrorKind::Corrupt,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotAnImage(_) => vec!["a plain root file system is taken in by `udocker import TAR NAME:TAG`".into()],
            Self::Exists(reference) => vec![format!("`udocker rmi {reference}` removes it; or give another name")],
            Self::Name(_) => vec!["give a name: `udocker load -i FILE NAME`".into()],
            Self::Stage(error) => error.hints(),
            Self::Store(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}

/// The media type that the first bytes of a layer stand for.
fn layer_media_type(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    }
}

/// An OCI manifest of ours for images that came without one.
fn manifest_json(config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
    let descriptor = |d: &Descriptor| json!({"mediaType": d.media_type, "digest": d.digest, "size": d.size});
    let document = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(config),
        "layers": layers.iter().map(descriptor).collect::<Vec<_>>(),
    });
    serde_json::to_vec(&document).expect("a JSON value of ours serialises")
}

const CONFIG_MEDIA_TYPE: &str = "application/vnd.oci.image.config.v1+json";
