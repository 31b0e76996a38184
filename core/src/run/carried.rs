//! The environment of a script inside, on its way through a scheduler's command on the host to the steps that it starts.
//! Pure.
//!
//! A command on the host needs the host's PATH and LD_LIBRARY_PATH, and the step's ranks the script's: of the names that a job
//! does not get from the host the command has the host's values, and carries the script's under other names. Those begin
//! with `SLURM_`, which every `--export` hands on.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::env_vars::{
    JOB_DROP, PER_RANK, SLURM_UDOCKER_ENV, SLURM_UDOCKER_INSIDE, SLURM_UDOCKER_SCRIPT, UDOCKER_INSIDE, XDG_RUNTIME_DIR,
    matches_any,
};

/// Of a step with a terminal, which the steps that it starts are not.
const TERMINAL_S: &[u8] = b"SLURM_PTY_";

type Variable = (OsString, OsString);

/// The environment of a command that a script with the environment `script` runs on a host where ours is `host`. `shims`: the
/// directory of such commands, which is on no step's PATH.
pub fn of_command(script: &[Variable], host: &[Variable], shims: &str) -> Vec<Variable> {
    let mut out = Vec::with_capacity(script.len() + 16);
    for (name, value) in script {
        if name == UDOCKER_INSIDE {
            out.push((SLURM_UDOCKER_INSIDE.into(), value.clone()));
        } else if is_carried(name) || name == SLURM_UDOCKER_SCRIPT || name.as_bytes().starts_with(TERMINAL_S) {
            continue;
        } else if !is_host_s(name) {
            out.push((name.clone(), value.clone()));
        } else if name != XDG_RUNTIME_DIR {
            let value = if name == "PATH" { without(value, shims) } else { value.clone() };
            out.push((under(name), value));
        }
    }
    out.extend(host.iter().filter(|(name, _)| is_host_s(name)).cloned());
    out
}

/// Whether `name` carries a script's variable, or tells its container.
pub fn is_carried(name: &OsStr) -> bool {
    name == SLURM_UDOCKER_INSIDE || name.as_bytes().starts_with(SLURM_UDOCKER_ENV.as_bytes())
}

/// Whether `env` comes from a script in the container `id`.
pub(super) fn is_from(env: &[Variable], id: &str) -> bool {
    env.iter().any(|(name, value)| name == SLURM_UDOCKER_INSIDE && value == id)
}

/// The script's own variables among those that `env` carries.
pub(super) fn carried(env: &[Variable]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    env.iter().filter_map(|(name, value)| {
        let own = name.as_bytes().strip_prefix(SLURM_UDOCKER_ENV.as_bytes())?;
        Some((OsStr::from_bytes(own), value.as_os_str()))
    })
}

/// Whether the host has a value of its own for `name`.
fn is_host_s(name: &OsStr) -> bool {
    matches_any(JOB_DROP, name.as_bytes()) && !matches_any(PER_RANK, name.as_bytes())
}

fn under(name: &OsStr) -> OsString {
    let mut out = OsString::from(SLURM_UDOCKER_ENV);
    out.push(name);
    out
}

fn without(path: &OsStr, directory: &str) -> OsString {
    let parts = path.as_bytes().split(|byte| *byte == b':').filter(|part| *part != directory.as_bytes());
    OsString::from_vec(parts.collect::<Vec<_>>().join(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::pairs;

    #[test]
    fn a_command_has_the_host_s_values_and_carries_the_script_s() {
        let script = pairs(&[
            ("PATH", "/shims:/image/bin:/shims:/b"),
            ("PYTHONPATH", "/p"),
            ("BASH_FUNC_m%%", "() { :; }"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
            ("OMP_NUM_THREADS", "4"),
            ("SLURM_JOB_ID", "5"),
            ("SLURM_PTY_PORT", "1"),
            ("SLURM_UDOCKER_SCRIPT", "/spool/script"),
            ("UDOCKER_INSIDE", "tree"),
            ("SLURM_UDOCKER_ENV_LD_PRELOAD", "another's"),
        ]);
        let host = pairs(&[("PATH", "/usr/bin"), ("LD_LIBRARY_PATH", "/opt/slurm/lib"), ("OMP_NUM_THREADS", "1")]);
        let expected = pairs(&[
            ("SLURM_UDOCKER_ENV_PATH", "/image/bin:/b"),
            ("SLURM_UDOCKER_ENV_PYTHONPATH", "/p"),
            ("SLURM_UDOCKER_ENV_BASH_FUNC_m%%", "() { :; }"),
            ("OMP_NUM_THREADS", "4"),
            ("SLURM_JOB_ID", "5"),
            ("SLURM_UDOCKER_INSIDE", "tree"),
            ("PATH", "/usr/bin"),
            ("LD_LIBRARY_PATH", "/opt/slurm/lib"),
        ]);
        let command = of_command(&script, &host, "/shims");
        assert_eq!(command, expected);
        assert!(is_from(&command, "tree") && !is_from(&command, "other") && !is_from(&script, "tree"));
        let back: Vec<_> = carried(&command).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let own = [("PATH", "/image/bin:/b"), ("PYTHONPATH", "/p"), ("BASH_FUNC_m%%", "() { :; }")];
        assert_eq!(back, pairs(&own));
    }
}
