//! An image as it lies in a store, in each of the forms that udocker writes.
//!
//! ```text
//! v2   manifest                  schema 2, OCI, or schema 1, whose configuration is in its history
//!      sha256:HEX                links to the blobs
//! v1   ancestry                  JSON list of layer IDs, top layer first
//!      ID.layer  ID.json         links to a layer and to its metadata; `load` of an OCI archive writes no ID.json
//!      container.json            link to the image's configuration; without it that is the first ID's JSON
//! ```
//! The IDs of version 1 come from a random generator or from an archive: they name files and prove nothing. So an image of
//! version 1 is known by a digest that we compute ([`StoredImage::identity`]), and found again without reading its layers
//! by a key of what a file system can tell of them ([`Store::image_key`]).

use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::lookup::read_limited;
use super::{Store, StoreError, io_error};
use crate::digest::Digest;
use crate::image_config::MAX_CONFIG_BYTES;
use crate::manifest::{Document, MAX_LAYERS, MAX_MANIFEST_BYTES};

/// An image of a tag's directory, read but for its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// Its form, and what says so.
    pub form: StoredForm,
    /// Lowest first.
    pub layers: Vec<StoredLayer>,
    /// The bytes of its configuration; verified where a digest names them.
    pub config: Vec<u8>,
}

/// How an image is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredForm {
    /// The bytes of `manifest`.
    Manifest(Vec<u8>),
    /// The bytes of `ancestry`.
    Ancestry(Vec<u8>),
}

/// One layer of a stored image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLayer {
    /// Its digest, or the ID of version 1.
    pub name: String,
    /// What its bytes must have; `None` in version 1.
    pub digest: Option<Digest>,
    /// The link in the tag's directory.
    pub link: PathBuf,
    /// Its file; it may be missing.
    pub path: PathBuf,
}

impl StoredLayer {
    /// The size of its file in bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is missing.
    pub fn size(&self) -> Result<u64, StoreError> {
        match fs::metadata(&self.path) {
            Ok(status) if status.is_file() => Ok(status.len()),
            Ok(_) => Err(damaged(&self.path, "it is no regular file")),
            Err(error) if error.kind() == IoErrorKind::NotFound => Err(damaged(&self.link, "its layer is missing")),
            Err(error) => Err(io_error("read", &self.path)(error)),
        }
    }
}

impl StoredImage {
    /// The text whose SHA-256 names the image: its manifest, or for version 1 what it is made of; `layers` lowest first.
    pub fn identity(&self, layers: &[Digest]) -> Vec<u8> {
        match &self.form {
            StoredForm::Manifest(bytes) => bytes.clone(),
            StoredForm::Ancestry(bytes) => {
                let mut text = format!("udocker v1 image\nancestry {}\n", Digest::sha256_of(bytes));
                text.push_str(&format!("config {}\n", Digest::sha256_of(&self.config)));
                layers.iter().for_each(|layer| text.push_str(&format!("layer {layer}\n")));
                text.into_bytes()
            }
        }
    }
}

impl Store {
    /// The image of a tag's directory; `None` if there is neither `manifest` nor `ancestry`. Layers are not looked at.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the file that is not what it should be.
    pub fn read_image(&self, directory: &Path) -> Result<Option<StoredImage>, StoreError> {
        let path = directory.join("manifest");
        if let Some(bytes) = read_limited(&path, MAX_MANIFEST_BYTES)? {
            return self.read_manifest(directory, bytes).map(Some);
        }
        let path = directory.join("ancestry");
        let Some(ancestry) = read_limited(&path, MAX_MANIFEST_BYTES)? else { return Ok(None) };
        let ids = parse_ancestry(&path, &ancestry)?;
        let config = read_v1_config(directory, &ids)?;
        let layer = |id: String| {
            let link = directory.join(format!("{id}.layer"));
            StoredLayer { name: id, digest: None, path: link.clone(), link }
        };
        let layers = ids.into_iter().rev().map(layer).collect();
        Ok(Some(StoredImage { form: StoredForm::Ancestry(ancestry), layers, config }))
    }

    fn read_manifest(&self, directory: &Path, bytes: Vec<u8>) -> Result<StoredImage, StoreError> {
        let path = directory.join("manifest");
        let layer = |digest: Digest| StoredLayer {
            name: digest.to_string(),
            link: directory.join(digest.to_string()),
            path: self.blob(&digest),
            digest: Some(digest),
        };
        let (digests, config) = match Document::parse(None, &bytes).map_err(|error| damaged_by(&path, &error))? {
            Document::Image(manifest) => {
                let path = self.blob(&manifest.config.digest);
                let config = read_limited(&path, MAX_CONFIG_BYTES)?;
                let config = config.ok_or_else(|| damaged(&path, "the image's configuration is missing"))?;
                if Digest::sha256_of(&config) != manifest.config.digest {
                    return Err(damaged(&path, "its bytes have another digest than its name"));
                }
                (manifest.layers.into_iter().map(|layer| layer.digest).collect(), config)
            }
            Document::Schema1(image) => (image.layers, image.config),
            Document::Index(_) => return Err(damaged(&path, "it is an index, not the manifest of an image")),
        };
        let layers = digests.into_iter().map(layer).collect();
        Ok(StoredImage { form: StoredForm::Manifest(bytes), layers, config })
    }

    /// By what the record of a tag's image is found: the digest of its manifest, or a key of version 1; `None` without an image.
    ///
    /// The key covers `ancestry`, the configuration, and size and time of change of each layer's file: if one changes, the
    /// image counts as another and its layers are read anew.
    pub fn image_key(&self, directory: &Path) -> Result<Option<Digest>, StoreError> {
        if let Some(bytes) = read_limited(&directory.join("manifest"), MAX_MANIFEST_BYTES)? {
            return Ok(Some(Digest::sha256_of(&bytes)));
        }
        let path = directory.join("ancestry");
        let Some(bytes) = read_limited(&path, MAX_MANIFEST_BYTES)? else { return Ok(None) };
        let ids = parse_ancestry(&path, &bytes)?;
        let config = Digest::sha256_of(&read_v1_config(directory, &ids)?);
        let mut text = format!("udocker v1 key\nancestry {}\nconfig {config}\n", Digest::sha256_of(&bytes));
        for id in ids {
            match fs::metadata(directory.join(format!("{id}.layer"))) {
                Ok(m) => text.push_str(&format!("{id} {} {}.{:09}\n", m.len(), m.mtime(), m.mtime_nsec())),
                Err(_) => text.push_str(&format!("{id} missing\n")),
            }
        }
        Ok(Some(Digest::sha256_of(text.as_bytes())))
    }

    /// The platform that a tag's image claims, in udocker's words: what is not told is `unknown`.
    pub fn claimed_platform(&self, directory: &Path) -> String {
        // A listing goes on whatever one of its images is.
        let image = self.read_image(directory).ok().flatten();
        let config = image.and_then(|image| serde_json::from_slice::<serde_json::Value>(&image.config).ok());
        let word = |key: &str| config.as_ref()?.get(key)?.as_str().filter(|text| !text.is_empty());
        let base = format!("{}/{}", word("os").unwrap_or("unknown"), word("architecture").unwrap_or("unknown"));
        word("variant").map_or(base.clone(), |variant| format!("{base}/{variant}"))
    }
}

/// The IDs, top layer first.
fn parse_ancestry(path: &Path, bytes: &[u8]) -> Result<Vec<String>, StoreError> {
    let ids: Vec<String> = serde_json::from_slice(bytes).map_err(|error| damaged_by(path, &error))?;
    // Each becomes part of a path.
    let good = |id: &String| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
        id.len() <= 200 && id.bytes().all(word) && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    };
    if ids.is_empty() || ids.len() > MAX_LAYERS || !ids.iter().all(good) {
        return Err(damaged(path, "it is no list of layer IDs"));
    }
    Ok(ids)
}

fn read_v1_config(directory: &Path, ids: &[String]) -> Result<Vec<u8>, StoreError> {
    let first = ids.first().map(|id| format!("{id}.json")).unwrap_or_default();
    for name in ["container.json", &first] {
        if let Some(bytes) = read_limited(&directory.join(name), MAX_CONFIG_BYTES)? {
            return Ok(bytes);
        }
    }
    Err(damaged(directory, &format!("it has neither container.json nor {first}, and so no configuration")))
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: what.to_owned() }
}

/// The same in an error's own words and those of its cause.
fn damaged_by(path: &Path, error: &dyn std::error::Error) -> StoreError {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    StoreError::Damaged { path: path.to_owned(), what: format!("{error}{cause}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_leave_the_directory_are_refused() {
        for (bytes, good) in [
            (br#"["a1","b.c"]"#.as_slice(), true),
            (br#"["sha256:aa"]"#, true),
            (b"[]", false),
            (b"{}", false),
            (br#"["../../etc/passwd"]"#, false),
            (br#"[""]"#, false),
            (br#"[".."]"#, false),
            (br#"["a\u0000"]"#, false),
        ] {
            let parsed = parse_ancestry(Path::new("ancestry"), bytes);
            assert_eq!(parsed.is_ok(), good, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
