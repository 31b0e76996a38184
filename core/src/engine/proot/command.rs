//! PRoot's command line and environment, as udocker 1.3 makes them. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Bind, ProotError, ProotPlan};
use crate::engine::ExecPlan;

/// What a PRoot can.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    /// It must do without seccomp.
    pub no_seccomp: bool,
    pub kill_on_exit: bool,
    pub link2symlink: bool,
}

/// Its arguments, itself first.
pub(super) fn arguments(
    plan: &ExecPlan,
    proot: &ProotPlan,
    abilities: &Abilities,
    binds: &[Bind],
    cwd: &Path,
) -> Result<Vec<OsString>, ProotError> {
    let mut argv: Vec<OsString> = vec![proot.program.clone().into()];
    if proot.kill_on_exit && abilities.kill_on_exit {
        argv.push("--kill-on-exit".into());
    }
    if proot.link2symlink && abilities.link2symlink {
        argv.push("--link2symlink".into());
    }
    for (source, target) in binds {
        argv.extend(["-b".into(), pair(source, target)?]);
    }
    match plan.identity.uid {
        0 => argv.push("-0".into()),
        uid => argv.extend(["-i".into(), format!("{uid}:{}", plan.identity.gid).into()]),
    }
    argv.extend(["-r".into(), plan.root.tree.clone().into(), "-w".into(), cwd.into()]);
    argv.extend(plan.argv.iter().cloned());
    Ok(argv)
}

/// `SOURCE:TARGET`.
pub(super) fn pair(source: &Path, target: &Path) -> Result<OsString, ProotError> {
    for path in [source, target] {
        if path.as_os_str().as_bytes().contains(&b':') {
            return Err(ProotError::Colon(path.to_owned()));
        }
    }
    Ok([source.as_os_str(), OsStr::new(":"), target.as_os_str()].into_iter().collect())
}

/// The program's environment, and what PRoot reads there.
pub(super) fn environment(plan: &ExecPlan, proot: &ProotPlan, abilities: &Abilities, scratch: &Path) -> Vec<OsString> {
    let mut env = plan.env.clone();
    env.extend(own_variables(proot, abilities.no_seccomp, scratch));
    env
}

/// What PRoot reads in its environment.
pub(super) fn own_variables(proot: &ProotPlan, no_seccomp: bool, scratch: &Path) -> Vec<OsString> {
    let mut env = vec![[OsStr::new("PROOT_TMP_DIR="), scratch.as_os_str()].into_iter().collect()];
    if no_seccomp {
        env.push("PROOT_NO_SECCOMP=1".into());
    }
    if proot.new_seccomp {
        env.push("PROOT_NEW_SECCOMP=1".into());
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::*;
    use crate::run::ExecMode;

    #[test]
    fn the_command_line_is_udockers() {
        let proot = ProotPlan {
            program: "/opt/proot".into(),
            no_seccomp: false,
            new_seccomp: true,
            kill_on_exit: true,
            link2symlink: true,
        };
        let identity =
            IdentityPlan { uid: 0, gid: 0, map: IdMap::Single, fake_root_filter: true, docker_capabilities: false };
        let mut plan = ExecPlan {
            mode: ExecMode::P1,
            engine: Engine::Proot(proot.clone()),
            root: RootPlan::new("/store/ROOT", RootWrite::InPlace),
            mounts: Vec::new(),
            files: Vec::new(),
            identity,
            unshare: Vec::new(),
            cwd: Cwd { path: "/w".into(), fallback: None },
            login_shells: Vec::new(),
            argv: vec!["sh".into(), "-c".into(), "x y".into()],
            env: vec!["A=b".into()],
            keep_fds: KeepFds::All,
        };
        let abilities = Abilities { no_seccomp: true, kill_on_exit: true, link2symlink: false };
        let binds = [("/dev".into(), "/dev".into()), ("/scratch".into(), "/data".into())];
        let words = |plan: &ExecPlan| {
            let argv = arguments(plan, &proot, &abilities, &binds, Path::new("/w")).unwrap();
            argv.join(OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(
            words(&plan),
            "/opt/proot --kill-on-exit -b /dev:/dev -b /scratch:/data -0 -r /store/ROOT -w /w sh -c x y"
        );
        (plan.identity.uid, plan.identity.gid) = (7, 8);
        assert!(words(&plan).contains(" -i 7:8 -r "));
        let expected = ["A=b", "PROOT_TMP_DIR=/run/s", "PROOT_NO_SECCOMP=1", "PROOT_NEW_SECCOMP=1"];
        assert_eq!(environment(&plan, &proot, &abilities, Path::new("/run/s")), expected);
        assert!(matches!(pair(Path::new("/a:b"), Path::new("/c")), Err(ProotError::Colon(_))));
    }
}
