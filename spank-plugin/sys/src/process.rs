//! A client of Slurm: its environment, which it hands to the job (Slurm itself changes it the same way), its words, its end.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, OsString, c_int};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

unsafe extern "C" {
    /// getopt(3)'s, by which Slurm's commands read theirs: the place of the first word that is no option.
    static optind: c_int;
}

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

/// The words of the job's command, of a client that has read its options; of several components those of the first.
pub fn command_words() -> Vec<OsString> {
    // SAFETY: an int of the C library, written by this thread alone.
    let first = usize::try_from(unsafe { optind }).unwrap_or(usize::MAX);
    // Not from a library's own arguments, which it has none of.
    let words = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = words.strip_suffix(b"\0").unwrap_or(&words).split(|byte| *byte == 0).skip(first);
    words.take_while(|word| *word != b":").map(|word| OsString::from_vec(word.to_vec())).collect()
}

/// Ends the client, which submits nothing and says nothing more.
pub fn end_client(status: i32) -> ! {
    // SAFETY: it ends this process, and runs nothing of Slurm's on the way.
    unsafe { libc::_exit(status) }
}
