//! A client of Slurm: its environment, which it hands to the job (Slurm itself changes it the same way), its words, its end.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

unsafe extern "C" {
    /// getopt(3)'s, by which Slurm's commands read theirs: the place of the first word that is no option.
    static optind: c_int;
    /// glibc's: the program's name without its directory.
    static program_invocation_short_name: *const c_char;
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

/// What the client is called, as `sbatch`.
pub fn program_name() -> OsString {
    // SAFETY: the C library sets it before anything of ours runs; nobody changes it.
    let name = unsafe { CStr::from_ptr(program_invocation_short_name) };
    OsString::from_vec(name.to_bytes().to_vec())
}

/// Whether the client was given Slurm's own option `name`, also by a line of its script or by a variable.
///
/// Slurm's commands export their options as `opt`, and libslurmfull has slurm_option_isset, by which they ask it (22.05 to 26.05:
/// src/common/slurm_opt.h). Where that is not so the command line is looked at.
pub fn has_option(name: &CStr) -> bool {
    match exported_options() {
        // SAFETY: Slurm's own function and object, and a name that ends in a zero byte, which it reads.
        Some((is_set, options)) => unsafe { is_set(options, name.as_ptr()) },
        None => {
            // SAFETY: as in `command_words`.
            let end = usize::try_from(unsafe { optind }).unwrap_or(usize::MAX);
            let words = std::fs::read("/proc/self/cmdline").unwrap_or_default();
            words.split(|byte| *byte == 0).take(end).any(|word| {
                let rest = word.strip_prefix(b"--").and_then(|word| word.strip_prefix(name.to_bytes()));
                rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
            })
        }
    }
}

/// `bool slurm_option_isset(slurm_opt_t *opt, char *name)`.
type IsSet = unsafe extern "C" fn(*mut c_void, *const c_char) -> bool;

/// The function, and the command's options.
fn exported_options() -> Option<(IsSet, *mut c_void)> {
    // SAFETY: names that end in a zero byte.
    let (function, options) =
        unsafe { [c"slurm_option_isset", c"opt"].map(|name| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr())) }.into();
    // A library may have an `opt` of its own: the command's lies in the program.
    if function.is_null() || object_of(options)? != object_of(entry())? {
        return None;
    }
    // SAFETY: that is its type in each of the releases.
    Some((unsafe { std::mem::transmute::<*mut c_void, IsSet>(function) }, options))
}

/// Where the program begins, which is in no library.
fn entry() -> *const c_void {
    // SAFETY: it asks for a number.
    unsafe { libc::getauxval(libc::AT_ENTRY) as *const c_void }
}

/// Where the program or library lies that `place` is in.
fn object_of(place: *const c_void) -> Option<usize> {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: any place may be asked for, and on success the answer is written.
    let found = unsafe { (libc::dladdr(place, found.as_mut_ptr()) != 0).then(|| found.assume_init()) };
    found.map(|found| found.dli_fbase.addr())
}

/// Ends the client, which submits nothing and says nothing more.
pub fn end_client(status: i32) -> ! {
    // SAFETY: it ends this process, and runs nothing of Slurm's on the way.
    unsafe { libc::_exit(status) }
}
