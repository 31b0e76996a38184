//! N1, our own engine: user and mount namespace, mounts, pivot_root, exec in place. No child stays, no monitor, no thread.
//!
//! Order, and why: descriptors of the tree and of bind sources are opened before anything can hide them; propagation is
//! cut before the first mount; the root is mounted before its inside is resolved; privileges go last, the filter last of all.

mod enter;
mod error;
mod mounts;
mod probe;
mod program;

pub use enter::execute;
pub use error::EnterError;
pub use probe::{ProbeError, probe_layer, probe_overlay};

use super::{ExecPlan, IdMap, IdentityPlan, RootPlan};
use crate::run::{ExecMode, RunSpec};

/// The plan for `spec` on `root`.
pub fn plan(spec: &RunSpec, root: RootPlan) -> ExecPlan {
    let subordinate = matches!(spec.map, IdMap::Subordinate { .. });
    ExecPlan {
        mode: ExecMode::N1,
        root,
        mounts: spec.mounts.clone(),
        files: spec.files.clone(),
        identity: IdentityPlan {
            uid: spec.uid,
            gid: spec.gid,
            map: spec.map.clone(),
            fake_root_filter: spec.uid == 0 && !subordinate,
            docker_capabilities: subordinate,
        },
        unshare: Vec::new(),
        cwd: spec.cwd.clone(),
        argv: spec.argv.clone(),
        env: spec.env.clone(),
        keep_fds: spec.keep_fds.clone(),
    }
}
