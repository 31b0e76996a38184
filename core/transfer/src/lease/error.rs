//! Why a lease could not be had.

use std::io;
use std::path::{Path, PathBuf};

use udocker_core::error::{ErrorKind, Explain};
use udocker_core::store::StoreError;

/// A lease could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A system call failed.
    #[error("cannot {action} the lease {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The lease.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process pulls the image for longer than is waited.
    #[error("{holder} pulls the same image and was waited for {seconds} s")]
    Held {
        /// Process and host.
        holder: String,
        /// The lease.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The folder in `tmp/`.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for LeaseError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::from_io(source),
            Self::Held { .. } => ErrorKind::Timeout,
            Self::Store(error) => error.kind(),
        }
    }
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Held { .. })
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Io { .. } => Vec::new(),
            Self::Held { path, .. } => vec![
                "wait for its end and try again".into(),
                format!("if it hangs, end it; or remove {}, and the next process pulls", path.display()),
            ],
            Self::Store(error) => error.hints(),
        }
    }
}

pub(super) fn io_error<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> LeaseError {
    move |source| LeaseError::Io { action, path: path.to_owned(), source: source.into() }
}
