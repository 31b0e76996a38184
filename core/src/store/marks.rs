//! What the keepers of a central store say of its images: that one stays, or that it may go. One small file per image.
//!
//! ```text
//! TOPDIR/marks/sha256-HEX          by the digest of the manifest
//!   pinned SECONDS                 or `retired SECONDS`: since 1970
//!   name NAME:TAG                  that it had, each on a line, escaped
//!   blob sha256:HEX                what its tag led to below layers/, each on a line, escaped
//! ```
//! A mark appears whole, by a rename. That an image is retired holds as long as no tag names it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::lookup::read_limited;
use super::repos::write_atomically;
use super::{Store, StoreError, io_error};
use crate::digest::Digest;
use crate::text::{escape, unescape};

/// No mark has more bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// The image is never deleted.
    Pinned,
    /// It is deleted a while after this.
    Retired,
}

impl MarkKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Retired => "retired",
        }
    }
}

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of which image.
    pub manifest: Digest,
    /// What it says.
    pub kind: MarkKind,
    /// Since when, to the second.
    pub since: SystemTime,
    /// Names that the image had.
    pub names: Vec<String>,
    /// Names below `layers/` that it needs.
    pub blobs: Vec<String>,
}

impl Mark {
    fn to_bytes(&self) -> Vec<u8> {
        let seconds = self.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut out = format!("{} {seconds}\n", self.kind.as_str());
        for (word, texts) in [("name", &self.names), ("blob", &self.blobs)] {
            texts.iter().for_each(|text| out.push_str(&format!("{word} {}\n", escape(text.as_bytes()))));
        }
        out.into_bytes()
    }

    fn parse(manifest: Digest, bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines().map(|line| line.split_once(' '));
        let (word, seconds) = lines.next()??;
        let kind = [MarkKind::Pinned, MarkKind::Retired].into_iter().find(|kind| kind.as_str() == word)?;
        let since = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
        let mut mark = Self { manifest, kind, since, names: Vec::new(), blobs: Vec::new() };
        for line in lines {
            let (word, text) = line?;
            let text = String::from_utf8(unescape(text)?).ok()?;
            match word {
                "name" => mark.names.push(text),
                "blob" => mark.blobs.push(text),
                // A later version may add lines.
                _ => {}
            }
        }
        Some(mark)
    }
}

impl Store {
    fn marks_directory(&self) -> PathBuf {
        self.path().join("marks")
    }

    fn mark_path(&self, manifest: &Digest) -> PathBuf {
        self.marks_directory().join(manifest.to_string().replace(':', "-"))
    }

    /// All marks.
    ///
    /// # Errors
    /// I/O, and a mark that is damaged: nothing is deleted then.
    pub fn marks(&self) -> Result<Vec<Mark>, StoreError> {
        let directory = self.marks_directory();
        let list = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("list", &directory))?,
        };
        let mut marks = Vec::new();
        for entry in list {
            let entry = entry.map_err(io_error("list", &directory))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // One that is being written has another name.
            let Ok(manifest) = name.replacen('-', ":", 1).parse::<Digest>() else { continue };
            let path = entry.path();
            let Some(bytes) = read_limited(&path, MAX_BYTES)? else { continue };
            let mark = Mark::parse(manifest, &bytes);
            marks.push(mark.ok_or_else(|| StoreError::Damaged { path, what: "it is no mark of an image".into() })?);
        }
        Ok(marks)
    }

    /// Writes a mark, over the one that the image has.
    ///
    /// # Errors
    /// I/O
    pub fn set_mark(&self, mark: &Mark) -> Result<(), StoreError> {
        let directory = self.marks_directory();
        fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        write_atomically(&self.mark_path(&mark.manifest), &mark.to_bytes())
    }

    /// Takes an image's mark away, if it has one.
    ///
    /// # Errors
    /// I/O
    pub fn remove_mark(&self, manifest: &Digest) -> Result<(), StoreError> {
        let path = self.mark_path(manifest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_round_trips() {
        let mark = Mark {
            manifest: Digest::sha256_of(b"m"),
            kind: MarkKind::Retired,
            since: UNIX_EPOCH + Duration::from_secs(7),
            names: vec!["a/b:1".into(), "c d:\n".into()],
            blobs: vec![Digest::sha256_of(b"l").to_string()],
        };
        assert_eq!(Mark::parse(mark.manifest.clone(), &mark.to_bytes()), Some(mark.clone()));
        for bytes in [&b""[..], b"kept 7\n", b"pinned x\n", b"pinned 7\nname"] {
            assert_eq!(Mark::parse(mark.manifest.clone(), bytes), None, "{bytes:?}");
        }
    }
}
