//! The environment of a client of Slurm, which it hands to the job: Slurm itself changes it the same way.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// All of it.
pub fn process_variables() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// Sets a variable of srun, sbatch or salloc. Slurm calls plugins from its main thread, which is the one that reads the
/// environment; a name or value with a zero byte is none and changes nothing.
pub fn set_variable(name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) {
        // SAFETY: both end in a zero byte and are copied.
        unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
    }
}

/// Removes a variable of srun, sbatch or salloc.
pub fn unset_variable(name: &OsStr) {
    if let Ok(name) = CString::new(name.as_bytes()) {
        // SAFETY: it ends in a zero byte.
        unsafe { libc::unsetenv(name.as_ptr()) };
    }
}
