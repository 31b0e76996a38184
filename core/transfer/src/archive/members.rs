//! The members of an image archive: of a tar, spread into numbered files; of a directory, where they lie.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use udocker_core::digest::{Algorithm, Digest};
use udocker_core::manifest::Descriptor;

use super::error::file_error;
use super::input::receive;
use super::{ArchiveError, layer_media_type};
use crate::extract::decode;
use crate::fetch::{BlobSource, copy_and_digest, digest_of};

const MAX_MEMBERS: usize = 100_000;
const MAX_LINKS: usize = 16;

/// One regular member.
#[derive(Clone)]
pub(super) struct Member {
    pub path: PathBuf,
    pub size: u64,
    /// Known of what was spread.
    digest: Option<Digest>,
}

impl Member {
    /// The digest of its bytes.
    pub fn digest(&self) -> Result<Digest, ArchiveError> {
        match &self.digest {
            Some(digest) => Ok(digest.clone()),
            None => {
                let digested = File::open(&self.path).and_then(|file| copy_and_digest(file, io::sink()));
                Ok(digested.map_err(file_error("read", &self.path))?.0)
            }
        }
    }

    /// The digest of its bytes without their compression.
    pub fn diff_id(&self) -> Result<Digest, ArchiveError> {
        let opened = File::open(&self.path).and_then(|file| decode(Box::new(file)));
        let digested = opened.and_then(|reader| copy_and_digest(reader, io::sink()));
        Ok(digested.map_err(file_error("read", &self.path))?.0)
    }

    /// The descriptor of a layer.
    pub fn layer(&self) -> Result<Descriptor, ArchiveError> {
        let mut head = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(4).read_to_end(&mut head));
        read.map_err(file_error("read", &self.path))?;
        Ok(Descriptor {
            media_type: layer_media_type(&head).to_owned(),
            digest: self.digest()?,
            size: self.size,
            urls: Vec::new(),
        })
    }
}

/// All regular members by their normal names, and the links between names.
pub(super) enum Members {
    /// Of a tar.
    Spread {
        /// By name.
        files: HashMap<String, Member>,
        /// From name to name.
        links: HashMap<String, String>,
    },
    /// Of a directory on disk.
    Directory(PathBuf),
}

impl Members {
    /// Spreads `input` (any compression) into `folder`.
    pub fn spread(input: Box<dyn Read + Send>, name: &str, folder: &Path) -> Result<Self, ArchiveError> {
        let broken = |source| ArchiveError::Archive { name: name.to_owned(), source };
        let (mut files, mut links) = (HashMap::new(), HashMap::new());
        let mut archive = tar::Archive::new(decode(input).map_err(broken)?);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let Some(member) = normal(&String::from_utf8_lossy(&entry.path_bytes())) else { continue };
            if files.len() + links.len() >= MAX_MEMBERS {
                return Err(broken(io::Error::other(format!("more than {MAX_MEMBERS} members"))));
            }
            let kind = entry.header().entry_type();
            if kind.is_file() || kind.is_contiguous() {
                let path = folder.join(files.len().to_string());
                let (digest, size) = receive(&mut entry, &path, name)?;
                files.insert(member, Member { path, digest: Some(digest), size });
            } else if let (true, Some(target)) = (kind.is_symlink() || kind.is_hard_link(), entry.link_name_bytes()) {
                let target = String::from_utf8_lossy(&target).into_owned();
                // A symbolic link starts at its own directory, a hard link at the archive's root.
                let base = if kind.is_symlink() { member.rsplit_once('/').map_or("", |(base, _)| base) } else { "" };
                if let Some(target) = normal(&format!("{base}/{target}")) {
                    links.insert(member, target);
                }
            }
        }
        Ok(Self::Spread { files, links })
    }

    /// The member `name`, through links.
    pub fn get(&self, name: &str) -> Option<Member> {
        let mut name = normal(name)?;
        match self {
            Self::Directory(directory) => {
                let path = directory.join(name);
                let status = path.metadata().ok().filter(|status| status.is_file())?;
                Some(Member { path, size: status.len(), digest: None })
            }
            Self::Spread { files, links } => {
                for _ in 0..MAX_LINKS {
                    if let Some(member) = files.get(&name) {
                        return Some(member.clone());
                    }
                    name.clone_from(links.get(&name)?);
                }
                None
            }
        }
    }

    /// The member `name`, or an error that names it.
    pub fn need(&self, name: &str) -> Result<Member, ArchiveError> {
        self.get(name).ok_or_else(|| ArchiveError::MissingMember(name.to_owned()))
    }

    /// The bytes of a small member.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let member = self.need(name)?;
        if member.size > limit {
            let text = format!("`{name}` has {} bytes, more than {limit}", member.size);
            return Err(file_error("read", &member.path)(io::Error::other(text)));
        }
        std::fs::read(&member.path).map_err(file_error("read", &member.path))
    }

    /// A small member as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self, name: &str, limit: u64) -> Result<T, ArchiveError> {
        let bytes = self.read(name, limit)?;
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Json { name: name.to_owned(), source })
    }

    /// A small blob of an OCI layout, checked against its name.
    pub fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.read(&blob_name(digest), limit)?;
        let actual = digest_of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(ArchiveError::Corrupt { expected: digest.clone(), actual });
        }
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    let algorithm = match digest.algorithm() {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    };
    format!("blobs/{algorithm}/{}", digest.hex())
}

/// The blobs of an archive, by the names that `names` gives them (docker-archives) or as in an OCI layout.
pub(super) struct ArchiveBlobs<'a> {
    pub members: &'a Members,
    pub names: HashMap<Digest, String>,
}

impl BlobSource for ArchiveBlobs<'_> {
    fn open(&self, descriptor: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let name = self.names.get(&descriptor.digest).cloned().unwrap_or_else(|| blob_name(&descriptor.digest));
        let member = self.members.need(&name).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Box::new(File::open(&member.path)?))
    }
}

/// `name` without `.` and empty parts, `..` applied; `None` if nothing is left or it leaves the archive.
fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn names_stay_in_the_archive() {
        for (name, expected) in [
            ("./a//b", Some("a/b")),
            ("x/../y/layer.tar", Some("y/layer.tar")),
            ("../a", None),
            ("a/../../b", None),
            (".", None),
        ] {
            assert_eq!(normal(name).as_deref(), expected, "{name}");
        }
    }
}
