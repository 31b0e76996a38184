//! A batch script that runs on the host, by the word of the site (`[run] batch`): where its user says so, the plugin starts
//! no launcher.

use std::ffi::OsString;

use udocker_core::env_vars::SLURM_UDOCKER_SCRIPT;
use udocker_core::run::{Batch, RunRequest};

use crate::error::LaunchError;
use crate::host::become_program;
use crate::options::Here;
use crate::report::{self, Voice};

/// Whether the program is a batch script for the host.
///
/// # Errors
/// Under PBS, which starts a script as the words of a login shell.
pub fn is_one(request: &RunRequest, here: &Here, env: &[(OsString, OsString)]) -> Result<bool, LaunchError> {
    match request.batch() {
        Batch::Container => Ok(false),
        Batch::Host if request.login => Err(LaunchError::HostScript),
        Batch::Host => Ok(here.is_handed_over
            && !request.argv.is_empty()
            && env.iter().any(|(name, _)| name == SLURM_UDOCKER_SCRIPT)),
    }
}

/// Becomes the script, and returns the status where that fails. What marks it as one would mark its own runs as well.
pub fn become_it(request: &RunRequest, env: Vec<(OsString, OsString)>, voice: &Voice<'_>) -> u8 {
    report::tell(&request.host_script_notice());
    let env = env.into_iter().filter(|(name, _)| name != SLURM_UDOCKER_SCRIPT);
    voice.fail(&become_program(&request.argv, env).into(), crate::status::USAGE)
}
