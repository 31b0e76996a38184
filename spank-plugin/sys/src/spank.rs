//! The handle of a callback: what can be asked, and what can be changed, about the task that it is for.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::marker::PhantomData;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::bindings::{
    self, S_JOB_ARGV, S_JOB_GID, S_JOB_ID, S_JOB_STEPID, S_JOB_UID, S_TASK_GLOBAL_ID, S_TASK_ID, spank_err_t,
    spank_get_item, spank_getenv, spank_item, spank_job_control_setenv, spank_setenv, spank_strerror, spank_t,
    spank_unsetenv,
};

/// Longest variable of a job that is read, bytes with the zero at the end.
const MAX_VARIABLE: usize = 128 << 10;
/// Length of a buffer that holds most of them.
const SHORT_VARIABLE: usize = 1 << 10;

/// A call of Slurm's that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {reason}")]
pub struct SpankError {
    call: &'static str,
    reason: String,
}

/// Turns Slurm's result into ours.
pub(crate) fn check(call: &'static str, code: spank_err_t) -> Result<(), SpankError> {
    if code == bindings::ESPANK_SUCCESS {
        return Ok(());
    }
    // SAFETY: Slurm has a static text for each number.
    let reason = unsafe { CStr::from_ptr(spank_strerror(code)) }.to_string_lossy().into_owned();
    Err(SpankError { call, reason })
}

/// Which part of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The batch script.
    Batch,
    /// What salloc started on the first node.
    Interactive,
    /// What srun started.
    Numbered(u32),
}

impl Step {
    // SLURM_BATCH_SCRIPT and SLURM_INTERACTIVE_STEP of slurm.h.
    fn of(id: u32) -> Self {
        match id {
            0xffff_fffb => Self::Batch,
            0xffff_fffa => Self::Interactive,
            other => Self::Numbered(other),
        }
    }
}

/// `spank_prepend_task_argv`, in Slurm since 23.11.
type Prepend = unsafe extern "C" fn(spank_t, c_int, *const *const c_char) -> spank_err_t;

fn prepend() -> Option<Prepend> {
    // SAFETY: a name that ends in a zero byte.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"spank_prepend_task_argv".as_ptr()) };
    // SAFETY: spank.h of every release that has the function declares it so.
    (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut libc::c_void, Prepend>(found) })
}

/// Whether the running Slurm can put words before a task's argv, whatever started it.
pub fn can_prepend() -> bool {
    prepend().is_some()
}

/// The handle, which lives as long as the callback that it was given to.
pub struct Spank<'a> {
    raw: spank_t,
    callback: PhantomData<&'a ()>,
}

impl Spank<'_> {
    /// `raw` is what Slurm gave to the callback that runs.
    pub(crate) fn new(raw: spank_t) -> Self {
        Self { raw, callback: PhantomData }
    }

    fn number(&self, item: spank_item) -> Result<u32, SpankError> {
        let mut number: u32 = 0;
        // SAFETY: the items asked for here are of 32 bits, and Slurm writes one.
        check("spank_get_item", unsafe { spank_get_item(self.raw, item, &raw mut number) })?;
        Ok(number)
    }

    /// The job's number.
    pub fn job(&self) -> Result<u32, SpankError> {
        self.number(S_JOB_ID)
    }

    /// Its user, on a node: srun of newer releases is told another.
    pub fn user(&self) -> Result<u32, SpankError> {
        self.number(S_JOB_UID)
    }

    /// Its user's group.
    pub fn group(&self) -> Result<u32, SpankError> {
        self.number(S_JOB_GID)
    }

    /// Its part.
    pub fn step(&self) -> Result<Step, SpankError> {
        self.number(S_JOB_STEPID).map(Step::of)
    }

    /// The task's number among those of its step on this node.
    pub fn local_task(&self) -> Result<u32, SpankError> {
        self.number(S_TASK_ID)
    }

    /// The task's number among all of its step.
    pub fn task(&self) -> Result<u32, SpankError> {
        self.number(S_TASK_GLOBAL_ID)
    }

    fn argv_place(&self) -> Result<(usize, *mut *mut c_char), SpankError> {
        let (mut count, mut words): (c_int, *mut *mut c_char) = (0, std::ptr::null_mut());
        // SAFETY: for this item Slurm writes a count and the place of its own array.
        check("spank_get_item", unsafe { spank_get_item(self.raw, S_JOB_ARGV, &raw mut count, &raw mut words) })?;
        let count = usize::try_from(count).unwrap_or(0);
        Ok((if words.is_null() { 0 } else { count }, words))
    }

    /// The words of the job's command.
    pub fn argv(&self) -> Result<Vec<OsString>, SpankError> {
        let (count, words) = self.argv_place()?;
        let word = |index| {
            // SAFETY: Slurm's array has `count` words.
            let word = unsafe { *words.add(index) };
            // SAFETY: each is a string that lives through the callback.
            (!word.is_null()).then(|| OsString::from_vec(unsafe { CStr::from_ptr(word) }.to_bytes().to_vec()))
        };
        Ok((0..count).map_while(word).collect())
    }

    /// Puts `words` before the task's argv; `false` if this Slurm cannot.
    pub fn prepend(&self, words: &[CString]) -> Result<bool, SpankError> {
        let Some(prepend) = prepend() else { return Ok(false) };
        let pointers: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).expect("words are few");
        // SAFETY: `count` strings, which Slurm copies.
        check("spank_prepend_task_argv", unsafe { prepend(self.raw, count, pointers.as_ptr()) })?;
        Ok(true)
    }

    /// Makes `program` the first word of the task's argv; `false` if it has none. Only in a task's own process, whose argv
    /// is a copy that ends with its exec.
    pub fn replace_program(&self, program: CString) -> Result<bool, SpankError> {
        let (count, words) = self.argv_place()?;
        if count == 0 {
            return Ok(false);
        }
        // SAFETY: the array has a first word; nobody frees the new one before the exec.
        unsafe { *words = program.into_raw() };
        Ok(true)
    }

    /// A variable of the job.
    pub fn variable(&self, name: &CStr) -> Result<Option<OsString>, SpankError> {
        // Slurm zeroes the whole buffer first. Most tasks have no such variable, and a small one tells that too.
        let mut buffer = vec![0u8; SHORT_VARIABLE];
        let mut code = self.read_variable(name, &mut buffer);
        if code == bindings::ESPANK_NOSPACE {
            buffer.resize(MAX_VARIABLE, 0);
            code = self.read_variable(name, &mut buffer);
        }
        if code == bindings::ESPANK_ENV_NOEXIST {
            return Ok(None);
        }
        check("spank_getenv", code)?;
        let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(0);
        buffer.truncate(end);
        Ok(Some(OsString::from_vec(buffer)))
    }

    fn read_variable(&self, name: &CStr, buffer: &mut [u8]) -> spank_err_t {
        let length = c_int::try_from(buffer.len()).expect("a buffer's length is an int");
        // SAFETY: Slurm writes at most `length` bytes, with a zero at the end.
        unsafe { spank_getenv(self.raw, name.as_ptr(), buffer.as_mut_ptr().cast(), length) }
    }

    /// Sets a variable of the job.
    pub fn set_variable(&self, name: &CStr, value: &OsStr) -> Result<(), SpankError> {
        let Ok(value) = CString::new(value.as_bytes()) else {
            return Err(SpankError { call: "spank_setenv", reason: "the value holds a zero byte".into() });
        };
        // SAFETY: both are strings, which Slurm copies.
        check("spank_setenv", unsafe { spank_setenv(self.raw, name.as_ptr(), value.as_ptr(), 1) })
    }

    /// Sets `SPANK_` and `name` for the job's prolog and epilog, on whichever node. On a client alone.
    pub fn tell_prolog(&self, name: &CStr, value: &OsStr) -> Result<(), SpankError> {
        let Ok(value) = CString::new(value.as_bytes()) else {
            return Err(SpankError { call: "spank_job_control_setenv", reason: "the value holds a zero byte".into() });
        };
        // SAFETY: both are strings, which Slurm copies.
        let code = unsafe { spank_job_control_setenv(self.raw, name.as_ptr(), value.as_ptr(), 1) };
        check("spank_job_control_setenv", code)
    }

    /// Removes a variable of the job.
    pub fn unset_variable(&self, name: &CStr) -> Result<(), SpankError> {
        // SAFETY: a string.
        let code = unsafe { spank_unsetenv(self.raw, name.as_ptr()) };
        if code == bindings::ESPANK_ENV_NOEXIST { Ok(()) } else { check("spank_unsetenv", code) }
    }
}
