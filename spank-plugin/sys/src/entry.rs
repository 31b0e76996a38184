//! From Slurm's callbacks to a [`Plugin`].
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bindings::{S_CTX_ALLOCATOR, S_CTX_LOCAL, S_CTX_REMOTE, S_CTX_SLURMD, spank_context, spank_t};
use crate::spank::Spank;
use crate::{log, options};

/// Which of Slurm's commands a user typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// It starts a step: srun.
    Starter,
    /// It gets an allocation: sbatch, salloc.
    Allocator,
}

/// Why a task must not run.
#[derive(Debug)]
pub struct Refusal {
    /// For the user.
    pub text: String,
    /// What the task ends with.
    pub status: i32,
}

/// What a task ends with whose plugin panicked.
const PANICKED: i32 = 125;

/// A plugin, in the order in which its parts are called. Errors are texts for the user.
pub trait Plugin {
    /// Its options; their place here is the index in [`Self::option`].
    fn options() -> Vec<options::OptionText>;

    /// A client begins; no option is read yet.
    fn begin(client: Client);

    /// An option was given to a client, or (`remote`) came to a node, perhaps more than once.
    ///
    /// # Errors
    /// On a client it ends with "Invalid --NAME argument". On a node an error changes nothing.
    fn option(index: usize, value: Option<&OsStr>, remote: bool) -> Result<(), String>;

    /// A client has read all options. `words` are those of the plugin's line in plugstack.conf.
    ///
    /// # Errors
    /// It ends, and nothing is submitted.
    fn options_read(client: Client, spank: &Spank<'_>, words: &[&OsStr]) -> Result<(), String>;

    /// srun is about to start a step.
    ///
    /// # Errors
    /// It ends, and nothing is started.
    fn before_step(spank: &Spank<'_>) -> Result<(), String>;

    /// A task is about to run: in its own process, as its user. `words` are those of the plugin's line in plugstack.conf.
    ///
    /// # Errors
    /// The task ends instead.
    fn task_init(spank: &Spank<'_>, words: &[&OsStr]) -> Result<(), Refusal>;

    /// A job has ended on this node, in a process of root's that is for nothing else. Only the job's number, user and group
    /// are known. An error here would drain the node, so there is none.
    fn job_ended(spank: &Spank<'_>, words: &[&OsStr]);

    /// slurmd starts, in its own process, which waits. An error here would keep it from starting, so there is none.
    fn node_begins(words: &[&OsStr]);
}

/// The words of plugstack.conf, which live as long as the plugin is loaded.
///
/// # Safety
/// `words` are `count` strings, as Slurm gives them.
unsafe fn texts<'a>(count: c_int, words: *mut *mut c_char) -> Vec<&'a OsStr> {
    // SAFETY: the caller's promise.
    let word = |index| OsStr::from_bytes(unsafe { CStr::from_ptr(*words.add(index)) }.to_bytes());
    (0..usize::try_from(count).unwrap_or(0)).map(word).collect()
}

/// The value of `action`; `None` if it panicked, which the panic's own message tells.
pub(crate) fn guarded<T>(action: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(action)).ok()
}

/// The command that this process is.
fn client() -> Option<Client> {
    // SAFETY: no argument, and no state but Slurm's own.
    let context = unsafe { spank_context() };
    match context {
        S_CTX_LOCAL => Some(Client::Starter),
        S_CTX_ALLOCATOR => Some(Client::Allocator),
        _ => None,
    }
}

/// Slurm's status for what a client does.
fn told(outcome: Option<Result<(), String>>) -> c_int {
    match outcome {
        Some(Ok(())) => 0,
        Some(Err(text)) => {
            log::error(&text);
            -1
        }
        None => -1,
    }
}

/// `slurm_spank_init`.
///
/// # Safety
/// `words` are `count` strings, as Slurm gives them.
pub unsafe fn init<P: Plugin>(spank: spank_t, count: c_int, words: *mut *mut c_char) -> c_int {
    // SAFETY: no argument, and no state but Slurm's own.
    let context = unsafe { spank_context() };
    match client() {
        Some(client) => told(guarded(|| {
            P::begin(client);
            options::register::<P>(spank).map_err(|error| error.to_string())
        })),
        None if context == S_CTX_REMOTE => {
            // A failure here drains the node; an option that is not known here is told by `task_init`.
            if let Some(Err(error)) = guarded(|| options::register::<P>(spank)) {
                log::error(&error.to_string());
            }
            0
        }
        None if context == S_CTX_SLURMD => {
            // SAFETY: the caller's promise.
            guarded(|| P::node_begins(&unsafe { texts(count, words) }));
            0
        }
        None => 0,
    }
}

/// `slurm_spank_init_post_opt`.
///
/// # Safety
/// `words` are `count` strings, as Slurm gives them.
pub unsafe fn init_post_opt<P: Plugin>(spank: spank_t, count: c_int, words: *mut *mut c_char) -> c_int {
    // SAFETY: the caller's promise.
    let words = || unsafe { texts(count, words) };
    client().map_or(0, |client| told(guarded(|| P::options_read(client, &Spank::new(spank), &words()))))
}

/// `slurm_spank_local_user_init`, which only srun calls.
pub fn local_user_init<P: Plugin>(spank: spank_t) -> c_int {
    told(guarded(|| P::before_step(&Spank::new(spank))))
}

/// `slurm_spank_task_init`: whatever the plugstack line says about failures, a task that is refused does not run.
///
/// # Safety
/// `words` are `count` strings, as Slurm gives them.
pub unsafe fn task_init<P: Plugin>(spank: spank_t, count: c_int, words: *mut *mut c_char) -> c_int {
    let outcome = guarded(|| {
        // SAFETY: the caller's promise.
        let words = unsafe { texts(count, words) };
        let spank = Spank::new(spank);
        // One task of a node speaks.
        P::task_init(&spank, &words).map_err(|refusal| (refusal, spank.local_task().unwrap_or(0)))
    });
    let status = match outcome {
        Some(Ok(())) => return 0,
        Some(Err((refusal, local_task))) => {
            if local_task == 0 {
                log::tell(&refusal.text);
            }
            refusal.status
        }
        None => PANICKED,
    };
    // SAFETY: it ends this process, which is the task's own, and runs nothing of slurmstepd's on the way.
    unsafe { libc::_exit(status) }
}

/// `slurm_spank_job_epilog`.
///
/// # Safety
/// `words` are `count` strings, as Slurm gives them.
pub unsafe fn job_epilog<P: Plugin>(spank: spank_t, count: c_int, words: *mut *mut c_char) -> c_int {
    // SAFETY: the caller's promise.
    guarded(|| P::job_ended(&Spank::new(spank), &unsafe { texts(count, words) }));
    0
}

/// Defines what Slurm looks for in a plugin: `plugin!(b"NAME\0", TYPE)`.
#[macro_export]
macro_rules! plugin {
    ($name:literal, $plugin:ty) => {
        /// What the library exports.
        #[allow(non_upper_case_globals, missing_docs)]
        mod exported {
            use super::*;
            use std::ffi::{c_char, c_int};
            use $crate::entries::{self, spank_t};

            #[unsafe(no_mangle)]
            pub static plugin_name: [u8; $name.len()] = *$name;
            #[unsafe(no_mangle)]
            pub static plugin_type: [u8; 6] = *b"spank\0";
            #[unsafe(no_mangle)]
            pub static plugin_version: u32 = entries::SLURM_VERSION_NUMBER;
            #[unsafe(no_mangle)]
            pub static spank_plugin_version: u32 = 1;
            /// ESPANK_JOB_FAILURE: from 25.05 on, a failing start of the plugin ends the job and spares the node.
            #[unsafe(no_mangle)]
            pub static slurm_spank_init_failure_mode: c_int = 3012;

            #[unsafe(no_mangle)]
            unsafe extern "C" fn slurm_spank_init(spank: spank_t, count: c_int, words: *mut *mut c_char) -> c_int {
                // SAFETY: Slurm's own arguments.
                unsafe { entries::init::<$plugin>(spank, count, words) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn slurm_spank_init_post_opt(
                spank: spank_t,
                count: c_int,
                words: *mut *mut c_char,
            ) -> c_int {
                // SAFETY: Slurm's own arguments.
                unsafe { entries::init_post_opt::<$plugin>(spank, count, words) }
            }
            #[unsafe(no_mangle)]
            extern "C" fn slurm_spank_local_user_init(spank: spank_t, _: c_int, _: *mut *mut c_char) -> c_int {
                entries::local_user_init::<$plugin>(spank)
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn slurm_spank_task_init(spank: spank_t, count: c_int, words: *mut *mut c_char) -> c_int {
                // SAFETY: Slurm's own arguments.
                unsafe { entries::task_init::<$plugin>(spank, count, words) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn slurm_spank_job_epilog(
                spank: spank_t,
                count: c_int,
                words: *mut *mut c_char,
            ) -> c_int {
                // SAFETY: Slurm's own arguments.
                unsafe { entries::job_epilog::<$plugin>(spank, count, words) }
            }
        }
    };
}
