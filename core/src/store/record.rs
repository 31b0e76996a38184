//! Records: what a run needs to know of an image, in one small file that needs no JSON.
//!
//! ```text
//! udocker-record 1
//! manifest sha256:…
//! index sha256:…            (only if the image was found through an index)
//! name NAME                 (of an image that came by its digest alone, without a tag: the names that it came under)
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
use crate::text::{escape, unescape};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Digest of the image manifest.
    pub manifest: Digest,
    /// Digest of the index through which it was found: the pin.
    pub index: Option<Digest>,
    /// The names, as typed, under which a registry gave it; its tags may lead to other images by now.
    pub names: Vec<String>,
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
    /// For a store that others read: files `| 0444` (`| 0111` where any x), directories `| 0755`; nobody but their owner may
    /// write them, or a user could put files into everybody's image.
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
    /// A tree that a file of ours names; `None` if `hex` is not 64 lower-case hexadecimal digits.
    pub(crate) fn from_parts(format: TreeFormat, hex: &str) -> Option<Self> {
        let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self { format, hex: hex.to_owned() })
    }
    /// 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

/// A record could not be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} of the record is not understood")]
pub struct RecordError {
    /// From 1.
    pub line: usize,
}

const HEAD: &str = "udocker-record 1";
const END: &str = "end";

impl TreeFormat {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Private1, Self::Shared1].into_iter().find(|format| format.as_str() == text)
    }
}

impl Record {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{HEAD}\nmanifest {}\n", self.manifest);
        if let Some(index) = &self.index {
            out.push_str(&format!("index {index}\n"));
        }
        self.names.iter().for_each(|name| out.push_str(&format!("name {}\n", escape(name.as_bytes()))));
        out.push_str(&format!("platform {}\nconfig {}\n", self.platform, self.config_digest));
        out.push_str(&format!("format {}\ntree {}\n", self.tree.format.as_str(), self.tree.hex));
        for (name, number) in [
            ("blobs", self.layers),
            ("packed", self.packed_bytes),
            ("bytes", self.tree_bytes),
            ("entries", self.entries),
        ] {
            out.push_str(&format!("{name} {number}\n"));
        }
        let mut texts = |name: &str, values: &[String]| {
            values.iter().for_each(|value| out.push_str(&format!("{name} {}\n", escape(value.as_bytes()))));
        };
        let config = &self.config;
        texts("workdir", std::slice::from_ref(&config.working_dir));
        texts("user", std::slice::from_ref(&config.user));
        texts("env", &config.env);
        texts("entrypoint", &config.entrypoint);
        texts("cmd", &config.cmd);
        out.push_str(END);
        out.push('\n');
        for ChangedEntry { path, mode, uid, gid } in &self.changed {
            out.push_str(&format!("changed {mode:o} {uid} {gid} {}\n", escape(path)));
        }
        out.into_bytes()
    }

    /// Reads a record up to its `end`; `changed` stays empty.
    pub fn parse_head(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::parse_lines(bytes, false)
    }

    /// Reads a whole record.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::parse_lines(bytes, true)
    }

    fn parse_lines(bytes: &[u8], whole: bool) -> Result<Self, RecordError> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line) != Some(HEAD) {
            return Err(RecordError { line: 1 });
        }
        let mut draft = Draft::default();
        let mut last = 1;
        for (at, line) in lines.by_ref() {
            last = at + 1;
            if line == END {
                let mut record = draft.finish().ok_or(RecordError { line: last })?;
                if whole {
                    for (at, line) in lines {
                        record.changed.push(changed(line).ok_or(RecordError { line: at + 1 })?);
                    }
                }
                return Ok(record);
            }
            draft.take(line).ok_or(RecordError { line: last })?;
        }
        Err(RecordError { line: last })
    }
}

fn changed(line: &str) -> Option<ChangedEntry> {
    let mut words = line.strip_prefix("changed ")?.split(' ');
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(ChangedEntry { mode, uid, gid, path: unescape(words.next()?)? })
}

#[derive(Default)]
struct Draft {
    manifest: Option<Digest>,
    index: Option<Digest>,
    names: Vec<String>,
    config_digest: Option<Digest>,
    platform: Option<Platform>,
    format: Option<TreeFormat>,
    tree: Option<String>,
    numbers: [u64; 4],
    config: ImageConfig,
}

impl Draft {
    fn take(&mut self, line: &str) -> Option<()> {
        let (name, value) = line.split_once(' ')?;
        let text = || String::from_utf8(unescape(value)?).ok();
        let digest = || value.parse().ok();
        match name {
            "manifest" => self.manifest = Some(digest()?),
            "index" => self.index = Some(digest()?),
            "name" => self.names.push(text()?),
            "config" => self.config_digest = Some(digest()?),
            "platform" => self.platform = Some(value.parse().ok()?),
            "format" => self.format = Some(TreeFormat::parse(value)?),
            "tree" => {
                let hex = value.len() == 64 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                self.tree = Some(hex.then(|| value.to_owned())?);
            }
            "blobs" => self.numbers[0] = value.parse().ok()?,
            "packed" => self.numbers[1] = value.parse().ok()?,
            "bytes" => self.numbers[2] = value.parse().ok()?,
            "entries" => self.numbers[3] = value.parse().ok()?,
            "workdir" => self.config.working_dir = text()?,
            "user" => self.config.user = text()?,
            "env" => self.config.env.push(text()?),
            "entrypoint" => self.config.entrypoint.push(text()?),
            "cmd" => self.config.cmd.push(text()?),
            // A later version may add lines; what it takes to run is above.
            _ => {}
        }
        Some(())
    }
    fn finish(self) -> Option<Record> {
        let [layers, packed_bytes, tree_bytes, entries] = self.numbers;
        Some(Record {
            manifest: self.manifest?,
            index: self.index,
            names: self.names,
            config_digest: self.config_digest?,
            platform: self.platform?,
            tree: TreeId { format: self.format?, hex: self.tree? },
            layers,
            packed_bytes,
            tree_bytes,
            entries,
            config: self.config,
            changed: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            manifest: Digest::sha256_of(b"m"),
            index: Some(Digest::sha256_of(b"i")),
            names: vec!["a/b".into(), "c d".into()],
            config_digest: Digest::sha256_of(b"c"),
            platform: "linux/arm/v7".parse().unwrap(),
            tree: TreeId::of(TreeFormat::Shared1, &[Digest::sha256_of(b"l")]),
            layers: 1,
            packed_bytes: 2,
            tree_bytes: 3,
            entries: 4,
            config: ImageConfig {
                platform: None,
                env: vec!["A=b c\n%".into(), "B=".into()],
                entrypoint: vec!["".into(), "x y".into()],
                cmd: vec![],
                working_dir: "".into(),
                user: "a:b".into(),
            },
            changed: vec![ChangedEntry { path: b"a b\xff".to_vec(), mode: 0o4755, uid: 1, gid: 2 }],
        }
    }

    #[test]
    fn a_record_round_trips() {
        let record = record();
        assert_eq!(Record::parse(&record.to_bytes()).unwrap(), record);
        assert_eq!(Record::parse_head(&record.to_bytes()).unwrap(), Record { changed: vec![], ..record });
    }

    #[test]
    fn half_a_record_is_none() {
        let bytes = record().to_bytes();
        let end = bytes.windows(5).position(|w| w == b"\nend\n").unwrap();
        assert!(Record::parse(&bytes[..end]).is_err());
        assert_eq!(Record::parse(b"udocker-record 2\n").unwrap_err(), RecordError { line: 1 });
    }

    #[test]
    fn the_tree_depends_on_format_and_order() {
        let (a, b) = (Digest::sha256_of(b"a"), Digest::sha256_of(b"b"));
        let id = |format, blobs: &[Digest]| TreeId::of(format, blobs).hex().to_owned();
        let first = id(TreeFormat::Private1, &[a.clone(), b.clone()]);
        assert_ne!(first, id(TreeFormat::Private1, &[b.clone(), a.clone()]));
        assert_ne!(first, id(TreeFormat::Shared1, &[a, b]));
    }
}
