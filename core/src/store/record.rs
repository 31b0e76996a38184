//! Records: what a run needs to know of an image, in one small file that needs no JSON.
//!
//! ```text
//! udocker-record 1
//! manifest sha256:…
//! index sha256:…            (only if the image was found through an index)
//! platform linux/amd64
//! config sha256:…
//! format 1                  format of the extraction
//! tree HEX                  TREEID
//! blobs N / bytes N / entries N / packed N
//! workdir /w  ·  user u  ·  env K=V …  ·  entrypoint WORD …  ·  cmd WORD …     (texts escaped, one a line)
//! end
//! changed MODE UID GID PATH     original mode (octal) and owner of what extraction had to change
//! ```

use crate::digest::Digest;
use crate::image_config::ImageConfig;
use crate::platform::Platform;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Digest of the image manifest.
    pub manifest: Digest,
    /// Digest of the index through which it was found: the pin.
    pub index: Option<Digest>,
    /// Digest of the configuration blob.
    pub config_digest: Digest,
    /// The image's platform.
    pub platform: Platform,
    /// Which tree.
    pub tree: TreeId,
    /// Number of layers.
    pub layers: u64,
    /// Bytes of all blobs as stored.
    pub packed_bytes: u64,
    /// Bytes of the files of the tree.
    pub tree_bytes: u64,
    /// Entries of the tree.
    pub entries: u64,
    /// What a run takes from the image's configuration (platform is `None` here).
    pub config: ImageConfig,
    /// Originals of what extraction had to change, by path below the root.
    pub changed: Vec<ChangedEntry>,
}

/// Original mode and owner of a path of which extraction kept another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedEntry {
    /// Path below the root, without a leading `/`.
    pub path: Vec<u8>,
    /// Mode bits 07777 as in the archive.
    pub mode: u32,
    /// Owner as in the archive.
    pub uid: u64,
    /// Group as in the archive.
    pub gid: u64,
}

/// The rules by which a tree was extracted; part of its path and of its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TreeFormat {
    /// For the user alone: files `(mode & 01777) | 0400`, directories `| 0700`.
    Private1,
    /// For a store that others read: files `| 0444` (`| 0111` where any x), directories `| 0555`.
    Shared1,
}

/// SHA-256 over the format and the ordered digests of the blobs that were read: names one extracted tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TreeId {
    /// The rules of extraction.
    pub format: TreeFormat,
    hex: String,
}

impl TreeFormat {
    /// The directory's name below `rootfs/`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private1 => "1",
            Self::Shared1 => "1-shared",
        }
    }
}

impl TreeId {
    /// The tree of `blobs`, lowest layer first.
    pub fn of(format: TreeFormat, blobs: &[Digest]) -> Self {
        let mut text = format!("udocker tree {}\n", format.as_str());
        blobs.iter().for_each(|blob| text.push_str(&format!("{blob}\n")));
        Self { format, hex: Digest::sha256_of(text.as_bytes()).hex().to_owned() }
    }
    /// 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}
