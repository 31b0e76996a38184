//! One container per node and step: its ranks share one user and one mount namespace, without a process that holds them.
//!
//! ```text
//! RUN-DIRECTORY/step-STEP-SHAPE      the processes of one step's container (see members)
//! RUN-DIRECTORY/image-STEP-IMAGE     what its first rank found of an image, or why it found none
//! RUN-DIRECTORY/plain-STEP-PLACES    its user has no settings of his own at these places
//! RUN-DIRECTORY/relay-STEP           the commands of its scheduler that its script has, and the socket to who runs them
//! RUN-DIRECTORY/said-STEP-TEXT       one of its ranks has said this for all
//! RUN-DIRECTORY/container-ID-SHAPE   the processes of a container that lies in a store, or of a layered one
//! RUN-DIRECTORY/container-at-INODE   those that write into one directory
//! RUN-DIRECTORY/container-ID         all of them, and
//! RUN-DIRECTORY/container-ID.shape   how it runs
//! ```
//! Ranks of several user namespaces may not read each other's memory (process_vm_readv(2) answers EPERM), and MPI libraries
//! abort, hang or crawl then. Who comes first makes the container while it holds the list's lock; who comes later joins any
//! process that lives. The list dies with its readers' interest: it names pids and start times, and the dead count nothing.

mod error;
mod head;
mod image;
mod plain;
mod reap;
mod running;
mod step;

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

pub use error::RendezvousError;
pub use head::Head;
pub use image::{ImageFailure, Left, StepImage, name as image_name};
pub use plain::NoSettings;
pub use reap::{RELAY_LOCK, reap};
pub use running::{NO_ENVIRONMENT, Running, running};
pub use step::{Step, starter};

use crate::engine::{ExecPlan, RootWrite, Shape};
use crate::members::{Found, Members};
use crate::store::{RunDirectory, TreeUse};
use crate::text::short_hash;

/// For so long a process waits for the one that makes the container.
const LIMIT: Duration = Duration::from_secs(60);

/// What the ranks of a node said is said again after so long: they do not arrive that far apart, another run does.
const REPEAT: Duration = Duration::from_secs(10);

/// What a process should be told while it meets the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It has waited for 5 s.
    Waiting,
    /// This process lives in the container and cannot be joined, so there are two containers on this node now.
    Split(u32),
    /// Other ranks of the step live in a container of another shape.
    Differs,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting for the task of this node that makes the container"),
            Self::Split(pid) => write!(
                f,
                "process {pid} of the container cannot be joined, so the tasks of this node are split over two containers: \
                 MPI ranks of one cannot read the memory of the other"
            ),
            Self::Differs => f.write_str(
                "the tasks of this node run in several containers, since their images, mounts, users or modes differ (a working \
                 directory of its own is a mount): MPI ranks of one cannot read the memory of the other",
            ),
        }
    }
}

/// Where the processes of a container meet.
pub struct Meeting<'a> {
    path: PathBuf,
    head: Head,
    /// Its shape, where the path does not depend on it.
    exclusive: Option<Shape>,
    /// The beginning of the names of its step's lists, where the step's ranks ought to share one container.
    step_prefix: Option<String>,
    /// The image's tree, if who makes the container must list himself among its users.
    unlisted: Option<(&'a RunDirectory, &'a TreeUse)>,
    notice: &'a mut dyn FnMut(Notice),
}

impl<'a> Meeting<'a> {
    /// For the ranks of `step` that run `plan` in `image`, whose root is `tree` if it is one of a store.
    pub fn of_step(
        run: &'a RunDirectory,
        step: &Step,
        (image, tree): (&str, Option<&'a TreeUse>),
        plan: &ExecPlan,
        notice: &'a mut dyn FnMut(Notice),
    ) -> Self {
        let prefix = format!("step-{}-", step_id(step));
        let path = run.path().join(format!("{prefix}{}", Shape::of(plan).hash()));
        let step_prefix = step.rank.is_some().then_some(prefix);
        let head = Head::new(step, image, tree.map_or("", |tree| &tree.name), plan);
        let unlisted = tree.filter(|tree| !tree.is_listed).map(|tree| (run, tree));
        Self { path, head, exclusive: None, step_prefix, unlisted, notice }
    }

    /// For all processes on this node that run the container `id` of a store in the same way, whatever started them. Those
    /// of a layered one share its writable layer, so they must agree: `layered`.
    pub fn of_container(
        run: &RunDirectory,
        (id, layered): (&str, bool),
        step: &Step,
        plan: &ExecPlan,
        notice: &'a mut dyn FnMut(Notice),
    ) -> Self {
        // Paths may lead elsewhere for another job, or from one day to the next.
        let shape = Shape::with_sources(plan);
        let (name, exclusive) = match layered {
            true => (format!("container-{id}"), Some(shape)),
            false => (format!("container-{id}-{}", shape.hash()), None),
        };
        let head = Head::new(step, id, "", plan);
        Self { path: run.path().join(name), head, exclusive, step_prefix: None, unlisted: None, notice }
    }

    /// For all processes on this node that write into the directory of `plan`, if there is one (`--write=dir:`): as with a
    /// layered container, two overlays may not share it.
    pub fn of_directory(
        run: &RunDirectory,
        step: &Step,
        image: &str,
        plan: &ExecPlan,
        notice: &'a mut dyn FnMut(Notice),
    ) -> Option<Self> {
        let RootWrite::Layer { upper, .. } = &plan.root.write else { return None };
        let status = std::fs::metadata(upper).ok()?;
        let path = run.path().join(format!("container-at-{:x}-{}", status.dev(), status.ino()));
        let exclusive = Some(Shape::with_sources(plan));
        let head = Head::new(step, image, "", plan);
        Some(Self { path, head, exclusive, step_prefix: None, unlisted: None, notice })
    }

    /// Locks the list, and finds whom to join.
    ///
    /// # Errors
    /// [`RendezvousError`].
    pub fn meet(&mut self) -> Result<(Members, Found), RendezvousError> {
        let mut list = Members::lock(&self.path, LIMIT, &mut || (self.notice)(Notice::Waiting))?;
        let found = list.find();
        if let Some((run, tree)) = self.unlisted.filter(|_| !matches!(found, Found::Joinable(..))) {
            run.mark_tree(&tree.root)?;
        }
        match &found {
            Found::Nobody => {
                let theirs = Head::parse(list.head()).filter(|_| list.has_records() && self.exclusive.is_some());
                if theirs.is_some_and(|head| head.pids != self.head.pids) {
                    return Err(RendezvousError::OtherPids);
                }
                if let Some(shape) = &self.exclusive {
                    let path = shape_path(&self.path);
                    let written = std::fs::write(&path, shape.as_str());
                    written.map_err(|source| RendezvousError::Shape { action: "write", path, source })?;
                }
                list.begin(self.head.to_bytes())?;
                if self.step_prefix.as_ref().is_some_and(|prefix| self.others_live(prefix)) {
                    (self.notice)(Notice::Differs);
                }
                if std::process::id().is_multiple_of(8) {
                    reap::reap_some(self.path.parent().expect("a file in the run directory"));
                }
            }
            Found::OutOfReach(pid) | Found::Joinable(pid, _) => {
                if let Some(shape) = &self.exclusive {
                    let theirs = std::fs::read_to_string(shape_path(&self.path)).unwrap_or_default();
                    if shape.as_str() != theirs {
                        let differs = shape.differences(&theirs).join(", ");
                        return Err(RendezvousError::Differs { pid: *pid, differs });
                    }
                }
                match found {
                    // Two overlays may not share an upper directory.
                    Found::OutOfReach(pid) if self.exclusive.is_some() => {
                        return Err(RendezvousError::OutOfReach(pid));
                    }
                    Found::OutOfReach(pid) => (self.notice)(Notice::Split(pid)),
                    _ => {}
                }
            }
        }
        Ok((list, found))
    }

    /// Whether somebody lives in another list of this step. A list that is locked has somebody: nobody waits for it here, as
    /// its holder may be looking at ours.
    fn others_live(&self, prefix: &str) -> bool {
        let entries = std::fs::read_dir(self.path.parent().expect("a file in the run directory"));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        let is_other = |path: &PathBuf| {
            *path != self.path
                && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        };
        names.filter(is_other).any(|path| match Members::try_lock(&path) {
            Ok(Some(list)) => list.living().next().is_some(),
            // Locked by another, or removed a moment ago.
            Ok(None) => path.exists(),
            Err(_) => false,
        })
    }
}

/// Whether this rank is the first of its step on this node that has `text` to say, or others said it long ago; the first may
/// say it again. Where that cannot be found out, it is.
pub fn speaks_first(run: &RunDirectory, step: &Step, text: &str) -> bool {
    let path = run.path().join(format!("said-{}-{}", step_id(step), short_hash(text.as_bytes())));
    let me = step.rank.as_deref().unwrap_or_default();
    match std::fs::File::create_new(&path) {
        Ok(mut file) => {
            if std::io::Write::write_all(&mut file, me.as_bytes()).is_err() {
                // Without a name in it, it would silence all.
                let _ = std::fs::remove_file(&path);
            }
            return true;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(_) => return true,
    }
    if std::fs::read(&path).is_ok_and(|who| who == me.as_bytes()) {
        return true;
    }
    let said = std::fs::metadata(&path).and_then(|status| status.modified()).ok();
    let is_old = said.is_some_and(|time| time.elapsed().is_ok_and(|age| age > REPEAT));
    // Of several that find it old one removes it.
    is_old && std::fs::remove_file(&path).is_ok() && speaks_first(run, step, text)
}

/// The pid namespace in which this process's numbers mean something; looked at once.
fn own_pids() -> u64 {
    static INODE: OnceLock<u64> = OnceLock::new();
    *INODE.get_or_init(|| crate::sys::namespace::own_inode("pid").unwrap_or(0))
}

fn shape_path(list: &Path) -> PathBuf {
    list.with_extension("shape")
}

/// What tells a step from every other of this user on this machine. Processes of several pid namespaces, or of several
/// simulated nodes, do not meet.
pub fn step_id(step: &Step) -> String {
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let pids = own_pids();
    let uid = rustix::process::getuid().as_raw();
    let text = format!("{uid}\n{}\n{}\n{}\n{node}\n{pids}\n", step.scheduler, step.job, step.name);
    short_hash(text.as_bytes())
}
