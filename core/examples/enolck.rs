//! Runs a program as on a file system without locks: `enolck PROGRAM [ARGUMENT]…`. flock(2) answers ENOLCK.
#![allow(unsafe_code, clippy::print_stderr)]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use libc::sock_filter;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: enolck PROGRAM [ARGUMENT]...");
        return ExitCode::from(125);
    };
    if let Err(error) = install() {
        eprintln!("enolck: cannot install the filter: {error}");
        return ExitCode::from(125);
    }
    eprintln!("enolck: {}", Command::new(program).args(arguments).exec());
    ExitCode::from(127)
}

fn install() -> std::io::Result<()> {
    let op = |code: u16, jt: u8, jf: u8, k: u32| sock_filter { code, jt, jf, k };
    let mut filter = [
        op(0x20, 0, 0, 0),
        op(0x15, 0, 1, libc::SYS_flock as u32),
        op(0x06, 0, 0, 0x0005_0000 | libc::ENOLCK as u32),
        op(0x06, 0, 0, 0x7fff_0000),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0 as libc::c_ulong, 0, 0) } == 0
        // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies them before returning.
        && unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER), &program) } == 0;
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
