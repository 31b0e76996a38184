//! The fake-root filter: changes of ownership and identity answer success and do nothing.
//!
//! Enough for package managers in a namespace that maps one user: they chown, switch groups and drop privileges, and
//! fail where these calls fail. It grants nothing: the calls do not happen. Other system calls cost a few tests of a
//! number, or nothing since the kernel caches constant answers (5.11). Ownership set so is not remembered.
#![allow(unsafe_code)]

use std::io;

use libc::sock_filter;

/// Instruction codes of linux/bpf_common.h.
pub(super) const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_AT_LEAST: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`; arguments are read by their low half on little-endian machines.
pub(super) const OFFSET_NUMBER: u32 = 0;
pub(super) const OFFSET_ARCH: u32 = 4;
pub(super) const OFFSET_ARGUMENTS: u32 = 16;

pub(super) const ALLOW: u32 = 0x7fff_0000;
/// SECCOMP_RET_ERRNO with errno 0: the call is skipped and returns 0.
const SUCCEED: u32 = 0x0005_0000;

/// What one ABI calls the calls.
struct Abi {
    /// AUDIT_ARCH_* of linux/audit.h.
    arch: u32,
    /// Bits of the number that count: x32 sets bit 30 on the numbers of x86-64.
    number_mask: u32,
    /// Calls that always succeed.
    succeed: &'static [u32],
    /// mknod and mknodat: number and position of the mode; devices succeed, the rest passes.
    make_node: &'static [(u32, u32)],
}

#[cfg(any(test, target_arch = "x86_64"))]
const X86_64: Abi = Abi {
    arch: 0xc000_003e,
    number_mask: !0x4000_0000,
    // chown fchown lchown setuid setgid setreuid setregid setgroups setresuid setresgid setfsuid setfsgid capset fchownat
    succeed: &[92, 93, 94, 105, 106, 113, 114, 116, 117, 119, 122, 123, 126, 260],
    make_node: &[(133, 1), (259, 2)],
};

#[cfg(any(test, target_arch = "x86_64"))]
const I386: Abi = Abi {
    arch: 0x4000_0003,
    number_mask: !0,
    // The 16-bit calls, then lchown32 to setfsgid32, then capset and fchownat.
    succeed: &[
        16, 23, 46, 70, 71, 81, 95, 138, 139, 164, 170, 182, 198, 203, 204, 206, 207, 208, 210, 212, 213, 214, 215,
        216, 185, 298,
    ],
    make_node: &[(14, 1), (297, 2)],
};

#[cfg(any(test, target_arch = "aarch64"))]
const AARCH64: Abi = Abi {
    arch: 0xc000_00b7,
    number_mask: !0,
    // fchownat fchown capset setregid setgid setreuid setuid setresuid setresgid setfsuid setfsgid setgroups
    succeed: &[54, 55, 91, 143, 144, 145, 146, 147, 149, 151, 152, 159],
    make_node: &[(33, 2)],
};

#[cfg(any(test, target_arch = "aarch64"))]
const ARM: Abi = Abi {
    arch: 0x4000_0028,
    number_mask: !0,
    // As i386, but for fchownat.
    succeed: &[
        16, 23, 46, 70, 71, 81, 95, 138, 139, 164, 170, 182, 198, 203, 204, 206, 207, 208, 210, 212, 213, 214, 215,
        216, 185, 325,
    ],
    make_node: &[(14, 1), (324, 2)],
};

#[cfg(target_arch = "x86_64")]
const HERE: &[Abi] = &[X86_64, I386];
#[cfg(target_arch = "aarch64")]
const HERE: &[Abi] = &[AARCH64, ARM];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const HERE: &[Abi] = &[];

/// Installs the fake-root filter for this process and its children; irrevocable. Needs no-new-privs.
///
/// On machines other than x86-64 and 64-bit ARM it changes nothing.
///
/// # Errors
/// EINVAL where the kernel has no seccomp filters, EACCES without no-new-privs.
pub fn install_fake_root() -> io::Result<()> {
    install(&mut fake_root_program(HERE))
}

pub(super) fn install(program: &mut [sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies them before returning.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER), &program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One block per ABI of this machine; what no block takes is allowed.
fn fake_root_program(abis: &[Abi]) -> Vec<sock_filter> {
    let mut program = Vec::with_capacity(256);
    program.push(op(LOAD_WORD, OFFSET_ARCH));
    for abi in abis {
        let test = program.len();
        program.push(jump(JUMP_EQUAL, abi.arch, 0, 0));
        abi_block(abi, &mut program);
        program[test].jf = distance(test, program.len());
    }
    program.push(op(RETURN, ALLOW));
    program
}

/// A search tree over the numbers, then the tests of device modes, then the two answers, which all share: the kernel
/// compiles the program at each start, runs it then for every system call there is, and later for each call that it has no
/// constant answer for.
fn abi_block(abi: &Abi, program: &mut Vec<sock_filter>) {
    let succeed = abi.succeed.iter().map(|number| (*number, None));
    let make_node = abi.make_node.iter().map(|(number, argument)| (*number, Some(*argument)));
    let mut calls: Vec<(u32, Option<u32>)> = succeed.chain(make_node).collect();
    calls.sort_unstable_by_key(|(number, _)| *number);
    program.extend([op(LOAD_WORD, OFFSET_NUMBER), op(AND, abi.number_mask)]);
    let mut leaves = Vec::with_capacity(calls.len());
    search(&calls, program, &mut leaves);
    let succeed = program.len() + 4 * abi.make_node.len();
    for (leaf, argument) in leaves {
        let answer = match argument {
            None => succeed,
            Some(argument) => {
                let test = program.len();
                program.extend([
                    op(LOAD_WORD, OFFSET_ARGUMENTS + 8 * argument),
                    op(AND, libc::S_IFMT),
                    jump(JUMP_EQUAL, libc::S_IFCHR, succeed - (test + 3), 0),
                    jump(JUMP_EQUAL, libc::S_IFBLK, succeed - (test + 4), succeed + 1 - (test + 4)),
                ]);
                test
            }
        };
        program[leaf].jt = distance(leaf, answer);
        program[leaf].jf = distance(leaf, succeed + 1);
    }
    program.extend([op(RETURN, SUCCEED), op(RETURN, ALLOW)]);
}

/// Appends the tree; `leaves` gets where the test of each call stands, and the call's mode argument if it has one.
fn search(calls: &[(u32, Option<u32>)], program: &mut Vec<sock_filter>, leaves: &mut Vec<(usize, Option<u32>)>) {
    let here = program.len();
    if let [(number, argument)] = calls {
        leaves.push((here, *argument));
        return program.push(jump(JUMP_EQUAL, *number, 0, 0));
    }
    let (lower, upper) = calls.split_at(calls.len() / 2);
    program.push(jump(JUMP_AT_LEAST, upper[0].0, 0, 0));
    search(lower, program, leaves);
    program[here].jt = distance(here, program.len());
    search(upper, program, leaves);
}

/// How far the instruction at `from` jumps to go on at `to`.
fn distance(from: usize, to: usize) -> u8 {
    u8::try_from(to - from - 1).expect("blocks have fewer than 256 instructions")
}

pub(super) fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// A test that goes on past `yes` or `no` instructions.
pub(super) fn jump(code: u16, k: u32, yes: usize, no: usize) -> sock_filter {
    let distance = |count| u8::try_from(count).expect("blocks have fewer than 256 instructions");
    sock_filter { code, jt: distance(yes), jf: distance(no), k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn answer(arch: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let program = fake_root_program(&[X86_64, AARCH64, I386, ARM]);
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            match instruction.code {
                LOAD_WORD => {
                    value = match instruction.k {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCH => arch,
                        offset => arguments[((offset - OFFSET_ARGUMENTS) / 8) as usize],
                    }
                }
                AND => value &= instruction.k,
                JUMP_EQUAL => {
                    at += usize::from(if value == instruction.k { instruction.jt } else { instruction.jf });
                }
                JUMP_AT_LEAST => {
                    at += usize::from(if value >= instruction.k { instruction.jt } else { instruction.jf });
                }
                RETURN => return instruction.k,
                code => panic!("instruction {code:#x} at {at}"),
            }
        }
    }

    #[test]
    fn exactly_the_listed_calls_succeed() {
        for abi in [X86_64, I386, AARCH64, ARM] {
            for number in 0..500 {
                let expected = if abi.succeed.contains(&number) { SUCCEED } else { ALLOW };
                assert_eq!(answer(abi.arch, number, [0; 3]), expected, "arch {:#x} call {number}", abi.arch);
            }
            for (number, position) in abi.make_node {
                for (mode, expected) in [
                    (libc::S_IFCHR | 0o600, SUCCEED),
                    (libc::S_IFBLK, SUCCEED),
                    (libc::S_IFIFO, ALLOW),
                    (libc::S_IFREG, ALLOW),
                    (0o644, ALLOW),
                ] {
                    let mut arguments = [0; 3];
                    arguments[*position as usize] = mode;
                    assert_eq!(answer(abi.arch, *number, arguments), expected, "arch {:#x} {number}", abi.arch);
                }
            }
        }
        assert_eq!(answer(X86_64.arch, 0x4000_0000 | 92, [0; 3]), SUCCEED, "x32 chown");
        assert_eq!(answer(0x1234, 92, [0; 3]), ALLOW, "another machine");
    }
}
