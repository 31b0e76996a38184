//! Why an archive could not be taken in or written.

use std::io;
use std::path::PathBuf;

use udocker_core::digest::{Digest, DigestError};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::image_config::ImageConfigError;
use udocker_core::manifest::ManifestError;
use udocker_core::reference::{ImageReference, ReferenceError};
use udocker_core::store::StoreError;

use crate::fetch::FetchError;
use crate::stage::StageError;

/// See the module's head.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
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
    /// An entry of the archive cannot be used.
    #[error("cannot extract `{entry}` of the archive {name}: {what}")]
    Entry {
        /// The archive.
        name: String,
        /// The entry, escaped.
        entry: String,
        /// What is wrong with it.
        what: String,
    },
    /// It is a tar archive of something else.
    #[error("{0} is no image archive: it has neither `manifest.json` nor `index.json` nor `repositories`")]
    NotAnImage(String),
    /// It is no clone of a container.
    #[error("{name} is no clone of a container: it has no `{missing}`")]
    NotAClone {
        /// The archive.
        name: String,
        /// What each clone has.
        missing: &'static str,
    },
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
    /// Indexes within indexes.
    #[error("the indexes of the archive are nested deeper than {0}")]
    TooDeep(usize),
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
    /// Two images of the archive would get one name.
    #[error("the archive has several images that would be named {0}")]
    SameName(ImageReference),
    /// It holds nothing that can be loaded.
    #[error("the archive {0} has no image")]
    Empty(String),
    /// No store has the image.
    #[error("image {0} does not exist")]
    NoImage(ImageReference),
    /// A file of a stored image is not there.
    #[error("image {image} cannot be saved: its {what} is not in the store")]
    NoBlob {
        /// Which image.
        image: ImageReference,
        /// Which file.
        what: String,
    },
    /// A file of a stored image is damaged.
    #[error("image {image} cannot be saved: {what}")]
    Stored {
        /// Which image.
        image: ImageReference,
        /// What is wrong.
        what: String,
    },
    /// There is a file at the output's place.
    #[error("output file already exists: {}", .0.display())]
    OutputExists(PathBuf),
    /// Standard output is a terminal.
    #[error("an archive is not written to a terminal")]
    Terminal,
    /// Some files of a container were left out.
    #[error("{count} of the container's files cannot be read and are not in {output}")]
    Unreadable {
        /// How many.
        count: usize,
        /// The archive.
        output: String,
    },
    /// A stored blob is damaged.
    #[error(transparent)]
    Fetch(#[from] FetchError),
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
            Self::Name(_) | Self::Terminal => ErrorKind::Usage,
            Self::Exists(_) | Self::OutputExists(_) | Self::SameName(_) => ErrorKind::Conflict,
            Self::NoImage(_) | Self::NoBlob { .. } => ErrorKind::NotFound,
            Self::Unreadable { .. } => ErrorKind::Denied,
            Self::TooDeep(_) => ErrorKind::Unsupported,
            Self::Fetch(error) => error.kind(),
            Self::Stage(error) => error.kind(),
            Self::Store(error) => error.kind(),
            _ => ErrorKind::Corrupt,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotAnImage(_) => vec!["a plain root file system is taken in by `udocker import TAR NAME:TAG`".into()],
            Self::NotAClone { .. } => {
                vec!["a plain root file system becomes a container by `udocker import --tocontainer TAR`".into()]
            }
            Self::Exists(reference) => vec![format!("`udocker rmi {reference}` removes it; or give another name")],
            Self::Name(_) => vec!["give a name: `udocker load -i FILE NAME`".into()],
            Self::NoImage(_) => vec!["`udocker images` lists what is here".into()],
            Self::NoBlob { image, .. } => vec![
                "a store with `[store] keep_layers = false` keeps trees and no layers".into(),
                format!("`udocker pull {image}` into a store that keeps them brings them back"),
            ],
            Self::Stored { image, .. } => vec![format!("`udocker verify {image}` tells more; pull it again")],
            Self::OutputExists(_) => vec!["remove it, or choose another name".into()],
            Self::Unreadable { .. } => {
                vec!["those of another user become yours by `udocker setup --fixperm CONTAINER`".into()]
            }
            Self::Terminal => vec!["name a file by `-o FILE`, or pipe the output".into()],
            Self::Fetch(error) => error.hints(),
            Self::Stage(error) => error.hints(),
            Self::Store(error) => error.hints(),
            _ if self.kind() == ErrorKind::NoSpace => {
                vec!["free space there, or name another store by `--repo=DIR` or UDOCKER_DIR".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// Attaches what was being done to an I/O error.
pub(super) fn file_error<E: Into<io::Error>>(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(E) -> ArchiveError {
    move |source| ArchiveError::File { action, path: path.to_owned(), source: source.into() }
}
