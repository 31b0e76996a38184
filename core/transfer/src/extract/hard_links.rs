//! Hard links: collected when all entries are in the tree, and made where their targets are what the links' layers saw.

use std::sync::atomic::Ordering;

use rustix::fs::AtFlags;

use super::ExtractError;
use super::directory::{Directory, DirectoryError, Kind, Version};
use super::path::{TreePath, join, split};
use super::shared::{Shared, write_error};
use super::tree::Tree;

/// A hard link that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub version: Version,
    pub path: TreePath,
    pub target: TreePath,
}

/// The visible links of `tree`, the lowest first: a link may lead to a link before it.
pub(super) fn collect(tree: &Tree) -> Vec<Link> {
    let mut links = Vec::new();
    add_links(&tree.root, Version::NONE, &TreePath::new(), &mut links);
    links.sort_by_key(|link| link.version);
    links
}

fn add_links(directory: &Directory, hidden: Version, path: &TreePath, links: &mut Vec<Link>) {
    let inner = directory.lock();
    let hidden = hidden.max(inner.opaque);
    for (name, child) in &inner.children {
        let hidden = hidden.max(child.hidden_below);
        match &child.kind {
            Kind::HardLink(target) if child.version >= hidden => {
                links.push(Link { version: child.version, path: join(path, name), target: target.to_vec() });
            }
            Kind::Directory(below) if below.top() >= hidden => {
                add_links(below, hidden, &join(path, name), links);
            }
            _ => {}
        }
    }
}

/// Makes links in their order; returns those whose target is not there.
pub(super) fn make(shared: &Shared<'_>, links: Vec<Link>) -> Result<Vec<Link>, ExtractError> {
    let mut lost = Vec::new();
    for link in links {
        match make_one(shared, &link) {
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

/// Makes a link, if its target is what the link's layer saw.
fn make_one(shared: &Shared<'_>, link: &Link) -> Result<bool, DirectoryError> {
    let tree = &shared.tree;
    let Some((from, hidden)) = tree.find(&link.target) else { return Ok(false) };
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
    let (to, _) = tree.find(&link.path).expect("the link is in the tree");
    let (_, name) = split(&link.path);
    if matches!(kind, Kind::Device) {
        shared.devices.fetch_add(1, Ordering::Relaxed);
    } else {
        let (from, to) = (tree.open.descriptor(&from)?, tree.open.descriptor(&to)?);
        rustix::fs::linkat(&*from, target_name, &*to, name, AtFlags::empty())?;
    }
    let mut inner = to.lock();
    let child = inner.children.get_mut(name).expect("the link is in the tree");
    (child.kind, child.mode, child.owner) = (kind, mode, owner);
    Ok(true)
}
