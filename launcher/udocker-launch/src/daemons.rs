//! Daemons of an mpirun that runs on the host: they speak with it, and belong to its MPI, not to the image's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use udocker_core::env_vars::{SLURM_UDOCKER_INSIDE, SLURM_UDOCKER_REQUEST};
use udocker_core::error::Failure;
use udocker_core::run::RunRequest;
use udocker_core::settings::{MPI_DAEMONS, MpiSettings};

use crate::error::LaunchError;
use crate::host::become_program;
use crate::report::Voice;

/// The name of the program of `request`, if it is such a daemon: Slurm's plugin has it start in a container, and no script
/// inside asked for it.
pub fn name<'a>(request: &'a RunRequest, env: &[(OsString, OsString)], settings: &MpiSettings) -> Option<&'a OsStr> {
    let program = request.argv.first()?.as_bytes();
    let name = OsStr::from_bytes(program.rsplit(|byte| *byte == b'/').next()?);
    let is_daemon = match &settings.daemons {
        Some(names) => names.iter().any(|other| name == other.as_str()),
        None => MPI_DAEMONS.iter().any(|other| name == *other),
    };
    let has = |variable: &str| env.iter().any(|(name, _)| name == variable);
    (is_daemon && has(SLURM_UDOCKER_REQUEST) && !has(SLURM_UDOCKER_INSIDE)).then_some(name)
}

/// Refuses the daemon `name`, or becomes it on the host.
pub fn on_host(
    name: &OsStr,
    request: &RunRequest,
    settings: &MpiSettings,
    env: Vec<(OsString, OsString)>,
    voice: &Voice<'_>,
) -> Result<u8, Failure> {
    let name = name.display().to_string();
    if settings.require {
        return Err(LaunchError::Daemon { name, image: request.image.clone() }.into());
    }
    if speaks(&env) {
        voice.say(&format!(
            "warning: {name} of an mpirun runs on the host, and so do its ranks unless `udocker-launch IMAGE` stands before \
             their program"
        ));
    }
    Err(become_program(&request.argv, env).into())
}

/// Whether this process speaks for all of a step: it is on the first node.
fn speaks(env: &[(OsString, OsString)]) -> bool {
    env.iter().find(|(name, _)| name == "SLURM_NODEID").is_none_or(|(_, value)| value == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_one_of_the_host_s_mpirun() {
        let request = |program: &str| RunRequest { argv: vec![program.into(), "-x".into()], ..RunRequest::of_job("i") };
        let settings = MpiSettings { daemons: Some(vec!["own".into()]), ..MpiSettings::default() };
        let with = |names: &[&str]| names.iter().map(|name| ((*name).into(), "1".into())).collect::<Vec<_>>();
        for (program, env, settings, expected) in [
            ("/usr/bin/orted", &[SLURM_UDOCKER_REQUEST][..], &MpiSettings::default(), Some("orted")),
            ("hydra_pmi_proxy", &[SLURM_UDOCKER_REQUEST], &MpiSettings::default(), Some("hydra_pmi_proxy")),
            ("orted", &[SLURM_UDOCKER_REQUEST, SLURM_UDOCKER_INSIDE], &MpiSettings::default(), None),
            ("orted", &[], &MpiSettings::default(), None),
            ("orted.sh", &[SLURM_UDOCKER_REQUEST], &MpiSettings::default(), None),
            ("orted", &[SLURM_UDOCKER_REQUEST], &settings, None),
            ("./own", &[SLURM_UDOCKER_REQUEST], &settings, Some("own")),
        ] {
            let request = request(program);
            assert_eq!(name(&request, &with(env), settings), expected.map(OsStr::new), "{program} {env:?}");
        }
    }
}
