//! Fetching blobs into files while they are being read: one [`Blob`] per digest, any number of readers.
//!
//! A fetcher appends to the blob's file and hashes; readers follow the growing file through the page cache. So memory does
//! not grow with the number of blobs under way, a slow reader never stalls the network, and a second look at a blob
//! (the same layer twice, a lost hard link) needs no second request. The end of a blob is told to readers only after its
//! digest was right.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use sha2::{Sha256, Sha512};
use udocker_core::digest::{Algorithm, Digest};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::manifest::Descriptor;
use udocker_core::progress::Progress;

use crate::extract::LayerSource;
use crate::registry::RegistryError;

const CHUNK_BYTES: usize = 256 << 10;

/// Where blobs come from.
pub trait BlobSource: Sync {
    /// A reader of the blob's bytes, not verified.
    ///
    /// # Errors
    /// Whatever stops it; a [`RegistryError`] travels inside [`io::Error::other`].
    fn open(&self, descriptor: &Descriptor) -> io::Result<Box<dyn Read + Send>>;

    /// A file that has the whole blob already; it is read where it is, and verified meanwhile.
    fn local_file(&self, _descriptor: &Descriptor) -> Option<PathBuf> {
        None
    }
}

/// A blob did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source failed.
    #[error("cannot read blob {digest}")]
    Source {
        /// Which blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The registry failed.
    #[error("cannot fetch blob {digest}")]
    Registry {
        /// Which blob.
        digest: Digest,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// Its file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("blob {digest} has {actual} bytes where its descriptor says {expected}")]
    Size {
        /// Which blob.
        digest: Digest,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes read so far.
        actual: u64,
    },
    /// Other work failed first.
    #[error("blob {digest} was not fetched to its end, since other work failed")]
    Cancelled {
        /// Which blob.
        digest: Digest,
    },
    /// The bytes are others than the digest names.
    #[error("blob {digest} is corrupt: its bytes have the digest {actual}")]
    Digest {
        /// Which blob.
        digest: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// The store has other bytes than the digest names.
    #[error("the stored blob {path} is damaged")]
    Stored {
        /// Which blob.
        digest: Digest,
        /// Its file.
        path: PathBuf,
    },
}

impl Explain for FetchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Source { source, .. } | Self::Write { source, .. } => ErrorKind::from_io(source),
            Self::Registry { source, .. } => source.kind(),
            Self::Size { .. } | Self::Digest { .. } | Self::Stored { .. } => ErrorKind::Corrupt,
            Self::Cancelled { .. } => ErrorKind::System,
        }
    }
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Registry { source, .. } if source.is_retryable())
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Registry { source, .. } => source.hints(),
            Self::Write { source, .. } if ErrorKind::from_io(source) == ErrorKind::NoSpace => {
                vec!["free space or quota there, or name another store by `--repo=DIR` or UDOCKER_DIR".into()]
            }
            Self::Stored { .. } => vec!["pull the image again, which fetches the blob anew".into()],
            Self::Size { .. } | Self::Digest { .. } => {
                vec!["pull again; if it stays, the registry or a proxy on the way damages the blob".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// One blob on its way into a file, or there already.
pub struct Blob {
    descriptor: Descriptor,
    path: PathBuf,
    file: File,
    shared: Arc<Shared>,
    present: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    written: u64,
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    Verified,
    Failed,
}

impl Blob {
    /// A blob that a store has; it is verified while it is read, since others may have put it there.
    pub fn present(descriptor: Descriptor, path: PathBuf, file: File) -> Self {
        Self { descriptor, path, file, shared: Arc::default(), present: true }
    }

    /// A blob that is to be fetched into the new file `path`.
    ///
    /// # Errors
    /// [`FetchError::Write`] if the file cannot be made.
    pub fn missing(descriptor: Descriptor, path: PathBuf) -> Result<Self, FetchError> {
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|source| FetchError::Write { path: path.clone(), source })?;
        Ok(Self { descriptor, path, file, shared: Arc::default(), present: false })
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
    /// Its file.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }
    /// Whether it was in the store before.
    pub fn was_present(&self) -> bool {
        self.present
    }

    /// Writes its bytes into the new file `path`, also if its own file has no name any more.
    ///
    /// # Errors
    /// Of the two files.
    pub fn copy_to(&self, path: &std::path::Path) -> io::Result<()> {
        let mut copy = File::create_new(path)?;
        let mut from = self.file.try_clone()?;
        io::Seek::rewind(&mut from)?;
        io::copy(&mut from, &mut copy).map(drop)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.notify_all();
    }

    fn fetch(&self, source: &dyn BlobSource, cancel: &AtomicBool, progress: &dyn Progress) -> Result<(), FetchError> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        let failed = |source: io::Error| match source.downcast::<RegistryError>() {
            Ok(source) => FetchError::Registry { digest: digest.clone(), source },
            Err(source) => FetchError::Source { digest: digest.clone(), source },
        };
        let mut reader: Box<dyn Read + Send> = if self.present {
            Box::new(self.file.try_clone().map_err(failed)?)
        } else {
            source.open(&self.descriptor).map_err(failed)?
        };
        let mut hash = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut written = 0;
        // What the store has is read to its end all the same: if extraction failed on it, the digest tells why.
        let is_cancelled = || !self.present && cancel.load(Ordering::Relaxed);
        let wrong = |error| match self.present {
            true => FetchError::Stored { digest: digest.clone(), path: self.path.clone() },
            false => error,
        };
        while !is_cancelled() {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            written += count as u64;
            if written > *size {
                return Err(wrong(FetchError::Size { digest: digest.clone(), expected: *size, actual: written }));
            }
            hash.update(&buffer[..count]);
            if !self.present {
                (&self.file)
                    .write_all(&buffer[..count])
                    .map_err(|source| FetchError::Write { path: self.path.clone(), source })?;
            }
            self.update(|state| state.written = written);
            progress.layer_advanced(digest, count as u64);
        }
        if is_cancelled() {
            return Err(FetchError::Cancelled { digest: digest.clone() });
        }
        if written != *size {
            return Err(wrong(FetchError::Size { digest: digest.clone(), expected: *size, actual: written }));
        }
        let actual = hash.finish();
        if actual != *digest {
            return Err(wrong(FetchError::Digest { digest: digest.clone(), actual }));
        }
        Ok(())
    }
}

/// Fetches what is missing of `blobs`, in their order, `parallel` at a time, while `work` runs; returns what `work` does.
///
/// If `work` fails, fetching stops. If a fetch fails, readers get an error and so `work` ends.
///
/// # Errors
/// The first fetch that failed, before whatever `work` made of it.
pub fn fetch_during<T, E: From<FetchError>>(
    blobs: &[Blob],
    source: &dyn BlobSource,
    parallel: usize,
    progress: &dyn Progress,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let cancel = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let first_error = Mutex::new(None);
    let fetcher = || {
        while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Descriptor { digest, size, .. } = &blob.descriptor;
            progress.layer_started(digest, *size, blob.present);
            let result = blob.fetch(source, &cancel, progress);
            let end = if result.is_ok() { End::Verified } else { End::Failed };
            if let Err(error) = result {
                cancel.store(true, Ordering::Relaxed);
                let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                if !matches!(error, FetchError::Cancelled { .. }) {
                    first.get_or_insert(error);
                }
            }
            blob.update(|state| state.end = Some(end));
            if matches!(end, End::Failed) {
                continue;
            }
            progress.layer_finished(digest);
        }
    };
    let result = std::thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, blobs.len().max(1)) {
            scope.spawn(fetcher);
        }
        let result = work();
        if result.is_err() {
            cancel.store(true, Ordering::Relaxed);
        }
        result
    });
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error.into()),
        None => result,
    }
}

impl LayerSource for Blob {
    fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Follower { file: self.file.try_clone()?, position: 0, shared: Arc::clone(&self.shared) }))
    }
}

/// A reader of a blob's file that waits where the fetcher has not been yet.
struct Follower {
    file: File,
    position: u64,
    shared: Arc<Shared>,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let available = loop {
            match (state.written - self.position, state.end) {
                (_, Some(End::Failed)) => return Err(io::Error::other("the blob could not be fetched")),
                (0, Some(End::Verified)) => return Ok(0),
                (0, None) => {
                    state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                (available, _) => break available,
            }
        };
        drop(state);
        let limit = buffer.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..limit], self.position)?;
        if count == 0 && limit > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the blob's file is shorter than its descriptor says",
            ));
        }
        self.position += count as u64;
        Ok(count)
    }
}

/// One of the algorithms of digests at work.
pub(crate) enum Hasher {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Box::default()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
        }
    }
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        use sha2::Digest as _;
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }
    pub(crate) fn finish(self) -> Digest {
        use sha2::Digest as _;
        match self {
            Self::Sha256(hash) => Digest::from_sha256(&hash.finalize().into()),
            Self::Sha512(hash) => Digest::from_sha512(&hash.finalize().into()),
        }
    }
}

/// The digest of `bytes` by `algorithm`.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hash = Hasher::new(algorithm);
    hash.update(bytes);
    hash.finish()
}

/// Copies `reader` into `file` and tells the SHA-256 and the number of its bytes.
///
/// # Errors
/// Of the reader or the file, as they come.
pub fn copy_and_digest(reader: impl Read, file: impl Write) -> io::Result<(Digest, u64)> {
    copy_and_digest_by(Algorithm::Sha256, reader, file)
}

/// The same by another algorithm.
///
/// # Errors
/// As [`copy_and_digest`].
pub fn copy_and_digest_by(
    algorithm: Algorithm,
    mut reader: impl Read,
    mut file: impl Write,
) -> io::Result<(Digest, u64)> {
    let mut hash = Hasher::new(algorithm);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((hash.finish(), total)),
            Ok(count) => {
                hash.update(&buffer[..count]);
                file.write_all(&buffer[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use udocker_core::progress::Silent;

    struct Slow(Vec<u8>);

    impl BlobSource for Slow {
        fn open(&self, _: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
            struct Trickle(io::Cursor<Vec<u8>>);
            impl Read for Trickle {
                fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                    std::thread::yield_now();
                    let limit = buffer.len().min(7);
                    self.0.read(&mut buffer[..limit])
                }
            }
            Ok(Box::new(Trickle(io::Cursor::new(self.0.clone()))))
        }
    }

    fn descriptor(bytes: &[u8], size: u64) -> Descriptor {
        Descriptor { media_type: String::new(), digest: Digest::sha256_of(bytes), size, urls: Vec::new() }
    }

    fn read_all(blob: &Blob) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        let read = blob.open().and_then(|mut reader| reader.read_to_end(&mut bytes));
        read.map(|_| bytes).map_err(|source| FetchError::Source { digest: blob.digest().clone(), source })
    }

    #[test]
    fn readers_follow_a_blob_that_is_still_arriving() {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        let blob = Blob::missing(descriptor(&bytes, bytes.len() as u64), directory.path().join("b")).unwrap();
        let blobs = [blob];
        let twice = fetch_during(&blobs, &Slow(bytes.clone()), 4, &Silent, || {
            Ok::<_, FetchError>((read_all(&blobs[0])?, read_all(&blobs[0])?))
        });
        assert_eq!(twice.unwrap(), (bytes.clone(), bytes));
    }

    #[test]
    fn wrong_bytes_reach_no_reader_as_a_whole_blob() {
        let directory = tempfile::tempdir().unwrap();
        for (case, wanted, size, expected) in [
            ("digest", &b"abc"[..], 3, "is corrupt"),
            ("short", &b"abd"[..], 4, "has 3 bytes where its descriptor says 4"),
            ("long", &b"abd"[..], 2, "has 3 bytes where its descriptor says 2"),
        ] {
            let blobs = [Blob::missing(descriptor(wanted, size), directory.path().join(case)).unwrap()];
            let error = fetch_during(&blobs, &Slow(b"abd".to_vec()), 1, &Silent, || read_all(&blobs[0])).unwrap_err();
            assert!(error.to_string().contains(expected), "{case}: {error}");
        }
    }

    #[test]
    fn failing_work_ends_the_fetching() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = vec![1; 1 << 20];
        let blobs = [Blob::missing(descriptor(&bytes, bytes.len() as u64), directory.path().join("b")).unwrap()];
        let failed = fetch_during(&blobs, &Slow(bytes), 1, &Silent, || {
            Err::<(), _>(FetchError::Write { path: "w".into(), source: io::Error::other("x") })
        });
        assert!(matches!(failed, Err(FetchError::Write { .. })));
    }
}
