//! The filter behind fake root: changes of ownership and identity succeed and do nothing.
#![allow(unsafe_code)]

use rustix::io::Errno;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Calls that answer 0 whatever their arguments are.
#[cfg(target_arch = "x86_64")]
const SUCCEED: &[libc::c_long] = &[
    libc::SYS_chown, libc::SYS_fchown, libc::SYS_lchown, libc::SYS_fchownat, libc::SYS_setuid, libc::SYS_setgid,
    libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setfsuid,
    libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_capset,
];
#[cfg(target_arch = "aarch64")]
const SUCCEED: &[libc::c_long] = &[
    libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid,
    libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups,
    libc::SYS_capset,
];
/// Calls that answer 0 for device nodes only: the number and the index of the mode argument.
#[cfg(target_arch = "x86_64")]
const MAKE_NODE: &[(libc::c_long, u32)] = &[(libc::SYS_mknod, 1), (libc::SYS_mknodat, 2)];
#[cfg(target_arch = "aarch64")]
const MAKE_NODE: &[(libc::c_long, u32)] = &[(libc::SYS_mknodat, 2)];

fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn fake_root_program() -> Vec<libc::sock_filter> {
    let allow = statement(RETURN, libc::SECCOMP_RET_ALLOW);
    let succeed = statement(RETURN, libc::SECCOMP_RET_ERRNO);
    // Other ABIs (32-bit, x32) keep the kernel's own answers.
    let mut program = vec![statement(LOAD, OFFSET_ARCH), jump(EQUAL, ARCH, 1, 0), allow, statement(LOAD, OFFSET_NUMBER)];
    for number in SUCCEED {
        program.push(jump(EQUAL, *number as u32, 0, 1));
        program.push(succeed);
    }
    for (number, argument) in MAKE_NODE {
        program.push(jump(EQUAL, *number as u32, 0, 6));
        program.push(statement(LOAD, OFFSET_ARGUMENTS + 8 * argument));
        program.push(statement(AND, libc::S_IFMT));
        program.push(jump(EQUAL, libc::S_IFCHR, 1, 0));
        program.push(jump(EQUAL, libc::S_IFBLK, 0, 1));
        program.push(succeed);
        program.push(allow);
    }
    program.push(allow);
    program
}

/// Installs the filter for this thread and what it executes; irrevocable. Needs no_new_privs, see seccomp(2).
pub fn install_fake_root() -> Result<(), Errno> {
    let mut filter = fake_root_program();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points into `filter`, which outlives the call; the kernel copies it before returning.
    super::check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }).map(drop)
}
