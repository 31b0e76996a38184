//! Finding an image: stores in their order, two opens each, no listing, no lock, no JSON but in udocker's version 1.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{ChangedEntry, Record, Store, StoreError, TagEntry, TreeId, io_error};
use crate::digest::Digest;
use crate::platform::Platform;
use crate::reference::ImageReference;
use crate::settings::Settings;

/// Bytes of a record that are read at a start; what a run needs stands at its head.
const RECORD_HEAD_BYTES: u64 = 16 << 10;

/// The stores that exist, in the order of lookup.
#[derive(Clone, Debug)]
pub struct Stores {
    list: Vec<Store>,
    /// Whether the first is the one that its user named: pulls go there whatever its kind is.
    has_named: bool,
}

/// An image that a store has.
#[derive(Debug)]
pub struct FoundImage<'a> {
    /// Where.
    pub store: &'a Store,
    /// By what its record is found: the digest of its manifest, or [`Store::image_key`] of version 1.
    pub key: Digest,
    /// Its record, of this store or another one; `None` if it was never flattened.
    pub record: Option<Record>,
    /// Its tag's directory; `None` if it was found by digest alone.
    pub tag_directory: Option<PathBuf>,
    /// Its flattened root.
    pub tree: Option<PathBuf>,
}

impl Stores {
    /// Opens all stores of `settings` that exist.
    pub fn open(settings: &Settings) -> Result<Self, StoreError> {
        let mut list = Vec::with_capacity(settings.stores.len());
        let mut has_named = false;
        for (at, store) in settings.stores.iter().enumerate() {
            list.extend(Store::open(store)?);
            has_named |= at == 0 && !list.is_empty();
        }
        Ok(Self { list, has_named })
    }
    /// `store` alone.
    pub fn only(store: Store) -> Self {
        Self { list: vec![store], has_named: true }
    }
    /// The same, of which only trees that belong to the caller serve ([`Store::with_own_trees`]).
    pub fn with_own_trees(self) -> Self {
        Self { list: self.list.into_iter().map(Store::with_own_trees).collect(), ..self }
    }
    /// In order.
    pub fn iter(&self) -> std::slice::Iter<'_, Store> {
        self.list.iter()
    }
    /// The first into which this process may pull.
    pub fn first_writable(&self) -> Option<&Store> {
        let takes = |at: usize, store: &Store| at == 0 && self.has_named || store.settings().kind.takes_pulls();
        self.iter().enumerate().find(|(at, store)| takes(*at, store) && store.is_writable()).map(|(_, store)| store)
    }
    /// Where `tree` lies, if a store has it.
    pub fn tree(&self, tree: &TreeId) -> Option<PathBuf> {
        let trusted = self.iter().filter(|store| store.distrust().is_none());
        trusted.map(|store| (store, store.tree(tree))).find(|(store, path)| store.serves(path)).map(|(_, path)| path)
    }
    /// The bytes of a small blob, verified.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let damaged = |path: PathBuf, what: &str| StoreError::Damaged { path, what: what.to_owned() };
        for path in self.iter().map(|store| store.blob(digest)) {
            let Some(bytes) = read_limited(&path, limit)? else { continue };
            return match Digest::sha256_of(&bytes) == *digest {
                true => Ok(bytes),
                false => Err(damaged(path, "its bytes have another digest than its name")),
            };
        }
        Err(damaged(digest.to_string().into(), "no store has this blob"))
    }

    /// The image that `reference` names for `platform`: by tag, or by the digest of a manifest or an index.
    pub fn find_image(
        &self,
        reference: &ImageReference,
        platform: &Platform,
    ) -> Result<Option<FoundImage<'_>>, StoreError> {
        for store in self.iter() {
            if let Some(digest) = reference.digest()
                && let Some((record, tree)) = store.flattened(digest, platform)?
            {
                let key = record.manifest.clone();
                return Ok(Some(FoundImage {
                    store,
                    key,
                    record: Some(record),
                    tag_directory: None,
                    tree: Some(tree),
                }));
            }
            for directory in store.tag_directories(reference) {
                let Some(key) = store.image_key(&directory)? else { continue };
                // One that lies in a store without its tree was flattened into another.
                let others = self.iter().filter(|other| other.path() != store.path());
                for holder in std::iter::once(store).chain(others) {
                    if let Some((record, tree)) = holder.flattened(&key, platform)? {
                        let (record, tree, tag_directory) = (Some(record), Some(tree), Some(directory));
                        return Ok(Some(FoundImage { store, key, record, tag_directory, tree }));
                    }
                }
                return Ok(Some(FoundImage { store, key, record: None, tag_directory: Some(directory), tree: None }));
            }
        }
        let Some(digest) = reference.digest() else { return Ok(None) };
        for store in self.iter() {
            let Some((key, directory)) = store.tag_of(reference.typed_name(), digest, platform)? else { continue };
            for holder in self.iter() {
                if let Some((record, tree)) = holder.flattened(&key, platform)? {
                    let (record, tree, tag_directory) = (Some(record), Some(tree), Some(directory));
                    return Ok(Some(FoundImage { store, key, record, tag_directory, tree }));
                }
            }
            return Ok(Some(FoundImage { store, key, record: None, tag_directory: Some(directory), tree: None }));
        }
        Ok(None)
    }

    /// Whether a tag of `name` leads to `manifest`, in any store.
    pub fn has_under_name(&self, name: &str, manifest: &Digest) -> Result<bool, StoreError> {
        for store in self.iter() {
            if store.tag_under_name(name, manifest)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The tag that `reference` names, whole or not, in the order of stores.
    pub fn find_tag(&self, reference: &ImageReference) -> Option<(&Store, TagEntry)> {
        self.iter().find_map(|store| Some((store, store.find_tag(reference)?)))
    }
}

impl FoundImage<'_> {
    /// A directory of a tag that leads to it: where its manifest and its layers are found, also if it was found by digest.
    ///
    /// # Errors
    /// The file system's.
    pub fn find_tag_directory(&self, reference: &ImageReference) -> Result<Option<PathBuf>, StoreError> {
        match &self.tag_directory {
            Some(directory) => Ok(Some(directory.clone())),
            None => self.store.tag_under_name(reference.typed_name(), &self.key),
        }
    }
}

impl Store {
    /// The tag of `name` that leads to `manifest`.
    ///
    /// # Errors
    /// The file system's.
    pub fn tag_under_name(&self, name: &str, manifest: &Digest) -> Result<Option<PathBuf>, StoreError> {
        let directory = self.repos().join(name);
        let list = match std::fs::read_dir(&directory) {
            Err(error) if is_absent(&error) => return Ok(None),
            other => other.map_err(io_error("list", &directory))?,
        };
        for entry in list {
            let path = entry.map_err(io_error("list", &directory))?.path();
            // A damaged tag leads nowhere; the image's own is no worse for it.
            if self.image_key(&path).ok().flatten().as_ref() == Some(manifest) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// What `digest`, of a manifest or an index, stands for on `platform`, and a tag of `name` that leads to it. What the
    /// manifest of an index is, only the record of a trusted store tells.
    fn tag_of(
        &self,
        name: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Option<(Digest, PathBuf)>, StoreError> {
        let record = if self.distrust().is_some() { None } else { self.read_record(digest, platform)? };
        let key = record.map_or_else(|| digest.clone(), |record| record.manifest);
        Ok(self.tag_under_name(name, &key)?.map(|directory| (key, directory)))
    }

    /// Where the tag of `reference` may lie. udocker cuts a name at its first `:`, also where that belongs to a port.
    fn tag_directories(&self, reference: &ImageReference) -> impl Iterator<Item = PathBuf> {
        let ours = self.tag_directory(reference.typed_name(), &reference.selector());
        let typed = match (reference.digest(), reference.tag()) {
            (Some(_), _) => String::new(),
            (None, Some(tag)) => format!("{}:{tag}", reference.typed_name()),
            (None, None) => reference.typed_name().to_owned(),
        };
        let udockers = typed.split_once(':').map(|(name, tag)| self.tag_directory(name, tag));
        let udockers = udockers.filter(|path| *path != ours);
        std::iter::once(ours).chain(udockers)
    }

    /// The tag that `reference` names, whole or not.
    pub fn find_tag(&self, reference: &ImageReference) -> Option<TagEntry> {
        let is_tag = |path: &PathBuf| ["TAG", "manifest", "ancestry"].iter().any(|name| path.join(name).is_file());
        let directory = self.tag_directories(reference).find(is_tag)?;
        let protected = directory.join("PROTECT").exists();
        let (name, tag) = (reference.typed_name().to_owned(), reference.selector());
        Some(TagEntry { name, tag, directory, protected })
    }

    /// The record that `key` leads to, and its tree, if both are here and may be trusted.
    ///
    /// # Errors
    /// A damaged record.
    pub fn flattened(&self, key: &Digest, platform: &Platform) -> Result<Option<(Record, PathBuf)>, StoreError> {
        if self.distrust().is_some() {
            return Ok(None);
        }
        let Some(record) = self.read_record(key, platform)? else { return Ok(None) };
        let tree = self.tree(&record.tree);
        Ok(self.serves(&tree).then_some((record, tree)))
    }

    /// Who owns the tree that `key` leads to and that serves everybody but this caller: only trees of one's own were asked for.
    ///
    /// # Errors
    /// A damaged record.
    pub fn foreign_tree(&self, key: &Digest, platform: &Platform) -> Result<Option<u32>, StoreError> {
        if self.distrust().is_some() {
            return Ok(None);
        }
        let Some(record) = self.read_record(key, platform)? else { return Ok(None) };
        let tree = self.tree(&record.tree);
        let owner = std::fs::metadata(&tree).ok().map(|status| status.uid());
        Ok(owner.filter(|_| !self.serves(&tree)))
    }

    /// The record of a manifest or an index for `platform`, without its list of changed entries.
    pub fn read_record(&self, digest: &Digest, platform: &Platform) -> Result<Option<Record>, StoreError> {
        let path = self.record_path(digest, platform);
        let mut head = Vec::with_capacity(4096);
        match File::open(&path) {
            Ok(file) => file.take(RECORD_HEAD_BYTES).read_to_end(&mut head).map_err(io_error("read", &path))?,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let parsed = Record::parse_head(&head).or_else(|error| match head.len() as u64 == RECORD_HEAD_BYTES {
            true => std::fs::read(&path).map_err(|_| error).and_then(|bytes| Record::parse_head(&bytes)),
            false => Err(error),
        });
        parsed.map(Some).map_err(|error| StoreError::Damaged { path, what: error.to_string() })
    }
}

impl Store {
    /// What [`read_record`](Self::read_record) leaves out; nothing if there is no record.
    pub fn read_changed(&self, digest: &Digest, platform: &Platform) -> Result<Vec<ChangedEntry>, StoreError> {
        let path = self.record_path(digest, platform);
        let bytes = match std::fs::read(&path) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            other => other.map_err(io_error("read", &path))?,
        };
        let parsed = Record::parse(&bytes).map(|record| record.changed);
        parsed.map_err(|error| StoreError::Damaged { path, what: error.to_string() })
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The whole file, `None` if it is absent.
pub(crate) fn read_limited(path: &std::path::Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let mut bytes = Vec::with_capacity(4096);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(StoreError::Damaged { path: path.to_owned(), what: format!("it has more than {limit} bytes") });
    }
    Ok(Some(bytes))
}
