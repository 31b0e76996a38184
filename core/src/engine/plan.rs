//! From a run to a plan. Pure.

use super::{Choice, Engine, ExecPlan, IdMap, IdentityPlan, RootPlan};
use crate::run::RunSpec;

/// Returns the plan of `spec` on `root`.
///
/// Natively, who is 0 inside a map of one ID gets the fake-root filter; who is 0 by subordinate IDs gets Docker's
/// capabilities over them; everybody else has none. The other engines map nothing: they answer as if.
pub fn plan(spec: &RunSpec, choice: &Choice, root: RootPlan) -> ExecPlan {
    let map = if choice.engine == Engine::Native { spec.map.clone() } else { IdMap::Single };
    let single = map == IdMap::Single;
    ExecPlan {
        mode: choice.mode,
        engine: choice.engine.clone(),
        root,
        mounts: spec.mounts.clone(),
        files: spec.files.clone(),
        identity: IdentityPlan {
            uid: spec.uid,
            gid: spec.gid,
            map,
            fake_root_filter: single && spec.uid == 0,
            docker_capabilities: !single,
        },
        unshare: spec.unshare.clone(),
        cwd: spec.cwd.clone(),
        argv: spec.argv.clone(),
        login_shells: spec.login_shells.clone(),
        env: spec.env.clone(),
        keep_fds: spec.keep_fds.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Cwd, KeepFds, RootWrite};
    use crate::run::ExecMode;

    #[test]
    fn privileges_follow_from_the_map() {
        let range = IdMap::Subordinate { uids: (100_000, 65_536), gids: (100_000, 65_536) };
        let single = IdMap::Single;
        for (engine, uid, map, planned, filter, capabilities) in [
            (Engine::Native, 0, &single, &single, true, false),
            (Engine::Native, 1000, &single, &single, false, false),
            (Engine::Native, 0, &range, &range, false, true),
            (Engine::Ptrace, 0, &range, &single, true, false),
            (Engine::Ptrace, 1000, &single, &single, false, false),
        ] {
            let spec = RunSpec {
                mounts: Vec::new(),
                files: Vec::new(),
                uid,
                gid: uid,
                map: map.clone(),
                cwd: Cwd { path: "/".into(), fallback: None },
                argv: vec!["true".into()],
                login_shells: Vec::new(),
                env: Vec::new(),
                keep_fds: KeepFds::All,
                unshare: Vec::new(),
                remarks: Vec::new(),
            };
            let root = RootPlan::new("/tree", RootWrite::ReadOnly);
            let plan = plan(&spec, &Choice { mode: ExecMode::N1, engine: engine.clone(), why: None }, root);
            let map = planned.clone();
            let expected =
                IdentityPlan { uid, gid: uid, map, fake_root_filter: filter, docker_capabilities: capabilities };
            assert_eq!(plan.identity, expected);
        }
    }
}
