//! The filter of the ptrace engine: which system calls stop for the tracer. x86-64.

use std::io;

use libc::sock_filter;

use super::seccomp::{
    ALLOW, JUMP_AT_LEAST, JUMP_EQUAL, LOAD_WORD, OFFSET_ARCH, OFFSET_ARGUMENTS, OFFSET_NUMBER, RETURN,
};
use super::seccomp::{install, jump, op};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// SECCOMP_RET_ERRNO.
const ERRNO: u32 = 0x0005_0000;
/// SECCOMP_RET_TRACE.
const TRACE: u32 = 0x7ff0_0000;

/// What the filter does with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel does it.
    Allow,
    /// It stops for the tracer.
    Trace,
    /// It stops for the tracer if the low half of its second argument is one of these.
    TraceIf(&'static [u32]),
    /// It is answered so; 0 is success.
    Answer(i32),
}

/// Installs the filter for this process and its children; irrevocable. Needs no-new-privs.
///
/// `verdicts`: by number, from 0; all other calls are answered ENOSYS, as are those of other ABIs.
///
/// # Errors
/// EINVAL where the kernel has no seccomp filters, EACCES without no-new-privs.
pub fn install_trace_filter(verdicts: &[Verdict]) -> io::Result<()> {
    install(&mut program(verdicts))
}

fn program(verdicts: &[Verdict]) -> Vec<sock_filter> {
    let unknown = Verdict::Answer(libc::ENOSYS);
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for (number, verdict) in verdicts.iter().chain([&unknown]).enumerate() {
        if ranges.last().is_none_or(|(_, last)| last != verdict) {
            ranges.push((number as u32, *verdict));
        }
    }
    let mut program = vec![
        op(LOAD_WORD, OFFSET_ARCH),
        jump(JUMP_EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        op(RETURN, ERRNO | libc::ENOSYS as u32),
        op(LOAD_WORD, OFFSET_NUMBER),
    ];
    program.extend(search(&ranges));
    program
}

/// A search tree: the kernel runs the program for every call that it has no constant answer for.
fn search(ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    if let [(_, verdict)] = ranges {
        return match verdict {
            Verdict::Allow => vec![op(RETURN, ALLOW)],
            Verdict::Trace => vec![op(RETURN, TRACE)],
            Verdict::Answer(errno) => vec![op(RETURN, ERRNO | *errno as u32)],
            Verdict::TraceIf(values) => {
                let mut leaf = vec![op(LOAD_WORD, OFFSET_ARGUMENTS + 8)];
                for (index, value) in values.iter().enumerate() {
                    leaf.push(jump(JUMP_EQUAL, *value, values.len() - index, 0));
                }
                leaf.extend([op(RETURN, ALLOW), op(RETURN, TRACE)]);
                leaf
            }
        };
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let lower = search(lower);
    let mut node = vec![jump(JUMP_AT_LEAST, upper[0].0, lower.len(), 0)];
    node.extend(lower);
    node.extend(search(upper));
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(program: &[sock_filter], arch: u32, number: u32, second: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            let holds = match instruction.code {
                LOAD_WORD => {
                    value = match instruction.k {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCH => arch,
                        _ => second,
                    };
                    continue;
                }
                RETURN => return instruction.k,
                JUMP_EQUAL => value == instruction.k,
                JUMP_AT_LEAST => value >= instruction.k,
                code => panic!("instruction {code:#x}"),
            };
            at += usize::from(if holds { instruction.jt } else { instruction.jf });
        }
    }

    #[test]
    fn every_number_gets_its_verdict() {
        let mut verdicts = vec![Verdict::Allow; 471];
        for number in (0..471).step_by(7) {
            verdicts[number] = Verdict::Trace;
        }
        verdicts[16] = Verdict::TraceIf(&[7, 9]);
        verdicts[102] = Verdict::Answer(0);
        let program = program(&verdicts);
        for (number, verdict) in verdicts.iter().enumerate() {
            let expected = match verdict {
                Verdict::Trace => TRACE,
                Verdict::Answer(errno) => ERRNO | *errno as u32,
                _ => ALLOW,
            };
            assert_eq!(answer(&program, AUDIT_ARCH_X86_64, number as u32, 8), expected, "{number}");
        }
        for (second, expected) in [(7, TRACE), (9, TRACE), (1, ALLOW)] {
            assert_eq!(answer(&program, AUDIT_ARCH_X86_64, 16, second), expected);
        }
        for (arch, number) in [(AUDIT_ARCH_X86_64, 471), (AUDIT_ARCH_X86_64, 0x4000_0001), (0x4000_0003, 1)] {
            assert_eq!(answer(&program, arch, number, 0), ERRNO | libc::ENOSYS as u32);
        }
    }
}
