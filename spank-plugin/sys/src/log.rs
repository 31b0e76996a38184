//! Slurm's own messages: standard error of its commands, the daemons' logs, the standard error of a task.
#![allow(unsafe_code)]

use std::ffi::CString;

use crate::bindings;

fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).expect("zero bytes are replaced")
}

/// Logs an error.
pub fn error(text: &str) {
    // SAFETY: a format and its one argument, both ending in a zero byte.
    unsafe { bindings::slurm_error(c"%s".as_ptr(), c_text(text).as_ptr()) };
}

/// Logs a remark.
pub fn info(text: &str) {
    // SAFETY: as in `error`.
    unsafe { bindings::slurm_info(c"%s".as_ptr(), c_text(text).as_ptr()) };
}

/// Tells the user, as it is: in a task on its standard error.
pub fn tell(text: &str) {
    // SAFETY: as in `error`.
    unsafe { bindings::slurm_spank_log(c"%s".as_ptr(), c_text(text).as_ptr()) };
}
