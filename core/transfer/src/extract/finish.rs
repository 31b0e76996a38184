//! What is done once, when all entries are in the tree: hard links, what turned out hidden, directories' modes and times.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode};
use udocker_core::store::{ChangedEntry, TreeFormat, remove_at};

use super::directory::{Child, Directory, DirectoryError, Kind, Meta, Version};
use super::path::{TreePath, components, join, split};
use super::repair::repair;
use super::shared::{Shared, write_error};
use super::tree::{TRASH, Tree};
use super::writer::{directory_mode, file_mode, set_times, set_xattrs};
use super::{ExtractError, Flattened};

/// A hard link that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub version: Version,
    pub path: TreePath,
    pub target: TreePath,
}

/// Completes the tree with so many threads.
pub(super) fn finish(shared: &Shared<'_>, threads: usize) -> Result<Flattened, ExtractError> {
    let failed = |error: DirectoryError| match error {
        DirectoryError::Os(errno) => ExtractError::Tree(errno.into()),
        DirectoryError::Trashed => unreachable!("what is in the tree is not in the trash"),
    };
    let tree = &shared.tree;
    let mut links = Vec::new();
    collect_links(&tree.root, Version::NONE, &TreePath::new(), &mut links);
    // A link may lead to a link before it.
    links.sort_by_key(|link| link.version);
    let lost = make_links(shared, links)?;
    if !lost.is_empty() {
        // A link to one that is lost and visible is made after that one, so that both are one file.
        let paths: HashSet<TreePath> = lost.iter().map(|link| link.path.clone()).collect();
        let (after, first): (Vec<Link>, Vec<Link>) = lost.into_iter().partition(|link| paths.contains(&link.target));
        repair(shared, first)?;
        let lost = make_links(shared, after)?;
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

/// Makes links in their order; returns those whose target is not there.
fn make_links(shared: &Shared<'_>, links: Vec<Link>) -> Result<Vec<Link>, ExtractError> {
    let mut lost = Vec::new();
    for link in links {
        match make_link(shared, &link) {
            Ok(true) => {}
            Ok(false) => lost.push(link),
            Err(DirectoryError::Os(errno)) => {
                return Err(write_error(shared.layers[link.version.layer()].digest(), &link.path, errno.into()));
            }
            Err(DirectoryError::Trashed) => unreachable!("what is in the tree is not in the trash"),
        }
    }
    Ok(lost)
}

fn descriptor(tree: &Tree, directory: &Arc<Directory>) -> Result<Arc<std::os::fd::OwnedFd>, DirectoryError> {
    tree.open.descriptor(directory)
}

fn collect_links(directory: &Directory, hidden: Version, path: &TreePath, links: &mut Vec<Link>) {
    let inner = directory.lock();
    let hidden = hidden.max(inner.opaque);
    for (name, child) in &inner.children {
        let hidden = hidden.max(child.hidden_below);
        match &child.kind {
            Kind::HardLink(target) if child.version >= hidden => {
                links.push(Link { version: child.version, path: join(path, name), target: target.to_vec() });
            }
            Kind::Directory(below) if below.top() >= hidden => {
                collect_links(below, hidden, &join(path, name), links);
            }
            _ => {}
        }
    }
}

/// The directory that holds `path`, if the entry there is visible.
pub(super) fn find(tree: &Tree, path: &[u8]) -> Option<(Arc<Directory>, Version)> {
    let mut here = Arc::clone(&tree.root);
    let mut hidden = Version::NONE;
    for name in components(split(path).0) {
        let inner = here.lock();
        let child = inner.children.get(name)?;
        hidden = hidden.max(inner.opaque).max(child.hidden_below);
        let Kind::Directory(next) = &child.kind else { return None };
        let next = Arc::clone(next);
        drop(inner);
        here = next;
    }
    let opaque = here.lock().opaque;
    Some((here, hidden.max(opaque)))
}

/// Makes a link, if its target is what the link's layer saw.
pub(super) fn make_link(shared: &Shared<'_>, link: &Link) -> Result<bool, DirectoryError> {
    let tree = &shared.tree;
    let Some((from, hidden)) = find(tree, &link.target) else { return Ok(false) };
    let (_, target_name) = split(&link.target);
    let (kind, mode, owner) = {
        let inner = from.lock();
        let Some(target) = inner.children.get(target_name) else { return Ok(false) };
        if target.version < hidden.max(target.hidden_below) || target.version > link.version {
            return Ok(false);
        }
        let kind = match target.kind {
            Kind::File { size } => Kind::File { size },
            Kind::Symlink => Kind::Symlink,
            Kind::Device => Kind::Device,
            _ => return Ok(false),
        };
        (kind, target.mode, target.owner.clone())
    };
    let (to, _) = find(tree, &link.path).expect("the link is in the tree");
    let (_, name) = split(&link.path);
    if matches!(kind, Kind::Device) {
        shared.devices.fetch_add(1, Ordering::Relaxed);
    } else {
        rustix::fs::linkat(&*descriptor(tree, &from)?, target_name, &*descriptor(tree, &to)?, name, AtFlags::empty())?;
    }
    let mut inner = to.lock();
    let child = inner.children.get_mut(name).expect("the link is in the tree");
    (child.kind, child.mode, child.owner) = (kind, mode, owner);
    Ok(true)
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
