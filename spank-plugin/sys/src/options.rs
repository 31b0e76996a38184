//! Options of Slurm's commands that a plugin registers.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use crate::bindings::{spank_option, spank_option_register, spank_t};
use crate::entry::{Plugin, guarded};
use crate::log;
use crate::spank::{SpankError, check};

/// An option as `--help` shows it.
#[derive(Clone, Debug)]
pub struct OptionText {
    /// Without `--`.
    pub name: String,
    /// What its value looks like; `None`: it takes none.
    pub value: Option<String>,
    /// What it does.
    pub usage: String,
}

/// Registers the options of `P`; the first refusal ends it.
pub fn register<P: Plugin>(spank: spank_t) -> Result<(), SpankError> {
    for (index, option) in P::options().into_iter().enumerate() {
        let c_text = |text: String| CString::new(text).expect("a plugin's own words hold no zero byte");
        let (name, usage) = (c_text(option.name), c_text(option.usage));
        let value = option.value.map(c_text);
        let mut option = spank_option {
            name: name.as_ptr().cast_mut(),
            arginfo: value.as_ref().map_or(ptr::null_mut(), |value| value.as_ptr().cast_mut()),
            usage: usage.as_ptr().cast_mut(),
            has_arg: value.is_some().into(),
            val: c_int::try_from(index).expect("options are few"),
            cb: Some(given::<P>),
        };
        // SAFETY: Slurm gave the handle to the callback that runs; it copies the option.
        check("spank_option_register", unsafe { spank_option_register(spank, &raw mut option) })?;
    }
    Ok(())
}

/// Slurm has read an option, or received one.
extern "C" fn given<P: Plugin>(index: c_int, value: *const c_char, remote: c_int) -> c_int {
    let outcome = guarded(|| {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        // SAFETY: Slurm passes a string or nothing, which lives through the call.
        let value = (!value.is_null()).then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(value) }.to_bytes()));
        P::option(index, value, remote != 0)
    });
    match outcome {
        Some(Ok(())) => 0,
        // Slurm ignores what a node says about an option: `task_init` says it again.
        Some(Err(_)) | None if remote != 0 => 0,
        Some(Err(text)) => {
            log::error(&text);
            -1
        }
        None => -1,
    }
}
