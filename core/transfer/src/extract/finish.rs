//! What is done once, when all entries are in the tree: hard links, what turned out hidden, directories' modes and times.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;
use rustix::fs::Mode;
use udocker_core::store::{ChangedEntry, TreeFormat, remove_at};

use super::directory::{Child, Directory, DirectoryError, Kind, Meta, Version};
use super::hard_links::{self, Link};
use super::path::{TreePath, join};
use super::repair::repair;
use super::shared::Shared;
use super::tree::{TRASH, Tree};
use super::writer::{directory_mode, file_mode, set_times, set_xattrs};
use super::{ExtractError, Flattened};

/// Completes the tree with so many threads.
pub(super) fn finish(shared: &Shared<'_>, threads: usize) -> Result<Flattened, ExtractError> {
    let failed = |error: DirectoryError| match error {
        DirectoryError::Os(errno) => ExtractError::Tree(errno.into()),
        DirectoryError::Trashed => unreachable!("what is in the tree is not in the trash"),
    };
    let tree = &shared.tree;
    let lost = hard_links::make(shared, hard_links::collect(tree))?;
    if !lost.is_empty() {
        // A link to one that is lost and visible is made after that one, so that both are one file.
        let paths: HashSet<TreePath> = lost.iter().map(|link| link.path.clone()).collect();
        let (after, first): (Vec<Link>, Vec<Link>) = lost.into_iter().partition(|link| paths.contains(&link.target));
        repair(shared, first)?;
        let lost = hard_links::make(shared, after)?;
        if !lost.is_empty() {
            repair(shared, lost)?;
        }
    }
    remove_at(descriptor(tree, &tree.root).map_err(failed)?.as_fd(), TRASH)
        .map_err(|errno| ExtractError::Tree(errno.into()))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| ExtractError::Tree(std::io::Error::other(error)))?;
    let totals = pool.install(|| settle(tree, shared.format));
    let mut totals: Totals = totals.map_err(failed)?;
    totals.changed.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Flattened {
        entries: totals.entries,
        tree_bytes: totals.bytes,
        changed: totals.changed,
        skipped_devices: shared.devices.load(Ordering::Relaxed),
    })
}

fn descriptor(tree: &Tree, directory: &Arc<Directory>) -> Result<Arc<std::os::fd::OwnedFd>, DirectoryError> {
    tree.open.descriptor(directory)
}

#[derive(Default)]
struct Totals {
    entries: u64,
    bytes: u64,
    changed: Vec<ChangedEntry>,
}

impl Totals {
    fn add(mut self, other: Self) -> Self {
        self.entries += other.entries;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.changed.extend(other.changed);
        self
    }

    fn note(&mut self, path: TreePath, mode: u32, made: u32, owner: &super::directory::Owner) {
        self.entries += 1;
        let (uid, gid) = owner.as_deref().copied().unwrap_or_default();
        if mode != made || (uid, gid) != (0, 0) {
            self.changed.push(ChangedEntry { path, mode, uid, gid });
        }
    }
}

/// A directory of the tree, with what is hidden at it.
struct Place {
    directory: Arc<Directory>,
    hidden: Version,
    path: TreePath,
}

/// Removes what is hidden, completes directories, deepest first, and counts.
///
/// Level by level: recursion would go as deep as an image says, and on a thread that steals work several times that.
fn settle(tree: &Tree, format: TreeFormat) -> Result<Totals, DirectoryError> {
    let root = Place { directory: Arc::clone(&tree.root), hidden: Version::NONE, path: TreePath::new() };
    let mut levels = vec![vec![root]];
    let mut totals = Totals::default();
    while let Some(level) = levels.last()
        && !level.is_empty()
    {
        let cleared = level.par_iter().map(|place| clear(tree, format, place));
        let none = || (Totals::default(), Vec::new());
        let (sum, next) = cleared.try_reduce(none, |mut one, other| {
            one.1.extend(other.1);
            Ok((one.0.add(other.0), one.1))
        })?;
        totals = totals.add(sum);
        levels.push(next);
    }
    while let Some(level) = levels.pop() {
        let completed = level.par_iter().map(|place| complete(tree, format, place));
        totals = totals.add(completed.try_reduce(Totals::default, |one, other| Ok(one.add(other)))?);
    }
    Ok(totals)
}

/// Removes what is hidden in one directory; returns the directories in it.
fn clear(tree: &Tree, format: TreeFormat, place: &Place) -> Result<(Totals, Vec<Place>), DirectoryError> {
    let directory = &place.directory;
    let mut totals = Totals::default();
    let mut below = Vec::new();
    // Nobody else touches the tree any more, and what is settled need not be remembered.
    let (children, hidden) = {
        let mut inner = directory.lock();
        (std::mem::take(&mut inner.children), place.hidden.max(inner.opaque))
    };
    let remove = |name: Box<[u8]>| -> Result<(), DirectoryError> {
        let name = CString::new(name).expect("names were checked");
        Ok(remove_at(descriptor(tree, directory)?.as_fd(), &name)?)
    };
    for (name, mut child) in children {
        let hidden = hidden.max(child.hidden_below);
        match &child.kind {
            Kind::Absent | Kind::HardLink(_) | Kind::Device => {}
            // What AUFS kept for itself, with the targets of its links.
            _ if name.starts_with(b".wh..wh.") => remove(name)?,
            Kind::Directory(next) if next.top() < hidden => remove(name)?,
            Kind::Directory(next) => {
                below.push(Place { directory: Arc::clone(next), hidden, path: join(&place.path, &name) });
            }
            Kind::File { .. } | Kind::Symlink if child.version < hidden => tree.unlink(directory, &name, &mut child)?,
            Kind::File { size } => {
                totals.bytes = totals.bytes.saturating_add(*size);
                totals.note(join(&place.path, &name), child.mode, file_mode(format, child.mode), &child.owner);
            }
            Kind::Symlink => totals.entries += 1,
        }
        drop::<Child>(child);
    }
    Ok((totals, below))
}

/// Gives one directory its mode and times, when nothing changes in it any more.
fn complete(tree: &Tree, format: TreeFormat, place: &Place) -> Result<Totals, DirectoryError> {
    let mut totals = Totals::default();
    let meta = std::mem::take(&mut place.directory.lock().meta);
    // Hidden by what replaced it for a while: then only what is in it brought the directory back.
    let meta = if meta.version < place.hidden { Meta::default() } else { meta };
    let made = set_metadata(tree, format, &place.directory, &meta)?;
    match meta.version == Version::NONE {
        _ if place.path.is_empty() => {}
        true => totals.entries += 1,
        false => totals.note(place.path.clone(), meta.mode, made, &meta.owner),
    }
    Ok(totals)
}

fn set_metadata(
    tree: &Tree,
    format: TreeFormat,
    directory: &Arc<Directory>,
    meta: &Meta,
) -> Result<u32, DirectoryError> {
    let fd = descriptor(tree, directory)?;
    let mode = directory_mode(format, meta.mode);
    set_xattrs(&*fd, &meta.xattrs)?;
    set_times(&*fd, meta.mtime)?;
    rustix::fs::fchmod(&*fd, Mode::from_raw_mode(mode))?;
    Ok(mode)
}
