//! GPUs: which of a machine's a run sees, and what of their driver it needs.
//!
//! ```text
//! Machine::look   the device files, and whether they open     effects; one rank of a node looks for all
//! Grant::of       what the scheduler gave                     pure
//! View::decide    never more than that                        pure
//! Registry        CDI specifications, and `driver` without one
//! Showing::show   all of it, for one request
//! Shown           mounts and variables, a part of the run
//! ```
//! A device cgroup is the truth where there is one. Where there is none, GPUs that were not granted are covered; that holds who
//! uses the wrong one by mistake, and is no protection from who wants to.

mod cdi;
mod decide;
pub mod driver;
mod error;
mod grant;
mod ld_cache;
mod machine;
mod show;
mod wish;

pub use cdi::{Applied, Registry};
pub use decide::{View, Wished};
pub use error::GpuError;
pub(crate) use grant::renumbered;
pub use grant::{Counted, Grant};
pub use machine::{Common, Gpu, Machine, Opens};
pub use show::{Found, Showing};
pub use wish::{Capability, CdiName, DeviceWish, GpuName, GpuSet, GpuWish};

use std::path::PathBuf;

use crate::engine::{MountPlan, MountSource};

/// What of the host shows a driver inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Files and directories.
    pub mounts: Vec<BundleMount>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Where that is written.
    pub origin: String,
}

/// A file or directory of the host's, and where it is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleMount {
    /// Absolute.
    pub source: PathBuf,
    /// Absolute.
    pub target: PathBuf,
    /// See [`MountPlan`].
    pub read_only: bool,
}

/// What a run gets of GPUs and devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Mounted on devices that are covered, where the host's are visible.
    pub covers: Vec<MountPlan>,
    /// The driver's files, and devices.
    pub mounts: Vec<MountPlan>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Whether LD_LIBRARY_PATH must name [`driver::LIBRARIES`].
    pub has_libraries: bool,
    /// Whether PATH must name [`driver::PROGRAMS`].
    pub has_programs: bool,
    /// See [`View::counted`].
    pub counted: Option<Counted>,
    /// For `--explain`: which are visible, and by whose word; `None`: the machine has no GPU.
    pub told: Option<(String, String)>,
    /// For `--explain`: what is shown of NVIDIA's driver, and where it was found; `None`: it is not needed.
    pub driver: Option<(String, String)>,
}

impl Shown {
    /// Of `view`; `cover` gives the file, or the directory, that lies over what is covered.
    ///
    /// # Errors
    /// What `cover` comes to.
    pub fn of<E>(view: &View, machine: &Machine, cover: impl Fn(bool) -> Result<PathBuf, E>) -> Result<Self, E> {
        let covers = view.covered.iter().map(|covered| {
            let source = MountSource::Bind { path: cover(covered.is_directory)?, create: false };
            let (target, origin) = (covered.path.clone(), format!("not this job's: {}", view.why));
            Ok(MountPlan { source, target, read_only: true, optional: false, origin })
        });
        let all: Vec<_> = machine.gpus.iter().map(|gpu| gpu.number.to_string()).collect();
        let told = (!all.is_empty()).then(|| (format!("{} of {}", view.shown(), all.join(",")), view.why.clone()));
        Ok(Self { covers: covers.collect::<Result<_, E>>()?, counted: view.counted.clone(), told, ..Self::default() })
    }
}
