//! Tags and what they need: listing, publishing by renames, removing, collecting what nothing names any more.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::temporary::remove_tree;
use super::{Record, Store, StoreError, TreeId, io_error};
use crate::digest::Digest;
use crate::platform::Platform;

/// Directories below `repos/` are not searched deeper than this.
const MAX_DEPTH: usize = 32;

/// One tag of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// The name as typed at its pull.
    pub name: String,
    /// The tag, or a digest.
    pub tag: String,
    /// Its directory.
    pub directory: PathBuf,
    /// `PROTECT` is there.
    pub protected: bool,
}

impl TagEntry {
    /// `NAME:TAG`, as udocker lists digests too.
    pub fn display_name(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

impl Store {
    /// All tags, sorted; one without a manifest (or, of version 1, an ancestry) is not whole and not listed.
    pub fn tags(&self) -> Result<Vec<TagEntry>, StoreError> {
        let mut found = Vec::new();
        let repos = self.repos();
        self.find_tags(&repos, "", 0, &mut found)?;
        found.sort_by(|a, b| (&a.name, &a.tag).cmp(&(&b.name, &b.tag)));
        Ok(found)
    }

    fn find_tags(
        &self,
        directory: &Path,
        name: &str,
        depth: usize,
        found: &mut Vec<TagEntry>,
    ) -> Result<(), StoreError> {
        let list = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_error("list", directory))?,
        };
        for entry in list.flatten() {
            let Ok(part) = entry.file_name().into_string() else { continue };
            if depth >= MAX_DEPTH || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if path.join("TAG").is_file() {
                if path.join("manifest").is_file() || path.join("ancestry").is_file() {
                    let protected = path.join("PROTECT").exists();
                    found.push(TagEntry { name: name.to_owned(), tag: part, directory: path, protected });
                }
            } else {
                let longer = if name.is_empty() { part } else { format!("{name}/{part}") };
                self.find_tags(&path, &longer, depth + 1, found)?;
            }
        }
        Ok(())
    }

    /// Whether the tag is there and whole.
    pub fn has_tag(&self, name: &str, tag: &str) -> bool {
        let directory = self.tag_directory(name, tag);
        directory.join("manifest").is_file() || directory.join("ancestry").is_file()
    }

    /// The blobs that a tag's links name, with their sizes, sorted.
    pub fn tag_blobs(&self, tag: &TagEntry) -> Result<Vec<(String, u64)>, StoreError> {
        let list = fs::read_dir(&tag.directory).map_err(io_error("list", &tag.directory))?;
        let mut blobs: Vec<_> = list
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
            .map(|entry| {
                let size = fs::metadata(entry.path()).map_or(0, |status| status.len());
                (entry.file_name().to_string_lossy().into_owned(), size)
            })
            .collect();
        blobs.sort();
        Ok(blobs)
    }

    /// The platform of a tag, from its configuration blob; `None` if that is not there.
    pub fn platform_of(&self, tag: &TagEntry) -> Option<Platform> {
        let bytes = fs::read(tag.directory.join("manifest")).ok()?;
        match crate::manifest::Document::parse(None, &bytes).ok()? {
            crate::manifest::Document::Image(manifest) => {
                let config = fs::read(self.blob(&manifest.config.digest)).ok()?;
                crate::image_config::ImageConfig::parse(&config).ok()?.platform
            }
            crate::manifest::Document::Schema1(image) => {
                crate::image_config::ImageConfig::parse(&image.config).ok()?.platform
            }
            crate::manifest::Document::Index(_) => None,
        }
    }

    /// Moves a verified file to its place among the blobs; the one that is there already is as good.
    pub fn publish_blob(&self, file: &Path, digest: &Digest) -> Result<(), StoreError> {
        let target = self.blob(digest);
        set_mode(file, 0o644)?;
        fs::rename(file, &target).map_err(io_error("publish", &target))
    }

    /// Removes a blob that turned out to be damaged.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Moves a finished root to its place; if the tree is there already, `root` stays where it is.
    pub fn publish_tree(&self, root: &Path, tree: &TreeId) -> Result<(), StoreError> {
        let target = self.tree(tree);
        let holder = target.parent().expect("a tree's path has a parent");
        fs::create_dir_all(holder).map_err(io_error("make", holder))?;
        match fs::rename(root, &target) {
            Err(_) if target.is_dir() => Ok(()),
            other => other.map_err(io_error("publish", &target)),
        }
    }

    /// Writes the record for its manifest and for its index.
    pub fn publish_record(&self, record: &Record) -> Result<(), StoreError> {
        let bytes = record.to_bytes();
        for digest in [Some(&record.manifest), record.index.as_ref()].into_iter().flatten() {
            let path = self.record_path(digest, &record.platform);
            let parent = path.parent().expect("a record's path has a parent");
            fs::create_dir_all(parent).map_err(io_error("make", parent))?;
            write_atomically(&path, &bytes)?;
        }
        Ok(())
    }

    /// Tags an image: directory, TAG, v2, links, and the manifest last; moving a tag drops old links afterwards.
    pub fn publish_tag(&self, name: &str, tag: &str, manifest: &[u8], blobs: &[Digest]) -> Result<(), StoreError> {
        let directory = self.tag_directory(name, tag);
        fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        // TAG names the image by the absolute path of repos/, as udocker writes it.
        let label = format!("{}/{name}:{tag}", self.repos().display());
        write_atomically(&directory.join("TAG"), label.as_bytes())?;
        write_atomically(&directory.join("v2"), b"")?;
        let up = "../".repeat(name.split('/').count() + 2);
        for blob in blobs {
            let link = directory.join(blob.to_string());
            match symlink(format!("{up}layers/{blob}"), &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(io_error("link", &link)(error));
                }
                _ => {}
            }
        }
        write_atomically(&directory.join("manifest"), manifest)?;
        let wanted: HashSet<String> = blobs.iter().map(ToString::to_string).collect();
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))?.flatten() {
            let stale = entry.file_type().is_ok_and(|kind| kind.is_symlink())
                && !wanted.contains(&*entry.file_name().to_string_lossy());
            if stale || matches!(entry.file_name().to_str(), Some("v1" | "ancestry")) {
                // A link too many does no harm but for space.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Removes a tag: the manifest first, so that no half of it is ever listed.
    pub fn remove_tag(&self, name: &str, tag: &str, force: bool) -> Result<(), StoreError> {
        let directory = self.tag_directory(name, tag);
        if directory.join("PROTECT").exists() && !force {
            return Err(StoreError::ProtectedImage);
        }
        for file in ["manifest", "ancestry"] {
            match fs::remove_file(directory.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &directory.join(file))(error));
                }
                _ => {}
            }
        }
        remove_tree(&directory).map_err(io_error("remove", &directory))?;
        let mut parent = directory.parent();
        while let Some(path) = parent.filter(|path| *path != self.repos()) {
            if fs::remove_dir(path).is_err() {
                break;
            }
            parent = path.parent();
        }
        Ok(())
    }

    /// Removes blobs, records and trees that no tag names and no container is based on.
    pub fn collect_garbage(&self, in_use: &dyn Fn(&TreeId) -> bool) -> Result<(), StoreError> {
        let mut blobs = HashSet::new();
        let mut manifests = HashSet::new();
        for tag in self.tags()? {
            blobs.extend(self.tag_blobs(&tag)?.into_iter().map(|(name, _)| name));
            if let Ok(bytes) = fs::read(tag.directory.join("manifest")) {
                manifests.insert(Digest::sha256_of(&bytes));
            }
        }
        let mut trees = HashSet::new();
        for container in self.list_containers()? {
            trees.extend(container.base().map(|tree| tree.hex().to_owned()));
        }
        for path in files_below(&self.path().join("records"), 2) {
            let record = fs::read(&path).ok().and_then(|bytes| Record::parse_head(&bytes).ok());
            match record {
                Some(record) if manifests.contains(&record.manifest) || in_use(&record.tree) => {
                    trees.insert(record.tree.hex().to_owned());
                }
                _ => fs::remove_file(&path).map_err(io_error("remove", &path))?,
            }
        }
        for holder in files_below(&self.path().join("rootfs"), 2) {
            let name = holder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !trees.contains(&name) {
                // Out of reach first, by one rename; then it may take its time.
                let trash = self.temporary("trash")?;
                let moved = fs::rename(&holder, trash.path().join("tree"));
                moved.map_err(io_error("remove", &holder))?;
            }
        }
        for path in files_below(&self.layers(), 1) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !blobs.contains(&name) {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// The entries exactly `depth` levels below `directory`; none if it is not there.
fn files_below(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(directory) else { return Vec::new() };
    let paths = list.flatten().map(|entry| entry.path());
    if depth == 1 { paths.collect() } else { paths.flat_map(|path| files_below(&path, depth - 1)).collect() }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("set the mode of", path))
}

/// Writes a file beside its place and renames it there; mode 0644 whatever the umask is.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let nonce = fs::metadata("/proc/self").map_or(0, |status| status.ino());
    name.push(format!(".tmp-{}-{nonce}", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io_error("write", path)(error)
    })
}
