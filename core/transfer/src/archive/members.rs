//! The members of an archive, spread into numbered files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use udocker_core::digest::Digest;
use udocker_core::manifest::Descriptor;

use super::ArchiveError;
use crate::extract::decode;
use crate::fetch::{BlobSource, copy_and_digest};

const MAX_MEMBERS: usize = 100_000;
const MAX_LINKS: usize = 16;

/// One regular member.
pub(super) struct Member {
    pub path: PathBuf,
    pub digest: Digest,
    pub size: u64,
}

/// All regular members by their normal names, and the links between names.
#[derive(Default)]
pub(super) struct Members {
    files: HashMap<String, Member>,
    links: HashMap<String, String>,
}

impl Members {
    /// Spreads `input` (any compression) into `folder`.
    pub fn spread(input: Box<dyn Read + Send>, name: &str, folder: &Path) -> Result<Self, ArchiveError> {
        let broken = |source| ArchiveError::Archive { name: name.to_owned(), source };
        let mut members = Self::default();
        let mut archive = tar::Archive::new(decode(input).map_err(broken)?);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let Some(member) = normal(&String::from_utf8_lossy(&entry.path_bytes())) else { continue };
            if members.files.len() + members.links.len() >= MAX_MEMBERS {
                return Err(broken(io::Error::other(format!("more than {MAX_MEMBERS} members"))));
            }
            let kind = entry.header().entry_type();
            if kind.is_file() || kind.is_contiguous() {
                let path = folder.join(members.files.len().to_string());
                let made = File::create_new(&path);
                let file = made.map_err(|source| ArchiveError::File { action: "write", path: path.clone(), source })?;
                let (digest, size) = copy_and_digest(&mut entry, file).map_err(broken)?;
                members.files.insert(member, Member { path, digest, size });
            } else if let (true, Some(target)) = (kind.is_symlink() || kind.is_hard_link(), entry.link_name_bytes()) {
                let target = String::from_utf8_lossy(&target).into_owned();
                // A symbolic link starts at its own directory, a hard link at the archive's root.
                let base = if kind.is_symlink() { member.rsplit_once('/').map_or("", |(base, _)| base) } else { "" };
                if let Some(target) = normal(&format!("{base}/{target}")) {
                    members.links.insert(member, target);
                }
            }
        }
        Ok(members)
    }

    /// The member `name`, through links.
    pub fn get(&self, name: &str) -> Option<&Member> {
        let mut name = normal(name)?;
        for _ in 0..MAX_LINKS {
            if let Some(member) = self.files.get(&name) {
                return Some(member);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    /// The member `name`, or an error that names it.
    pub fn need(&self, name: &str) -> Result<&Member, ArchiveError> {
        self.get(name).ok_or_else(|| ArchiveError::MissingMember(name.to_owned()))
    }

    /// The bytes of a small member.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let member = self.need(name)?;
        let failed = |source| ArchiveError::File { action: "read", path: member.path.clone(), source };
        if member.size > limit {
            return Err(failed(io::Error::other(format!("`{name}` has {} bytes, more than {limit}", member.size))));
        }
        std::fs::read(&member.path).map_err(failed)
    }

    /// The blob of an OCI layout, checked against its name.
    pub fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let (algorithm, _) = digest_parts(digest);
        let name = format!("blobs/{algorithm}/{}", digest.hex());
        let bytes = self.read(&name, limit)?;
        let actual = &self.need(&name)?.digest;
        if actual != digest && algorithm == "sha256" {
            return Err(ArchiveError::Corrupt { expected: digest.clone(), actual: actual.clone() });
        }
        Ok(bytes)
    }
}

fn digest_parts(digest: &Digest) -> (&'static str, &str) {
    match digest.algorithm() {
        udocker_core::digest::Algorithm::Sha256 => ("sha256", digest.hex()),
        udocker_core::digest::Algorithm::Sha512 => ("sha512", digest.hex()),
    }
}

/// The blobs of an archive, by the names that `names` gives them (docker-archives) or as in an OCI layout.
pub(super) struct ArchiveBlobs<'a> {
    pub members: &'a Members,
    pub names: HashMap<Digest, String>,
}

impl BlobSource for ArchiveBlobs<'_> {
    fn open(&self, descriptor: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let (algorithm, hex) = digest_parts(&descriptor.digest);
        let name = match self.names.get(&descriptor.digest) {
            Some(name) => name.clone(),
            None => format!("blobs/{algorithm}/{hex}"),
        };
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
