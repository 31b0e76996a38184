//! Pins: the digest of the image that the first task of a job found, for its other nodes and later steps.
//!
//! ```text
//! TOPDIR/pins/SCHEDULER-JOB-HEX     one digest: of the index, if the image has one; HEX: SHA-256 over the reference
//! ```
//! A pin is linked into place whole, so that whoever is first decides, and there is nothing to lock.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::lookup::read_limited;
use super::{Store, StoreError, io_error};
use crate::digest::Digest;
use crate::reference::ImageReference;
use crate::text::escape;

/// No pin has more bytes.
const MAX_BYTES: u64 = 256;
/// Pins of jobs that long ago are nobody's.
const ORPHAN_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// A job's pin of one name.
#[derive(Debug)]
pub struct JobPin<'a> {
    store: &'a Store,
    path: PathBuf,
}

impl<'a> JobPin<'a> {
    /// That of `reference` in `job` of `scheduler`, in `store`.
    pub fn of(store: &'a Store, (scheduler, job): (&str, &str), reference: &ImageReference) -> Self {
        let job = escape(job.as_bytes()).replace('/', "_");
        let name = Digest::sha256_of(reference.to_string().as_bytes());
        Self { store, path: store.path().join("pins").join(format!("{scheduler}-{job}-{}", name.hex())) }
    }

    /// What it says, if there is one.
    ///
    /// # Errors
    /// I/O, and what is no digest.
    pub fn read(&self) -> Result<Option<Digest>, StoreError> {
        let Some(bytes) = read_limited(&self.path, MAX_BYTES)? else { return Ok(None) };
        let digest = String::from_utf8_lossy(&bytes).trim_end().parse();
        let damaged = |_| StoreError::Damaged { path: self.path.clone(), what: "it is no digest".into() };
        digest.map(Some).map_err(damaged)
    }

    /// Pins `digest`, unless another task was faster; returns what is pinned.
    ///
    /// # Errors
    /// I/O
    pub fn place(&self, digest: &Digest) -> Result<Digest, StoreError> {
        let directory = self.store.path().join("pins");
        fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        let folder = self.store.temporary("pin")?;
        let whole = folder.path().join("pin");
        fs::write(&whole, format!("{digest}\n")).map_err(io_error("write", &whole))?;
        match fs::hard_link(&whole, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(self.read()?.unwrap_or_else(|| digest.clone()))
            }
            other => other.map(|()| digest.clone()).map_err(io_error("make", &self.path)),
        }
    }
}

impl Store {
    /// Removes pins that are 30 days old.
    pub fn sweep_pins(&self) {
        let is_old = |entry: &fs::DirEntry| {
            let made = entry.metadata().and_then(|status| status.modified());
            made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age > ORPHAN_AFTER))
        };
        for entry in fs::read_dir(self.path().join("pins")).into_iter().flatten().flatten().filter(is_old) {
            // What stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}
