//! Hard links whose target lost to a higher layer, or was never in this layer: their bytes are found again in the blobs.
//!
//! Seen from the link, the target is the highest entry of its path that is lower than the link and that nothing between
//! them hides. Rare: so the layers are simply read once more, from the link's downward.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Mode};
use udocker_core::text::escape;

use super::ExtractError;
use super::decoder::scan_layer;
use super::directory::{Kind, Owner, Version};
use super::hard_links::Link;
use super::path::TreePath;
use super::shared::{Shared, write_error};
use super::sparse::SparseMap;
use super::tree::{Item, Node};
use super::writer::{file_mode, set_times, set_xattrs};

/// A target that is looked for: by this path, as it was before this version.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Wanted {
    path: TreePath,
    before: Version,
}

/// What a layer has for a wanted target.
enum Found {
    /// A file, copied to this name of the trash.
    File {
        name: String,
        size: u64,
        mode: u32,
        owner: Owner,
    },
    Symlink {
        name: String,
    },
    /// What is not made, and so the link is not.
    Device,
    /// A link itself: the search goes on from there.
    Link(Wanted),
    /// Something that cannot be linked to, or that hides what is below.
    Nothing,
}

pub(super) fn repair(shared: &Shared<'_>, mut lost: Vec<Link>) -> Result<(), ExtractError> {
    let mut wanted: Vec<Wanted> =
        lost.iter().map(|link| Wanted { path: link.target.clone(), before: link.version }).collect();
    let mut layer = shared.layers.len();
    let mut copies = HashMap::new();
    while layer > 0 && !lost.is_empty() {
        layer -= 1;
        let concerned: Vec<Wanted> = wanted.iter().filter(|want| want.before.layer() >= layer).cloned().collect();
        if concerned.is_empty() {
            continue;
        }
        let found = search(shared, layer, &concerned, &mut copies)?;
        let mut again = false;
        let mut open = Vec::new();
        for (link, want) in lost.into_iter().zip(wanted) {
            match found.get(&want) {
                None => open.push((link, want)),
                Some(Found::Link(next)) => {
                    again |= next.before.layer() == layer;
                    open.push((link, next.clone()));
                }
                Some(Found::Nothing) => return Err(missing(shared, &link)),
                Some(source) => place(shared, &link, source)?,
            }
        }
        (lost, wanted) = open.into_iter().unzip();
        // A link to something else of this layer: it is read once more.
        layer += usize::from(again);
    }
    match lost.first() {
        Some(link) => Err(missing(shared, link)),
        None => Ok(()),
    }
}

fn missing(shared: &Shared<'_>, link: &Link) -> ExtractError {
    ExtractError::BadEntry {
        digest: shared.layers[link.version.layer()].digest().clone(),
        entry: escape(&link.path),
        what: "a hard link to a file that is not there",
    }
}

/// Looks for targets in one layer; those that it neither has nor hides are not in the answer.
///
/// `copies` are of entries that were found before; so one entry has one copy, and no image can fill the disk with them.
fn search(
    shared: &Shared<'_>,
    index: usize,
    wanted: &[Wanted],
    copies: &mut HashMap<Version, Found>,
) -> Result<HashMap<Wanted, Found>, ExtractError> {
    let layer = shared.layers[index];
    let mut found: HashMap<Wanted, Found> = HashMap::new();
    let mut by_path: HashMap<&[u8], Vec<&Wanted>> = HashMap::new();
    for want in wanted {
        by_path.entry(&want.path).or_default().push(want);
    }
    let above: HashSet<&[u8]> = wanted.iter().flat_map(|want| ancestors(&want.path)).collect();
    let mut links = Links::default();
    let mut hides = Hides::default();
    let scanned = scan_layer(layer, index, |item, map, data| {
        match item.node {
            Node::Whiteout => drop(hides.removed.insert(item.path)),
            Node::Opaque => drop(hides.opaque.insert(item.path)),
            _ => {
                if !matches!(item.node, Node::Directory) && above.contains(&*item.path) {
                    hides.replaced.entry(item.path.clone()).or_insert(item.version);
                }
                links.note(&item);
                let wants = by_path.get(&*item.path).into_iter().flatten();
                let wants: Vec<&&Wanted> = wants.filter(|want| item.version < want.before).collect();
                if wants.is_empty() {
                    return Ok(());
                }
                let version = item.version;
                let source = match copies.get(&version) {
                    Some(copy) => copy.share(),
                    None => copy(shared, item, map, data)?,
                };
                // All that want the same entry share the copy, and so the inode.
                for want in wants {
                    found.insert((*want).clone(), source.share());
                }
                copies.insert(version, source);
            }
        }
        Ok(())
    });
    scanned.map_err(|source| ExtractError::Layer { digest: layer.digest().clone(), source })?;
    for want in wanted {
        if !found.contains_key(want) && hides.hide(want) {
            found.insert(want.clone(), Found::Nothing);
        }
    }
    for source in found.values_mut() {
        if let Found::Link(next) = source {
            links.follow(next);
        }
    }
    Ok(found)
}

/// The directories above `path`, the root among them.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inner = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    std::iter::once(&b""[..]).chain(inner)
}

/// What a layer hides of those below it.
#[derive(Default)]
struct Hides {
    removed: HashSet<TreePath>,
    opaque: HashSet<TreePath>,
    /// Directories that are something else from this entry on.
    replaced: HashMap<TreePath, Version>,
}

impl Hides {
    fn hide(&self, want: &Wanted) -> bool {
        self.removed.contains(&want.path)
            || ancestors(&want.path).any(|top| {
                self.removed.contains(top)
                    || self.opaque.contains(top)
                    || self.replaced.get(top).is_some_and(|version| *version < want.before)
            })
    }
}

/// The hard links of one layer, and what later took their names; so a chain of any length costs one more reading.
#[derive(Default)]
struct Links(HashMap<TreePath, Vec<(Version, Option<TreePath>)>>);

impl Links {
    fn note(&mut self, item: &Item) {
        if let Node::HardLink(target) = &item.node {
            self.0.entry(item.path.clone()).or_default().push((item.version, Some(target.clone())));
        } else if let Some(history) = self.0.get_mut(&item.path) {
            history.push((item.version, None));
        }
    }

    /// Follows `want` as long as links of this layer tell the way; each is lower than the one before, so there is an end.
    fn follow(&self, want: &mut Wanted) {
        while let Some(history) = self.0.get(&want.path)
            && let Some((version, Some(target))) = history.iter().rfind(|(version, _)| *version < want.before)
        {
            *want = Wanted { path: target.clone(), before: *version };
        }
    }
}

impl Found {
    fn share(&self) -> Self {
        match self {
            Self::File { name, size, mode, owner } => {
                Self::File { name: name.clone(), size: *size, mode: *mode, owner: owner.clone() }
            }
            Self::Symlink { name } => Self::Symlink { name: name.clone() },
            Self::Device => Self::Device,
            Self::Link(wanted) => Self::Link(wanted.clone()),
            Self::Nothing => Self::Nothing,
        }
    }
}

/// Copies what was found into the trash, from where links are made.
fn copy(shared: &Shared<'_>, item: Item, map: Option<SparseMap>, mut data: &mut dyn io::Read) -> io::Result<Found> {
    let tree = &shared.tree;
    Ok(match item.node {
        Node::File(size) => {
            let (mut file, name) = tree.create_in_trash()?;
            for (offset, length) in map.as_ref().map_or(vec![(0, u64::MAX)], |map| map.segments.clone()) {
                file.seek(io::SeekFrom::Start(offset))?;
                io::copy(&mut (&mut data).take(length), &mut file)?;
            }
            if map.is_some() {
                file.set_len(size)?;
            }
            set_xattrs(&file, &item.xattrs)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(file_mode(shared.format, item.mode)))?;
            set_times(&file, item.mtime)?;
            Found::File { name, size, mode: item.mode, owner: item.owner }
        }
        Node::Symlink(target) => {
            let (_, name) = tree.create_in_trash()?;
            rustix::fs::unlinkat(&tree.trash, &*name, AtFlags::empty())?;
            rustix::fs::symlinkat(&*target, &tree.trash, &*name)?;
            let times = rustix::fs::Timestamps { last_access: item.mtime, last_modification: item.mtime };
            rustix::fs::utimensat(&tree.trash, &*name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            Found::Symlink { name }
        }
        Node::HardLink(path) => Found::Link(Wanted { path, before: item.version }),
        Node::Device => Found::Device,
        _ => Found::Nothing,
    })
}

fn place(shared: &Shared<'_>, link: &Link, source: &Found) -> Result<(), ExtractError> {
    let digest = shared.layers[link.version.layer()].digest();
    let tree = &shared.tree;
    let (directory, _) = tree.find(&link.path).expect("the link is in the tree");
    let name = super::path::split(&link.path).1;
    let (trashed, kind, mode, owner) = match source {
        Found::File { name, size, mode, owner } => (name, Kind::File { size: *size }, *mode, owner.clone()),
        Found::Symlink { name } => (name, Kind::Symlink, 0o777, None),
        Found::Device => {
            shared.devices.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        Found::Link(_) | Found::Nothing => unreachable!("the caller has sorted them out"),
    };
    let Ok(to) = tree.open.descriptor(&Arc::clone(&directory)) else { return Err(missing(shared, link)) };
    rustix::fs::linkat(&tree.trash, &**trashed, &*to, name, AtFlags::empty())
        .map_err(|errno| write_error(digest, &link.path, errno.into()))?;
    let mut inner = directory.lock();
    let child = inner.children.get_mut(name).expect("the link is in the tree");
    (child.kind, child.mode, child.owner) = (kind, mode, owner);
    Ok(())
}
