//! Publishing an image in a central store: a pull whose tag moves at last, and what becomes of the image that had the tag.
//!
//! Killed at any point it leaves the tag at the old image or at the new one; what lies in the store without a name is taken
//! up by the next publish of the same image, or is retired by the next of any.

use std::time::SystemTime;

use udocker_core::digest::Digest;
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::reference::ImageReference;
use udocker_core::run::PullPolicy;
use udocker_core::settings::Settings;
use udocker_core::store::{ChangedEntry, FileLock, LockKind, Mark, MarkKind, Patience, Record, Store, StoreError};

use crate::pull::{DigestTag, PullError, pull};

/// An image that has its tag.
#[derive(Debug)]
pub struct Published {
    /// Its record.
    pub record: Record,
    /// The image that the tag led to before, if that is retired by now.
    pub replaced: Option<Digest>,
    /// What not everybody could read in the image, and everybody can in the store.
    pub opened: Vec<ChangedEntry>,
}

/// Publishes `reference` in `store`, a central one.
///
/// # Errors
/// As [`pull`]; the tag is as before then.
pub fn publish(
    store: &Store,
    reference: &ImageReference,
    platform: &Platform,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Published, PullError> {
    let failed = |error: StoreError| PullError::new(format!("publish {reference}"), error.into());
    let before = mark_of_tag(store, reference, progress).map_err(failed)?;
    let record = pull(store, reference, platform, PullPolicy::Always, DigestTag::Write, settings, progress)?;
    let replaced = settle(store, &record, before, progress).map_err(failed)?;
    let changed = store.read_changed(&record.manifest, &record.platform).map_err(failed)?;
    let opened = changed.into_iter().filter(|entry| entry.mode & 0o004 == 0).collect();
    Ok(Published { record, replaced, opened })
}

/// The mark that the image of the tag gets if the tag moves: what the tag led to is not known afterwards.
fn mark_of_tag(store: &Store, reference: &ImageReference, progress: &dyn Progress) -> Result<Option<Mark>, StoreError> {
    let _lock = lock(store, progress)?;
    store.settle_marks()?;
    let Some(tag) = store.find_tag(reference) else { return Ok(None) };
    let held = store.held_images()?;
    let image = held.iter().find(|image| image.tags.iter().any(|other| other.directory == tag.directory));
    image.map(|image| image.marked(MarkKind::Retired)).transpose()
}

/// Brings the marks up to date with the tags; returns the image of `before` if it is retired now.
fn settle(
    store: &Store,
    record: &Record,
    before: Option<Mark>,
    progress: &dyn Progress,
) -> Result<Option<Digest>, StoreError> {
    let _lock = lock(store, progress)?;
    let held = store.held_images()?;
    let is_named = |manifest: &Digest| {
        let image = held.iter().find(|image| image.manifest == *manifest);
        image.is_some_and(|image| !image.tags.is_empty() || image.is_marked(MarkKind::Pinned))
    };
    let replaced = before.filter(|mark| mark.manifest != record.manifest && !is_named(&mark.manifest));
    if let Some(mark) = &replaced {
        store.set_mark(&Mark { since: SystemTime::now(), ..mark.clone() })?;
    }
    store.settle_marks()?;
    Ok(replaced.map(|mark| mark.manifest))
}

fn lock(store: &Store, progress: &dyn Progress) -> Result<FileLock, StoreError> {
    let told = || progress.warning("waiting for the end of a removal in the store");
    store.lock(LockKind::Publish, &Patience::long(&told))
}
