//! How long work tells how far it is. Libraries call this trait; front ends draw bars or lines, or nothing.

use crate::digest::Digest;

/// A receiver of progress; called from several threads.
pub trait Progress: Sync {
    /// A blob of `total` bytes begins; `present` if it need not be fetched.
    fn layer_started(&self, digest: &Digest, total: u64, present: bool) {
        let _ = (digest, total, present);
    }
    /// `bytes` more of a blob were read.
    fn layer_advanced(&self, digest: &Digest, bytes: u64) {
        let _ = (digest, bytes);
    }
    /// A blob was read to its end, verified and extracted.
    fn layer_finished(&self, digest: &Digest) {
        let _ = digest;
    }
    /// Something worth a line at verbose.
    fn note(&self, text: &str) {
        let _ = text;
    }
    /// Something that the user should know although work goes on.
    fn warning(&self, text: &str) {
        let _ = text;
    }
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {}
