//! Reading a stored layer to its end, to tell whether it is what it was.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use udocker_core::digest::Digest;
use udocker_core::store::StoredLayer;

use crate::extract::decode;
use crate::fetch::{copy_and_digest, copy_and_digest_by};

/// What is wrong with a layer, in udocker's words.
#[derive(Debug, thiserror::Error)]
pub enum LayerFault {
    /// The tag has no link to it.
    #[error("layer data file symbolic link not found {0}")]
    NoLink(String),
    /// The link leads to nothing.
    #[error("layer data file not found {}", .0.display())]
    NoFile(PathBuf),
    /// Its bytes have another digest than its name.
    #[error("layer file chksum failed: {} has the digest {actual}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What its bytes have.
        actual: Digest,
    },
    /// It is no archive, or breaks off.
    #[error("layer tar verify failed: {}: {source}", path.display())]
    Tar {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("layer cannot be read: {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads `layer` whole: against its digest, or, without one, as an archive; returns the digest of its bytes.
///
/// # Errors
/// What is wrong with it.
pub fn verify_layer(layer: &StoredLayer) -> Result<Digest, LayerFault> {
    if !layer.link.is_symlink() {
        return Err(LayerFault::NoLink(layer.name.clone()));
    }
    if !layer.path.is_file() {
        return Err(LayerFault::NoFile(layer.path.clone()));
    }
    let unread = |source| LayerFault::Read { path: layer.path.clone(), source };
    let file = File::open(&layer.path).map_err(unread)?;
    let Some(expected) = &layer.digest else {
        read_archive(file).map_err(|source| LayerFault::Tar { path: layer.path.clone(), source })?;
        let file = File::open(&layer.path).map_err(unread)?;
        return Ok(copy_and_digest(file, io::sink()).map_err(unread)?.0);
    };
    let (actual, _) = copy_and_digest_by(expected.algorithm(), file, io::sink()).map_err(unread)?;
    match actual == *expected {
        true => Ok(actual),
        false => Err(LayerFault::Digest { path: layer.path.clone(), actual }),
    }
}

fn read_archive(file: File) -> io::Result<()> {
    let mut archive = tar::Archive::new(decode(Box::new(file))?);
    for entry in archive.entries()? {
        io::copy(&mut entry?, &mut io::sink())?;
    }
    Ok(())
}
