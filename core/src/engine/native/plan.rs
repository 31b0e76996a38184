//! From a run to a plan of mode N1.

use crate::engine::{ExecPlan, IdMap, IdentityPlan, RootPlan};
use crate::run::{ExecMode, RunSpec};

/// Returns the plan of `spec` on `root`; pure.
///
/// Who is 0 inside a map of one ID gets the fake-root filter; who is 0 by subordinate IDs gets Docker's capabilities over
/// them; everybody else has none.
pub fn plan(spec: &RunSpec, root: RootPlan) -> ExecPlan {
    let single = spec.map == IdMap::Single;
    ExecPlan {
        mode: ExecMode::N1,
        root,
        mounts: spec.mounts.clone(),
        files: spec.files.clone(),
        identity: IdentityPlan {
            uid: spec.uid,
            gid: spec.gid,
            map: spec.map.clone(),
            fake_root_filter: single && spec.uid == 0,
            docker_capabilities: !single,
        },
        unshare: Vec::new(),
        cwd: spec.cwd.clone(),
        argv: spec.argv.clone(),
        env: spec.env.clone(),
        keep_fds: spec.keep_fds.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Cwd, KeepFds, RootWrite};

    #[test]
    fn privileges_follow_from_the_map() {
        let range = IdMap::Subordinate { uids: (100_000, 65_536), gids: (100_000, 65_536) };
        for (uid, map, filter, capabilities) in
            [(0, IdMap::Single, true, false), (1000, IdMap::Single, false, false), (0, range, false, true)]
        {
            let spec = RunSpec {
                mode: None,
                mounts: Vec::new(),
                files: Vec::new(),
                uid,
                gid: uid,
                map: map.clone(),
                cwd: Cwd { path: "/".into(), fallback: None },
                argv: vec!["true".into()],
                env: Vec::new(),
                keep_fds: KeepFds::All,
                remarks: Vec::new(),
            };
            let plan = plan(&spec, RootPlan::new("/tree", RootWrite::ReadOnly));
            let expected =
                IdentityPlan { uid, gid: uid, map, fake_root_filter: filter, docker_capabilities: capabilities };
            assert_eq!(plan.identity, expected);
            assert_eq!(plan.mode, ExecMode::N1);
        }
    }
}
