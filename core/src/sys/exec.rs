//! execve(2) with what was prepared before.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;

use rustix::io::Errno;

/// Strings for execve(2); made before anything irrevocable, since a NUL in one of them is an error.
#[derive(Debug)]
pub struct Strings {
    owned: Vec<CString>,
}

impl Strings {
    /// `None` if a string holds a NUL.
    pub fn new(words: &[OsString]) -> Option<Self> {
        let owned: Result<Vec<_>, _> = words.iter().map(|word| CString::new(word.clone().into_vec())).collect();
        Some(Self { owned: owned.ok()? })
    }
    fn pointers(&self) -> Vec<*const libc::c_char> {
        self.owned.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    }
    /// The same words with `first` instead of the first one and `second` behind it (for `/bin/sh SCRIPT …`).
    pub fn with_interpreter(&self, first: &CStr, second: &CStr) -> Self {
        let mut owned = vec![first.to_owned(), second.to_owned()];
        owned.extend(self.owned.iter().skip(1).cloned());
        Self { owned }
    }
}

/// Replaces this program; returns only an error.
pub fn execve(path: &CStr, argv: &Strings, env: &Strings) -> Errno {
    let (argv, env) = (argv.pointers(), env.pointers());
    // SAFETY: both arrays end with a null pointer and point to NUL-ended strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    super::last_errno()
}

/// Gives SIGPIPE its default action back: Rust's runtime ignores it, and an ignored signal stays so across exec.
pub fn restore_sigpipe() {
    // SAFETY: signal(2) with SIG_DFL runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
