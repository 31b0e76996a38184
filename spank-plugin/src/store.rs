//! The store of a job's user, which whoever runs without his environment is told of: the job under `--export=NONE`, and its prolog.

use std::ffi::OsStr;
use std::path::{PathBuf, absolute};

use udocker_core::env_vars::{SLURM_UDOCKER_DIR, UDOCKER_DIR};
use udocker_spank_sys::{Client, set_variable, unset_variable};

/// The one that UDOCKER_DIR names, absolute.
pub fn named() -> Option<PathBuf> {
    std::env::var_os(UDOCKER_DIR).filter(|path| !path.is_empty()).and_then(|path| absolute(path).ok())
}

/// Tells a contained job of it, by a variable that every `--export` hands on. A job that a job submits asks for itself.
pub fn carry(client: Client) {
    match named().as_deref().map(|path| path.to_str()) {
        Some(Some(path)) => set_variable(SLURM_UDOCKER_DIR, path),
        None if client == Client::Starter => {}
        _ => unset_variable(OsStr::new(SLURM_UDOCKER_DIR)),
    }
}
