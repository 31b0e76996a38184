//! Tags and what they need: listing, publishing by renames, removing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::lookup::read_limited;
use super::temporary::remove_tree;
use super::{Record, Store, StoreError, TreeId, io_error};
use crate::digest::Digest;
use crate::manifest::MAX_MANIFEST_BYTES;

/// Directories below `repos/` are not searched deeper than this.
const MAX_DEPTH: usize = 32;
/// How often a new tag's place is made anew.
const PLACE_ATTEMPTS: usize = 100;

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
        let mut found = self.all_tags()?;
        found.retain(|tag| tag.directory.join("manifest").is_file() || tag.directory.join("ancestry").is_file());
        found.sort_by(|a, b| (&a.name, &a.tag).cmp(&(&b.name, &b.tag)));
        Ok(found)
    }

    /// All tags, those among them that are being made or were left half made.
    pub(super) fn all_tags(&self) -> Result<Vec<TagEntry>, StoreError> {
        let mut found = Vec::new();
        self.find_tags(&self.repos(), "", 0, &mut found)?;
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
        for entry in list {
            let entry = entry.map_err(io_error("list", directory))?;
            let Ok(part) = entry.file_name().into_string() else { continue };
            if depth >= MAX_DEPTH || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if path.join("TAG").is_file() {
                let protected = path.join("PROTECT").exists();
                found.push(TagEntry { name: name.to_owned(), tag: part, directory: path, protected });
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

    /// Moves a verified file to its place among the blobs; the one that is there already is as good.
    pub fn publish_blob(&self, file: &Path, digest: &Digest) -> Result<(), StoreError> {
        self.publish_layer(file, &digest.to_string())
    }

    /// The same for a file of version 1, whose name is no digest.
    pub fn publish_layer(&self, file: &Path, name: &str) -> Result<(), StoreError> {
        let target = self.layers().join(name);
        set_mode(file, 0o644)?;
        match fs::rename(file, &target) {
            // `layers` was moved to another file system than `tmp`.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy_atomically(file, &target),
            other => other.map_err(io_error("publish", &target)),
        }
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
        let digests = [Some(&record.manifest), record.index.as_ref()].into_iter().flatten();
        digests.into_iter().try_for_each(|digest| self.publish_record_as(digest, record))
    }

    /// Writes the record where `key` leads to: the key of an image of version 1.
    pub fn publish_record_as(&self, key: &Digest, record: &Record) -> Result<(), StoreError> {
        let path = self.record_path(key, &record.platform);
        let parent = path.parent().expect("a record's path has a parent");
        fs::create_dir_all(parent).map_err(io_error("make", parent))?;
        write_atomically(&path, &record.to_bytes())
    }

    /// Tags an image. A new tag appears at once, by one rename; a tag that moves gets its new links first, then its manifest
    /// by a rename, and loses its old links last.
    pub fn publish_tag(&self, name: &str, tag: &str, manifest: &[u8], blobs: &[Digest]) -> Result<(), StoreError> {
        let contents = TagContents::of_manifest(manifest, blobs);
        let directory = self.tag_directory(name, tag);
        if !directory.exists() && self.place_tag(name, tag, &contents)? {
            return Ok(());
        }
        self.refuse_below_a_tag(&directory)?;
        fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        let mut below = fs::read_dir(&directory).map_err(io_error("list", &directory))?.flatten();
        if below.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            // Who reads the store, udocker among them, does not look below a tag.
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "the names of other images lie below it");
            return Err(io_error("make a tag of", &directory)(source));
        }
        self.fill_tag(&directory, name, tag, &contents)?;
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))?.flatten() {
            let stale = entry.file_type().is_ok_and(|kind| kind.is_symlink())
                && !contents.links.iter().any(|(name, _)| entry.file_name() == **name);
            if stale || matches!(entry.file_name().to_str(), Some("v1" | "ancestry")) {
                // A link too many does no harm but for space.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// The same of a tag that must be new; returns false if it is not, also if others were faster.
    pub fn publish_new_tag(
        &self,
        name: &str,
        tag: &str,
        manifest: &[u8],
        blobs: &[Digest],
    ) -> Result<bool, StoreError> {
        if !self.tag_directory(name, tag).exists() {
            return self.place_tag(name, tag, &TagContents::of_manifest(manifest, blobs));
        }
        if self.has_tag(name, tag) {
            return Ok(false);
        }
        // A removal that was killed left half of it, or names lie below it.
        self.publish_tag(name, tag, manifest, blobs).map(|()| true)
    }

    /// Makes the tag out of sight and moves it to its place; returns false if something is there already.
    pub fn place_tag(&self, name: &str, tag: &str, contents: &TagContents) -> Result<bool, StoreError> {
        let place = self.tag_directory(name, tag);
        self.refuse_below_a_tag(&place)?;
        if self.settings().parts.repos.is_some() {
            // It may lie on another file system: made in its place, it is no image before its last file is there.
            if place.exists() {
                return Ok(false);
            }
            fs::create_dir_all(&place).map_err(io_error("make", &place))?;
            return self.fill_tag(&place, name, tag, contents).map(|()| true);
        }
        let folder = self.temporary("tag")?;
        let made = folder.path().join("tag");
        fs::create_dir(&made).map_err(io_error("make", &made))?;
        self.fill_tag(&made, name, tag, contents)?;
        let parent = place.parent().expect("a tag lies below repos");
        // An empty parent may go, by a removal of another tag, before the new one is in it.
        for _ in 0..PLACE_ATTEMPTS {
            fs::create_dir_all(parent).map_err(io_error("make", parent))?;
            match fs::rename(&made, &place) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) if place.symlink_metadata().is_ok() => return Ok(false),
                Err(error) => return Err(io_error("publish", &place)(error)),
            }
        }
        Err(io_error("publish", &place)(io::Error::from(io::ErrorKind::NotFound)))
    }

    /// Who reads the store, udocker among them, does not look below a tag.
    fn refuse_below_a_tag(&self, place: &Path) -> Result<(), StoreError> {
        let repos = self.repos();
        let mut above = place.ancestors().skip(1).take_while(|path| *path != repos);
        if above.any(|path| path.join("TAG").is_file()) {
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "it would lie below the tag of another image");
            return Err(io_error("make a tag of", place)(source));
        }
        Ok(())
    }

    /// TAG, links, and the files in their order: what makes the image whole comes last.
    fn fill_tag(&self, directory: &Path, name: &str, tag: &str, contents: &TagContents) -> Result<(), StoreError> {
        // TAG names the image by the absolute path of repos/, as udocker writes it.
        let label = format!("{}/{name}:{tag}", self.repos().display());
        write_atomically(&directory.join("TAG"), label.as_bytes())?;
        // As they lead from the place below repos/, wherever it is being made.
        let layers = path_from(&self.tag_directory(name, tag), &self.layers());
        for (link, file) in &contents.links {
            let link = directory.join(link);
            match symlink(layers.join(file), &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(io_error("link", &link)(error));
                }
                _ => {}
            }
        }
        contents.files.iter().try_for_each(|(file, bytes)| write_atomically(&directory.join(file), bytes))
    }

    /// What a tag's directory holds, for another tag of the same image.
    pub fn tag_contents(&self, tag: &TagEntry) -> Result<TagContents, StoreError> {
        let mut contents = TagContents::default();
        for name in ["v1", "v2", "ancestry", "manifest"] {
            if let Some(bytes) = read_limited(&tag.directory.join(name), MAX_MANIFEST_BYTES)? {
                contents.files.push((name.to_owned(), bytes));
            }
        }
        contents.links = links(&tag.directory)?;
        Ok(contents)
    }

    /// Removes a tag: the manifest first, so that no half of it is ever listed. Returns what only it may have needed.
    ///
    /// # Errors
    /// [`StoreError::ProtectedImage`] for one with `PROTECT`.
    pub fn remove_tag(&self, tag: &TagEntry) -> Result<RemovedTag, StoreError> {
        let directory = &tag.directory;
        if directory.join("PROTECT").exists() {
            return Err(StoreError::ProtectedImage);
        }
        let key = match self.image_key(directory) {
            // What cannot be read has no record.
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        let files = links(directory)?.into_iter().map(|(_, file)| file).collect();
        for file in ["manifest", "ancestry"] {
            match fs::remove_file(directory.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &directory.join(file))(error));
                }
                _ => {}
            }
        }
        remove_tree(directory).map_err(io_error("remove", directory))?;
        let mut parent = directory.parent();
        while let Some(path) = parent.filter(|path| *path != self.repos()) {
            if fs::remove_dir(path).is_err() {
                break;
            }
            parent = path.parent();
        }
        Ok(RemovedTag { key, files })
    }
}

/// What the directory of a tag holds beside `TAG` and `PROTECT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagContents {
    /// Files and their bytes; `manifest` and `ancestry` come last.
    pub files: Vec<(String, Vec<u8>)>,
    /// Links, and the names below `layers/` that they lead to.
    pub links: Vec<(String, String)>,
}

impl TagContents {
    fn of_manifest(manifest: &[u8], blobs: &[Digest]) -> Self {
        let links = blobs.iter().map(|blob| (blob.to_string(), blob.to_string())).collect();
        Self { files: vec![("v2".to_owned(), Vec::new()), ("manifest".to_owned(), manifest.to_vec())], links }
    }
}

/// What a tag needed that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemovedTag {
    /// By what its record is found.
    pub key: Option<Digest>,
    /// Names below `layers/`.
    pub files: Vec<String>,
}

/// The links of a directory and the last part of where they lead to, sorted.
pub(super) fn links(directory: &Path) -> Result<Vec<(String, String)>, StoreError> {
    let mut links = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let entry = entry.map_err(io_error("list", directory))?;
        if entry.file_type().is_ok_and(|kind| kind.is_symlink())
            && let Ok(target) = fs::read_link(entry.path())
            && let (Ok(name), Some(file)) = (entry.file_name().into_string(), target.file_name())
        {
            links.push((name, file.to_string_lossy().into_owned()));
        }
    }
    links.sort();
    Ok(links)
}

/// Puts udocker's mark against removal into the directory of a tag or a container, or takes it away.
pub fn set_protected(directory: &Path, protected: bool) -> Result<(), StoreError> {
    let mark = directory.join("PROTECT");
    if protected {
        return File::create(&mark).map(drop).map_err(io_error("write", &mark));
    }
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &mark)(error)),
        _ => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("set the mode of", path))
}

/// The way from the directory `from` to `to`, for a relative link; both are absolute.
fn path_from(from: &Path, to: &Path) -> PathBuf {
    let same = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.components().count() - same);
    up.chain(to.components().skip(same)).collect()
}

/// Writes a file beside its place and renames it there; mode 0644 whatever the umask is.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    fill_atomically(path, |file| file.write_all(bytes))
}

/// The same with the bytes of `source`, a file elsewhere.
fn copy_atomically(source: &Path, path: &Path) -> Result<(), StoreError> {
    fill_atomically(path, |file| io::copy(&mut File::open(source)?, file).map(drop))
}

fn fill_atomically(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let nonce = fs::metadata("/proc/self").map_or(0, |status| status.ino());
    name.push(format!(".tmp-{}-{nonce}", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        fill(&mut file)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io_error("write", path)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_from_a_tag_to_the_layers() {
        for (from, to, expected) in [
            ("/s/repos/a/b/latest", "/s/layers", "../../../../layers"),
            ("/s/repos/a/1", "/s/layers", "../../../layers"),
            ("/r/a/1", "/big/layers", "../../../big/layers"),
            ("/s/repos/./a/1/", "/s//layers/", "../../../layers"),
        ] {
            assert_eq!(path_from(from.as_ref(), to.as_ref()), Path::new(expected), "{from} to {to}");
        }
    }
}
