//! Why a layer could not become a tree.

use std::io;

use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};

/// See the module's head.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The stream cannot be read, decoded or understood as a tar archive.
    #[error("cannot read layer {digest}")]
    Layer {
        /// Which layer.
        digest: Digest,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An entry has a name or a target that no image may have.
    #[error("layer {digest} has the entry `{entry}`, {what}")]
    BadEntry {
        /// Which layer.
        digest: Digest,
        /// Its name, escaped.
        entry: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An entry could not be made.
    #[error("cannot extract `{entry}` of layer {digest}")]
    Write {
        /// Which layer.
        digest: Digest,
        /// Its name, escaped.
        entry: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread of the extraction")]
    Thread(#[source] io::Error),
    /// The tree's root could not be used.
    #[error("cannot finish the tree")]
    Tree(#[source] io::Error),
    /// Larger than allowed.
    #[error("the image has more than {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// `bytes` or `entries`.
        unit: &'static str,
    },
}

impl Explain for ExtractError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Write { source, .. } | Self::Tree(source) | Self::Thread(source) => ErrorKind::from_io(source),
            Self::TooLarge { .. } => ErrorKind::NoSpace,
            Self::Layer { .. } | Self::BadEntry { .. } => ErrorKind::Corrupt,
        }
    }
    fn hints(&self) -> Vec<String> {
        match (self, self.kind()) {
            (Self::TooLarge { .. }, _) => vec!["`[limits] image_max` in site.toml is the limit".into()],
            (_, ErrorKind::NoSpace) => {
                vec!["free space or inodes there, or name another store by `--repo=DIR` or UDOCKER_DIR".into()]
            }
            (Self::Layer { .. }, _) => vec!["pull again; if it stays, the image itself is damaged".into()],
            _ => Vec::new(),
        }
    }
}
