//! Programs of a job that run on the host after all.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::error::LaunchError;

/// Becomes the program of `argv` with this environment; returns why not.
pub fn become_program(argv: &[OsString], env: impl IntoIterator<Item = (OsString, OsString)>) -> LaunchError {
    let program = &argv[0];
    let source = Command::new(program).args(&argv[1..]).env_clear().envs(env).exec();
    LaunchError::NotOnHost { program: program.into(), source }
}
