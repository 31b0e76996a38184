//! What a central store holds, image by image: its tags, its records, its mark.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::garbage::{entries_below, file_name};
use super::repos::links;
use super::{Mark, MarkKind, Record, Store, StoreError, TagEntry};
use crate::digest::Digest;

/// One image of a store.
#[derive(Clone, Debug)]
pub struct HeldImage {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The tags that lead to it, by name.
    pub tags: Vec<TagEntry>,
    /// Its records, under its manifest, its index, or its key of version 1.
    pub records: Vec<(PathBuf, Record)>,
    /// What the store's keepers say of it.
    pub mark: Option<Mark>,
}

impl HeldImage {
    /// A name for messages: the first of its tags, else one that it had, else its digest.
    pub fn shown(&self) -> String {
        let mut had =
            self.mark.iter().flat_map(|mark| &mark.names).chain(self.records.iter().flat_map(|(_, r)| &r.names));
        let tag = self.tags.first().map(TagEntry::display_name);
        tag.or_else(|| had.next().cloned()).unwrap_or_else(|| self.manifest.to_string())
    }
    /// Whether its mark is of this kind.
    pub fn is_marked(&self, kind: MarkKind) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.kind == kind)
    }
    /// When it was published, as far as files tell.
    pub fn published(&self) -> SystemTime {
        let tags = self.tags.iter().map(|tag| tag.directory.join("manifest"));
        let files = tags.chain(self.records.iter().map(|(path, _)| path.clone()));
        let times = files.filter_map(|path| fs::metadata(path).and_then(|status| status.modified()).ok());
        times.max().unwrap_or(SystemTime::UNIX_EPOCH)
    }
    /// A mark of it, from now on, with the names and blobs that it has and had.
    ///
    /// # Errors
    /// If a tag cannot be read.
    pub fn marked(&self, kind: MarkKind) -> Result<Mark, StoreError> {
        let (mut names, mut blobs) = self.mark.clone().map_or_else(Default::default, |mark| (mark.names, mark.blobs));
        for tag in &self.tags {
            names.push(tag.display_name());
            blobs.extend(links(&tag.directory)?.into_iter().map(|(_, file)| file));
        }
        for list in [&mut names, &mut blobs] {
            list.sort();
            list.dedup();
        }
        Ok(Mark { manifest: self.manifest.clone(), kind, since: SystemTime::now(), names, blobs })
    }
}

impl Store {
    /// All images, sorted by name. Damaged tags and records are passed over.
    ///
    /// # Errors
    /// If something of the store cannot be read.
    pub fn held_images(&self) -> Result<Vec<HeldImage>, StoreError> {
        let records = self.all_records();
        let mut images: Vec<HeldImage> = Vec::new();
        for (path, record) in &records {
            let image = entry_of(&mut images, &record.manifest);
            image.records.push((path.clone(), record.clone()));
        }
        for tag in self.tags()? {
            let key = match self.image_key(&tag.directory) {
                Err(StoreError::Damaged { .. }) => continue,
                other => other?,
            };
            // Gone since it was listed.
            let Some(key) = key else { continue };
            let of_key = records.iter().find(|(path, _)| hex_of(path) == key.hex());
            let manifest = of_key.map_or(key, |(_, record)| record.manifest.clone());
            entry_of(&mut images, &manifest).tags.push(tag);
        }
        for mark in self.marks()? {
            let manifest = mark.manifest.clone();
            entry_of(&mut images, &manifest).mark = Some(mark);
        }
        images.sort_by_cached_key(|image| (image.tags.is_empty(), image.shown()));
        Ok(images)
    }

    /// All records that can be read, with their files.
    pub(super) fn all_records(&self) -> Vec<(PathBuf, Record)> {
        let paths = entries_below(&self.path().join("records"), 2).into_iter();
        let parsed = paths.filter_map(|path| {
            let record = fs::read(&path).ok().and_then(|bytes| Record::parse_head(&bytes).ok())?;
            Some((path, record))
        });
        parsed.collect()
    }

    /// Takes "retired" from what a tag names again, and marks as retired what nothing names any more. The caller holds the
    /// store's lock.
    ///
    /// # Errors
    /// If something of the store cannot be read or written.
    pub fn settle_marks(&self) -> Result<(), StoreError> {
        for image in self.held_images()? {
            match (&image.mark, image.tags.is_empty()) {
                (Some(mark), false) if mark.kind == MarkKind::Retired => self.remove_mark(&image.manifest)?,
                (None, true) => self.set_mark(&image.marked(MarkKind::Retired)?)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn entry_of<'a>(images: &'a mut Vec<HeldImage>, manifest: &Digest) -> &'a mut HeldImage {
    let at = images.iter().position(|image| image.manifest == *manifest).unwrap_or_else(|| {
        images.push(HeldImage { manifest: manifest.clone(), tags: Vec::new(), records: Vec::new(), mark: None });
        images.len() - 1
    });
    &mut images[at]
}

/// The digest that a record's file is named after.
fn hex_of(path: &Path) -> String {
    file_name(path).split('-').next().unwrap_or_default().to_owned()
}
