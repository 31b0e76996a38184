//! Runs a program as on a kernel before 5.0: `enosys PROGRAM [ARGUMENT]…`.
//!
//! A seccomp filter answers ENOSYS to every call that is newer than io_pgetevents and rseq (numbers from 335, the same on
//! all machines from 403), and EIO to `ptrace(PTRACE_GET_SYSCALL_INFO)` (5.3). After cyphar/libpathrs:contrib/fake-enosys.
#![allow(unsafe_code, clippy::print_stderr)]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use libc::sock_filter;

/// The first number that an old kernel does not know.
#[cfg(target_arch = "x86_64")]
const FIRST_NEW: u32 = 335;
#[cfg(not(target_arch = "x86_64"))]
const FIRST_NEW: u32 = 403;
const PTRACE_GET_SYSCALL_INFO: u32 = 0x420e;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: enosys PROGRAM [ARGUMENT]...");
        return ExitCode::from(125);
    };
    if let Err(error) = install() {
        eprintln!("enosys: cannot install the filter: {error}");
        return ExitCode::from(125);
    }
    eprintln!("enosys: {}", Command::new(program).args(arguments).exec());
    ExitCode::from(127)
}

fn install() -> std::io::Result<()> {
    let op = |code: u16, jt: u8, jf: u8, k: u32| sock_filter { code, jt, jf, k };
    let errno = |number: i32| 0x0005_0000 | number as u32;
    let mut filter = [
        op(0x20, 0, 0, 0),
        op(0x35, 4, 0, FIRST_NEW),
        op(0x15, 0, 2, libc::SYS_ptrace as u32),
        op(0x20, 0, 0, 16),
        op(0x15, 2, 0, PTRACE_GET_SYSCALL_INFO),
        op(0x06, 0, 0, 0x7fff_0000),
        op(0x06, 0, 0, errno(libc::ENOSYS)),
        op(0x06, 0, 0, errno(libc::EIO)),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies them before returning.
    let set = || unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER), &program) };
    // Root needs no no_new_privs for a filter, and set-id programs work below it then, as on a real kernel.
    if set() == 0 {
        return Ok(());
    }
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0 as libc::c_ulong, 0, 0) } != 0
        || set() != 0
    {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
