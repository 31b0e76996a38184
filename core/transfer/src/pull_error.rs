//! Why a registry's image could not be had, or what the registry knows of it; and what to do about it. With the bounds of the way to it,
//! which a message tells.

use std::io;
use std::path::PathBuf;

use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::manifest::ManifestError;
use udocker_core::platform::Platform;
use udocker_core::reference::ReferenceError;
use udocker_core::store::StoreError;

use crate::lease::LeaseError;
use crate::registry::RegistryError;
use crate::stage_error::StageError;

/// Most indexes on the way to an image.
pub(crate) const MAX_INDEX_DEPTH: u32 = 4;
/// Most documents that are read on the way to an image.
pub(crate) const MAX_DOCUMENTS: u32 = 64;

/// An image could not be pulled.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct PullError {
    /// With the image's name.
    action: String,
    #[source]
    cause: PullCause,
}

impl PullError {
    pub(crate) fn new(action: String, cause: PullCause) -> Self {
        Self { action, cause }
    }
}

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullCause {
    /// No registry has such names.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The manifest is not usable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The way from index to index has no end.
    #[error(
        "no image for {0} was found within {MAX_DOCUMENTS} documents and {MAX_INDEX_DEPTH} indexes that lead to each other"
    )]
    NestedIndex(Platform),
    /// A file of the store could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A manifest has another size than its index says (OCI image-spec, "Content Descriptors").
    #[error("the manifest {digest} has {actual} bytes where the index says {expected}")]
    Size {
        /// The manifest.
        digest: Digest,
        /// Bytes by the index.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// The image is for another platform.
    #[error("the image is for {found}, not for {wanted}")]
    Platform {
        /// By its configuration.
        found: Platform,
        /// Asked for.
        wanted: Platform,
    },
    /// It did not get into the store.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Another process pulls it, or nobody can.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Its tag could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for PullError {
    fn kind(&self) -> ErrorKind {
        match &self.cause {
            PullCause::Name(_) => ErrorKind::Usage,
            PullCause::Registry(error) => error.kind(),
            PullCause::Manifest(ManifestError::NoPlatform { .. }) | PullCause::Platform { .. } => ErrorKind::NotFound,
            PullCause::NestedIndex(_) => ErrorKind::Unsupported,
            PullCause::Manifest(_) | PullCause::Size { .. } => ErrorKind::Corrupt,
            PullCause::Write { source, .. } => ErrorKind::from_io(source),
            PullCause::Stage(error) => error.kind(),
            PullCause::Lease(error) => error.kind(),
            PullCause::Store(error) => error.kind(),
        }
    }
    fn is_retryable(&self) -> bool {
        match &self.cause {
            PullCause::Registry(error) => error.is_retryable(),
            PullCause::Stage(error) => error.is_retryable(),
            PullCause::Lease(error) => error.is_retryable(),
            _ => false,
        }
    }
    fn hints(&self) -> Vec<String> {
        match &self.cause {
            PullCause::Name(_) => vec!["`udocker images` lists what is here; stores take more names".into()],
            PullCause::Registry(error) => error.hints(),
            PullCause::Stage(error) => error.hints(),
            PullCause::Lease(error) => error.hints(),
            PullCause::Store(error) => error.hints(),
            PullCause::Manifest(ManifestError::NoPlatform { available, .. }) => {
                let first =
                    available.first().map(|platform| format!("`--platform={platform}` takes the first of them"));
                first.into_iter().collect()
            }
            PullCause::Platform { found, .. } => {
                let runs = if found.satisfies(&Platform::native()) {
                    ""
                } else {
                    "; its programs will not run on this machine"
                };
                vec![format!("`--platform={found}` pulls it all the same{runs}")]
            }
            PullCause::Manifest(_) | PullCause::Size { .. } | PullCause::NestedIndex(_) => {
                vec!["the reference is no container image of OCI or Docker".into()]
            }
            PullCause::Write { .. } => Vec::new(),
        }
    }
}
