//! Daemons of an mpirun that runs on the host: they speak with it, and belong to its MPI, not to the image's.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use udocker_core::env_vars::{SLURM_UDOCKER_INSIDE, SLURM_UDOCKER_REQUEST};
use udocker_core::error::Failure;
use udocker_core::run::RunRequest;
use udocker_core::settings::{MPI_DAEMONS, MpiSettings};

use crate::error::LaunchError;
use crate::host::become_program;
use crate::report::Voice;
use crate::status;

/// What a daemon of Hydra says first (`HYD_pmcd_init_hdr` of MPICH 4.2): four bytes of signature, the numbers of its group and its
/// own. Before, it was its own number alone, which this is not either.
const NOBODY: [u8; 12] = [b'H', b'Y', b'D', 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
/// How long a connection to a mpirun may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a message may be on its way.
const MESSAGE_TIME: Duration = Duration::from_millis(500);

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
        let status = voice.fail(&LaunchError::Daemon { name, image: request.image.clone() }.into(), status::USAGE);
        if let Some(address) = control_port(&request.argv, &env) {
            // The message comes to it by way of srun, and who has ended shows none.
            std::thread::sleep(MESSAGE_TIME);
            call_off(&address);
        }
        return Ok(status);
    }
    if speaks(&env) {
        voice.say(&format!(
            "warning: {name} of an mpirun runs on the host, and so do its ranks unless `udocker-launch IMAGE` stands before \
             their program"
        ));
    }
    Err(become_program(&request.argv, env).into())
}

/// Ends the mpirun of Hydra at `address`: it waits for ever for a daemon that does not call, but not for one that it cannot place.
fn call_off(address: &SocketAddr) {
    // Whoever does not listen any more does not wait.
    let _ = TcpStream::connect_timeout(address, PATIENCE).and_then(|mut mpirun| mpirun.write_all(&NOBODY));
}

/// Where a daemon of Hydra calls: the node whose srun this is, at the port behind `--control-port HOST:PORT`.
fn control_port(argv: &[OsString], env: &[(OsString, OsString)]) -> Option<SocketAddr> {
    let at = argv.iter().position(|word| word == "--control-port")?;
    let (_, port) = argv.get(at + 1)?.to_str()?.rsplit_once(':')?;
    let (_, address) = env.iter().find(|(name, _)| name == "SLURM_LAUNCH_NODE_IPADDR")?;
    Some(SocketAddr::new(address.to_str()?.parse().ok()?, port.parse().ok()?))
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

    #[test]
    fn a_hydra_is_where_its_srun_is() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let env = |address: &str| vec![("SLURM_LAUNCH_NODE_IPADDR".into(), address.into())];
        let proxy = "hydra_pmi_proxy --control-port node1.site:40123 --rmk slurm";
        for (argv, address, expected) in [
            (proxy, "10.0.0.1", Some("10.0.0.1:40123")),
            (proxy, "fe80::1", Some("[fe80::1]:40123")),
            (proxy, "node1", None),
            ("hydra_pmi_proxy --control-port", "10.0.0.1", None),
            ("hydra_pmi_proxy --control-port node1:x", "10.0.0.1", None),
            ("orted --x", "10.0.0.1", None),
        ] {
            let found = control_port(&words(argv), &env(address)).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{argv} {address}");
        }
        assert_eq!(control_port(&words(proxy), &[]), None);
    }
}
