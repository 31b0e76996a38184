//! Why an image could not be brought into a store, and what to do about it.

use std::io;
use std::path::PathBuf;

use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::image_config::ImageConfigError;
use udocker_core::store::StoreError;

use crate::extract::ExtractError;
use crate::fetch::FetchError;

/// An image could not be brought into the store.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A blob did not arrive.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A layer could not be extracted.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration is unreadable.
    #[error(transparent)]
    Config(#[from] ImageConfigError),
    /// A layer lies elsewhere, under the image author's URLs.
    #[error("layer {0} is foreign: it lies at URLs that its author chose, and those are not fetched")]
    ForeignLayer(Digest),
    /// Less space than the image needs at the very least.
    #[error("{} has {available} bytes free, and the image needs at least {needed}", path.display())]
    NoSpace {
        /// The store.
        path: PathBuf,
        /// Bytes that the user may write.
        available: u64,
        /// Bytes of the missing blobs, and of a tree of the same size.
        needed: u64,
    },
    /// Fewer files may be made than the image's blobs are.
    #[error("{} has room for {available} more files, and the image needs at least {needed}", path.display())]
    NoFiles {
        /// The store.
        path: PathBuf,
        /// Files that the user may make.
        available: u64,
        /// The missing blobs, the configuration, the record, the tree and its folder.
        needed: u64,
    },
    /// A quota leaves less than the image needs at the very least.
    #[error("the quota of {whose} on {} leaves {available} of {limit} {unit}, and the image needs at least {needed}", path.display())]
    Quota {
        /// `uid N` or `gid N`.
        whose: String,
        /// The store.
        path: PathBuf,
        /// `bytes` or `files`.
        unit: &'static str,
        /// What may be added.
        available: u64,
        /// Of how much.
        limit: u64,
        /// As in the two above.
        needed: u64,
    },
    /// A file of the private folder failed.
    #[error("cannot {action} {path}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Explain for StageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch(error) => error.kind(),
            Self::Extract(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Config(_) => ErrorKind::Corrupt,
            Self::ForeignLayer(_) => ErrorKind::Unsupported,
            Self::NoSpace { .. } | Self::NoFiles { .. } | Self::Quota { .. } => ErrorKind::NoSpace,
            Self::File { source, .. } => ErrorKind::from_io(source),
        }
    }
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_retryable())
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Fetch(error) => error.hints(),
            Self::Extract(error) => error.hints(),
            Self::Store(error) => error.hints(),
            Self::ForeignLayer(_) => vec!["ask the image's author for one that carries all its layers".into()],
            _ if self.kind() == ErrorKind::NoSpace => {
                vec!["remove images by `udocker rmi`, or name another store by `--repo=DIR` or UDOCKER_DIR".into()]
            }
            _ => Vec::new(),
        }
    }
}
