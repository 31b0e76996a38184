//! Containers: IDs and names, creating, listing, removing, and where their roots are.
//!
//! ```text
//! containers/UUID/     container.json, imagerepo.name, execmode, PROTECT, nvidia as udocker; `mode` is ours, for N1
//!                      ROOT/                          a full container
//!                      layered, upper/, work/         a layered one: `layered` holds the format and ID of its base tree
//! containers/NAME      symlink to UUID
//! ```
//! A container is made in `tmp/` and renamed, so that no half of one is ever seen.

mod adopt;
mod copy;
mod create;
mod full;
mod leftovers;
mod names;
mod nvidia;
mod remove;
mod setup;

pub use copy::{CopyError, copy_tree};
pub use create::{CreateOptions, Created, NewContainer};
pub use nvidia::nvidia_mounts;
pub use setup::SetupError;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::engine::{RootPlan, RootWrite};
use crate::image_config::{ImageConfig, MAX_CONFIG_BYTES};
use crate::platform::Platform;
use crate::run::ExecMode;
use crate::store::{Store, StoreError, Stores, TreeFormat, TreeId, io_error, read_limited};

const MAX_NAME_BYTES: usize = 2048;

/// A UUID of version 4 (RFC 9562), as udocker names container directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerId(String);

impl ContainerId {
    /// A new random one.
    pub fn generate() -> Self {
        let mut bytes = [0; 16];
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        debug_assert_eq!(filled, Ok(16), "getrandom(2) fills up to 256 bytes at once");
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = crate::text::to_hex(&bytes);
        Self(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
    }
    fn is_id(text: &str) -> bool {
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        text.split('-').count() == 5 && text.split('-').all(word)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container's name: no `/`, `.`, blank, `[` or `]`, at most 2048 bytes (udocker 1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerName(String);

/// A string is no container name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "invalid container name: `{0}` may not be empty, longer than {MAX_NAME_BYTES} bytes, an ID, or hold / . [ ] or blanks"
)]
pub struct ContainerNameError(String);

impl FromStr for ContainerName {
    type Err = ContainerNameError;
    fn from_str(text: &str) -> Result<Self, ContainerNameError> {
        let bad = |c: char| "/.[]".contains(c) || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.contains(bad) || ContainerId::is_id(text) {
            return Err(ContainerNameError(text.chars().take(100).flat_map(char::escape_default).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One container of a store.
#[derive(Clone, Debug)]
pub struct Container {
    id: ContainerId,
    names: Vec<ContainerName>,
    directory: PathBuf,
    image: String,
    base: Option<TreeId>,
    /// `layered` is there and names no tree, as after a crash of the node.
    has_lost_base: bool,
}

impl Container {
    /// Its ID.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }
    /// Its names, sorted.
    pub fn names(&self) -> &[ContainerName] {
        &self.names
    }
    /// `NAME:TAG` of its image.
    pub fn image(&self) -> &str {
        &self.image
    }
    /// The tree below its upper layer; `None` for a full one.
    pub fn base(&self) -> Option<&TreeId> {
        self.base.as_ref()
    }
    /// Whether it is an upper layer over an image's tree.
    pub fn is_layered(&self) -> bool {
        self.base.is_some() || self.has_lost_base
    }
    /// # Errors
    /// [`StoreError::Damaged`] if it is layered, and over what is no longer known. It can be listed and removed then.
    pub fn check_base(&self) -> Result<(), StoreError> {
        if !self.has_lost_base {
            return Ok(());
        }
        Err(StoreError::Damaged { path: self.directory.join("layered"), what: "it names no tree".into() })
    }
    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// # Errors
    /// [`StoreError::Gone`] if it was removed since it was found.
    pub fn still_there(&self) -> Result<(), StoreError> {
        if self.directory.is_dir() { Ok(()) } else { Err(StoreError::Gone { id: self.id.0.clone() }) }
    }
    /// Whether `PROTECT` is there.
    pub fn is_protected(&self) -> bool {
        self.directory.join("PROTECT").exists()
    }
    /// udocker's mark: W writable, R read-only, N no tree, D not a directory.
    pub fn access_mark(&self) -> char {
        let tree = self.directory.join(if self.is_layered() { "upper" } else { "ROOT" });
        match fs::metadata(&tree) {
            Err(_) => return 'N',
            Ok(status) if !status.is_dir() => return 'D',
            Ok(_) => {}
        }
        match rustix::fs::access(&tree, rustix::fs::Access::WRITE_OK) {
            Ok(()) => 'W',
            Err(_) => 'R',
        }
    }
    /// The mode that was set for it. `execmode` is udocker's file and `mode` ours, for what udocker does not know; where
    /// both are there, a family that changes the files of ROOT (F, R, S) is what ROOT is in.
    pub fn mode(&self) -> Option<ExecMode> {
        let read = |name: &str| fs::read_to_string(self.directory.join(name)).ok()?.trim().parse::<ExecMode>().ok();
        match read(setup::EXECMODE_FILE) {
            Some(mode) if setup::changes_the_root(mode) => Some(mode),
            theirs => read(setup::MODE_FILE).or(theirs),
        }
    }
    /// Whether the host's NVIDIA driver is shown in it (`setup --nvidia`).
    pub fn has_nvidia(&self) -> bool {
        self.directory.join(setup::NVIDIA_FILE).exists()
    }
    /// `container.json`, the image's configuration.
    pub fn config_bytes(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.directory.join("container.json");
        let absent = || StoreError::Damaged { path: path.clone(), what: "it is missing".into() };
        read_limited(&path, MAX_CONFIG_BYTES)?.ok_or_else(absent)
    }
    /// What `container.json` says.
    pub fn config(&self) -> Result<ImageConfig, StoreError> {
        ImageConfig::parse(&self.config_bytes()?).map_err(|error| StoreError::Damaged {
            path: self.directory.join("container.json"),
            what: std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
        })
    }
    /// The platform by its configuration.
    pub fn platform(&self) -> Option<Platform> {
        self.config().ok()?.platform
    }
    /// Size of what is its own on the disk, in MB, rounded up as du(1) does.
    pub fn size_megabytes(&self) -> Result<u64, StoreError> {
        let bytes = copy::disk_bytes(&self.directory).map_err(io_error("measure", &self.directory))?;
        Ok(bytes.div_ceil(1 << 20))
    }
}

impl Stores {
    /// The container with this ID or name, in the order of stores.
    pub fn find_container(&self, text: &str) -> Result<Option<(&Store, Container)>, StoreError> {
        for store in self.iter() {
            if let Some(container) = store.find_container(text)? {
                return Ok(Some((store, container)));
            }
        }
        Ok(None)
    }
}

impl Store {
    /// All containers, sorted by ID; what is no container directory is passed over.
    pub fn list_containers(&self) -> Result<Vec<Container>, StoreError> {
        let parent = self.containers();
        let list = match fs::read_dir(&parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("list", &parent))?,
        };
        let (mut ids, mut links) = (Vec::new(), Vec::new());
        for entry in list.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.file_type() {
                Ok(kind) if kind.is_symlink() => links.push((name, fs::read_link(entry.path()).unwrap_or_default())),
                Ok(kind) if kind.is_dir() && ContainerId::is_id(&name) => ids.push(name),
                _ => {}
            }
        }
        ids.sort();
        links.sort();
        ids.into_iter().map(|id| self.read_container(id, &links)).collect()
    }

    fn read_container(&self, id: String, links: &[(String, PathBuf)]) -> Result<Container, StoreError> {
        let directory = self.containers().join(&id);
        let named = links.iter().filter(|(_, target)| target.file_name().is_some_and(|name| *name == *id));
        let names = named.filter_map(|(name, _)| name.parse().ok()).collect();
        let image = fs::read_to_string(directory.join("imagerepo.name")).unwrap_or_default().trim().to_owned();
        let mark = match read_limited(&directory.join("layered"), 4096) {
            Err(StoreError::Damaged { .. }) => Some(Vec::new()),
            other => other?,
        };
        let base = mark.as_deref().and_then(parse_base);
        let has_lost_base = mark.is_some() && base.is_none();
        Ok(Container { id: ContainerId(id), names, directory, image, base, has_lost_base })
    }

    fn find_container(&self, text: &str) -> Result<Option<Container>, StoreError> {
        let is_name = text.parse::<ContainerName>().is_ok();
        if !is_name && !ContainerId::is_id(text) {
            return Ok(None);
        }
        let path = self.containers().join(text);
        let id = if is_name {
            match fs::read_link(&path) {
                Ok(target) => target.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned(),
                Err(_) => return Ok(None),
            }
        } else {
            text.to_owned()
        };
        if !ContainerId::is_id(&id) || !self.containers().join(&id).is_dir() {
            return Ok(None);
        }
        let names = if is_name { vec![(text.to_owned(), PathBuf::from(&id))] } else { Vec::new() };
        self.read_container(id, &names).map(Some)
    }

    /// The root of a container as others see it: nothing is written into it, and any number of runs may share it.
    pub fn container_view(&self, container: &Container, stores: &Stores) -> Result<RootPlan, StoreError> {
        let root = self.container_root(container, stores)?;
        let above = match root.write {
            RootWrite::Layer { upper, .. } => Some(upper),
            _ => None,
        };
        Ok(RootPlan { above, ..RootPlan::new(root.tree, RootWrite::ReadOnly) })
    }

    /// The root of a container, for a run that writes into it.
    pub fn container_root(&self, container: &Container, stores: &Stores) -> Result<RootPlan, StoreError> {
        container.check_base()?;
        let Some(base) = &container.base else {
            return Ok(RootPlan::new(container.directory.join("ROOT"), RootWrite::InPlace));
        };
        let missing = || StoreError::NoBase { id: container.id.0.clone(), image: container.image.clone() };
        let tree = stores.tree(base).ok_or_else(missing)?;
        let (upper, work) = (container.directory.join("upper"), container.directory.join("work"));
        Ok(RootPlan::new(tree, RootWrite::Layer { upper, work }))
    }
}

fn parse_base(bytes: &[u8]) -> Option<TreeId> {
    let line = std::str::from_utf8(bytes).ok()?.lines().next()?;
    let (format, hex) = line.split_once(' ')?;
    TreeId::from_parts(TreeFormat::parse(format)?, hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_udockers() {
        let id = ContainerId::generate();
        assert!(ContainerId::is_id(&id.0) && id.0.len() == 36);
        assert!(!ContainerId::is_id("a-b-c-d") && !ContainerId::is_id("A-b-c-d-e") && !ContainerId::is_id("a-b-c-d-"));
    }

    #[test]
    fn names_are_checked() {
        for (name, good) in [
            ("work", true),
            ("a_b-c", true),
            ("", false),
            ("a.b", false),
            ("a/b", false),
            ("a b", false),
            ("[x]", false),
        ] {
            assert_eq!(name.parse::<ContainerName>().is_ok(), good, "{name}");
        }
    }
}
