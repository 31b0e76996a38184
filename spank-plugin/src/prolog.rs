//! What the prolog of a job is told, for sites where that makes images ready (`spank-plugin/prolog.sh`): which image, and in
//! which of the user's stores. Variables that a user can set at will: they serve what runs as him.

use std::ffi::OsStr;
use std::path::{PathBuf, absolute};

use udocker_core::env_vars::{SLURM_UDOCKER_DIR, UDOCKER_DIR};
use udocker_core::run::RunRequest;
use udocker_spank_sys::{Client, Spank, SpankError, set_variable, unset_variable};

/// Tells it of `request`, which was made a moment ago.
pub fn tell(spank: &Spank<'_>, request: &RunRequest) -> Result<(), SpankError> {
    let Some(text) = request.for_staging().and_then(|request| request.to_json().ok()) else { return Ok(()) };
    spank.tell_prolog(c"UDOCKER_REQUEST", text.as_ref())?;
    match store() {
        Some(path) => spank.tell_prolog(c"UDOCKER_DIR", path.as_os_str()),
        None => Ok(()),
    }
}

/// Tells the job itself of the user's store, by a variable that every `--export` hands on. A job that a job submits asks for itself.
pub fn carry_store(client: Client) {
    match store().as_deref().map(|path| path.to_str()) {
        Some(Some(path)) => set_variable(SLURM_UDOCKER_DIR, path),
        None if client == Client::Starter => {}
        _ => unset_variable(OsStr::new(SLURM_UDOCKER_DIR)),
    }
}

/// The store that the user names by UDOCKER_DIR.
fn store() -> Option<PathBuf> {
    std::env::var_os(UDOCKER_DIR).filter(|path| !path.is_empty()).and_then(|path| absolute(path).ok())
}
