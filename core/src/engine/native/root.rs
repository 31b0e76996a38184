//! The new root, before the mounts in it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::{During, EnterError, Step};
use crate::engine::{RootPlan, RootWrite};
use crate::sys::mount;
use crate::sys::resolve;

/// Bytes of a scratch tmpfs that only holds generated files and mount points.
const SCRATCH_BYTES: u64 = 16 << 20;
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The new root on its way.
pub(super) struct NewRoot {
    /// The root of the mount that becomes `/`.
    pub root: OwnedFd,
    /// A tmpfs for files and mount points; leaves the namespace with the old root.
    pub scratch: Option<OwnedFd>,
    /// What recursive binds leave out: the root itself, or a mount below the scratch tmpfs.
    unbindable: OwnedFd,
}

/// Descriptors that must be opened after unshare(2) and before anything is mounted.
pub(super) struct Trees {
    tree: OwnedFd,
    above: Option<OwnedFd>,
    layer: Option<(OwnedFd, OwnedFd)>,
}

impl Trees {
    /// Opens the directories of `plan`.
    pub fn open(plan: &RootPlan) -> Result<Self, EnterError> {
        let layer = match &plan.write {
            RootWrite::Layer { upper, work } => {
                Some((open_directory(upper).on(Step::Layer, upper)?, open_directory(work).on(Step::Layer, work)?))
            }
            _ => None,
        };
        let above = plan.above.as_ref().map(|path| open_directory(path).on(Step::Layer, path)).transpose()?;
        Ok(Self { tree: open_directory(&plan.tree).on(Step::Tree, &plan.tree)?, above, layer })
    }

    /// What an overlay lies over, the uppermost first.
    fn lowers(&self) -> Vec<BorrowedFd<'_>> {
        self.above.iter().chain([&self.tree]).map(AsFd::as_fd).collect()
    }
}

impl NewRoot {
    /// Mounts the root of `plan`, with a scratch tmpfs if it must or `with_scratch`.
    pub fn make(plan: &RootPlan, trees: &Trees, with_scratch: bool) -> Result<Self, EnterError> {
        let size = match plan.write {
            RootWrite::Tmpfs { size } => Some(size),
            _ => with_scratch.then_some(SCRATCH_BYTES),
        };
        let Some(size) = size else {
            mount_root(plan, trees, None, trees.tree.as_fd())?;
            let root = open_directory(&plan.tree).on(Step::BindRoot, &plan.tree)?;
            mount::make_unbindable(&root).on(Step::BindRoot, &plan.tree)?;
            read_only(plan, &root)?;
            let unbindable = root.try_clone().on(Step::BindRoot, &plan.tree)?;
            return Ok(Self { root, scratch: None, unbindable });
        };
        // The scratch tmpfs must be bindable itself, so what keeps it out of recursive binds is a mount below it.
        mount::bind_recursive(&trees.tree, &trees.tree).on(Step::Scratch, &plan.tree)?;
        let unbindable = open_directory(&plan.tree).on(Step::Scratch, &plan.tree)?;
        mount::make_unbindable(&unbindable).on(Step::Scratch, &plan.tree)?;
        let scratch = mount_scratch(&plan.tree, &unbindable, size)?;
        let point = make_directory(&scratch, "root").on(Step::Scratch, &plan.tree)?;
        mount_root(plan, trees, Some(&scratch), point.as_fd())?;
        let root = rustix::fs::openat(&scratch, "root", DIRECTORY, Mode::empty()).on(Step::BindRoot, &plan.tree)?;
        read_only(plan, &root)?;
        Ok(Self { root, scratch: Some(scratch), unbindable })
    }

    /// Unmounts what [`Self::make`] mounted.
    pub fn discard(self, tree: &Path) -> Result<(), EnterError> {
        mount::detach(&self.unbindable).on(Step::BindRoot, tree)
    }

    /// Makes the root `/` and detaches everything else.
    pub fn enter(self, tree: &Path) -> Result<(), EnterError> {
        if self.scratch.is_none() {
            // What runs inside may bind its own root.
            mount::make_private(&self.root).on(Step::Pivot, tree)?;
        }
        mount::pivot(&self.root).on(Step::Pivot, tree)
    }
}

fn mount_root(
    plan: &RootPlan,
    trees: &Trees,
    scratch: Option<&OwnedFd>,
    point: BorrowedFd<'_>,
) -> Result<(), EnterError> {
    let tree = &trees.tree;
    match (&plan.write, &trees.layer, scratch) {
        (RootWrite::ReadOnly, ..) if trees.above.is_some() => {
            mount::overlay(&trees.lowers(), None, point).on(Step::Overlay, &plan.tree)
        }
        (RootWrite::ReadOnly, ..) => match mount::bind(tree, point) {
            // There are mounts below it that may not be uncovered.
            Err(Errno::INVAL) => mount::bind_recursive(tree, point),
            done => done,
        }
        .on(Step::BindRoot, &plan.tree),
        (RootWrite::Tmpfs { .. }, _, Some(scratch)) => {
            let upper = make_directory(scratch, "upper").on(Step::Scratch, &plan.tree)?;
            let work = make_directory(scratch, "work").on(Step::Scratch, &plan.tree)?;
            // The upper directory is what `stat /` shows inside.
            let top = trees.above.as_ref().unwrap_or(tree);
            let mode = Mode::from_raw_mode(rustix::fs::fstat(top).on(Step::Tree, &plan.tree)?.st_mode);
            rustix::fs::chmodat(scratch, "upper", mode, rustix::fs::AtFlags::empty()).on(Step::Scratch, &plan.tree)?;
            mount::overlay(&trees.lowers(), Some((upper.as_fd(), work.as_fd())), point).on(Step::Overlay, &plan.tree)
        }
        (RootWrite::Layer { .. }, Some((upper, work)), _) => {
            mount::overlay(&trees.lowers(), Some((upper.as_fd(), work.as_fd())), point).on(Step::Overlay, &plan.tree)
        }
        _ => mount::bind_recursive(tree, point).on(Step::BindRoot, &plan.tree),
    }
}

fn read_only(plan: &RootPlan, root: &OwnedFd) -> Result<(), EnterError> {
    if plan.write == RootWrite::ReadOnly {
        mount::make_read_only(root).on(Step::ReadOnlyRoot, &plan.tree)?;
    }
    Ok(())
}

/// Mounts a tmpfs on `point`, which `path` leads to, and opens it.
pub(super) fn mount_scratch(path: &Path, point: &OwnedFd, size: u64) -> Result<OwnedFd, EnterError> {
    let options = CString::new(format!("mode=0755,size={size}")).expect("digits");
    mount::tmpfs(point, &options, false).on(Step::Scratch, path)?;
    let scratch = open_directory(path).on(Step::Scratch, path)?;
    // Somebody renamed a parent between the two.
    let found = mount::file_system(&scratch).on(Step::Scratch, path)?;
    let verified = if found == mount::TMPFS_MAGIC { Ok(()) } else { Err(Errno::STALE) };
    verified.on(Step::Scratch, path)?;
    Ok(scratch)
}

/// Makes and opens a directory of the scratch tmpfs.
pub(super) fn make_directory(scratch: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    resolve::make(scratch, &[name.into()], resolve::MakeKind::Directory)
}

/// Opens a directory for use by descriptor; automounts are triggered.
pub(super) fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
}
