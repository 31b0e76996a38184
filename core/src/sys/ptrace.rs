//! Tracing of processes: ptrace(2), their memory, their stops. x86-64.
#![allow(unsafe_code)]

use std::ptr;

use rustix::io::{Errno, Result};

pub use libc::user_regs_struct as Registers;

/// The kernel's page.
const PAGE_BYTES: u64 = 4096;

/// How a stopped tracee goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// To the next event.
    Run,
    /// To the next begin or end of a system call, or event.
    Call,
    /// One instruction.
    Step,
    /// Not at all, but it hears of SIGCONT: for a group-stop.
    Listen,
}

/// A change of state of a tracee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It ended, with this status.
    Exited(u8),
    /// A signal ended it.
    Killed(i32),
    /// The filter asks about a system call that begins.
    Filter,
    /// A system call begins or ends.
    Call,
    /// It made a process or thread: [`event_message`] tells which.
    Birth,
    /// It executed a program.
    Exec,
    /// The group was stopped by this signal.
    Group(i32),
    /// It is new, or goes on after a group-stop.
    Started,
    /// A signal is about to be delivered.
    Signal(i32),
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result != -1 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// ptrace(2) for requests whose data is a number.
fn request(code: libc::c_uint, tid: i32, address: u64, data: u64) -> Result<libc::c_long> {
    // SAFETY: callers pass requests that take numbers only: no memory of this process is read or written.
    check(unsafe { libc::ptrace(code, tid, address, data) })
}

/// Becomes the tracer of `pid`, whose descendants are traced as well and die with this process.
///
/// # Errors
/// EPERM if something forbids tracing, ESRCH.
pub fn seize(pid: i32) -> Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SEIZE, pid, 0, options as u64).map(drop)
}

/// Lets a stopped tracee go on, with `signal` if that is not 0.
///
/// # Errors
/// ESRCH if it was killed meanwhile.
pub fn resume(tid: i32, how: Resume, signal: i32) -> Result<()> {
    let code = match how {
        Resume::Run => libc::PTRACE_CONT,
        Resume::Call => libc::PTRACE_SYSCALL,
        Resume::Step => libc::PTRACE_SINGLESTEP,
        Resume::Listen => libc::PTRACE_LISTEN,
    };
    request(code, tid, 0, signal as u64).map(drop)
}

/// The registers of a stopped tracee.
///
/// # Errors
/// ESRCH if it was killed meanwhile.
pub fn registers(tid: i32) -> Result<Registers> {
    // SAFETY: the structure holds numbers only, for which zero is valid.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one structure of this type, which outlives the call.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0, &raw mut registers) })?;
    Ok(registers)
}

/// Sets the registers of a stopped tracee.
///
/// # Errors
/// ESRCH if it was killed meanwhile.
pub fn set_registers(tid: i32, registers: &Registers) -> Result<()> {
    // SAFETY: the kernel reads one structure of this type, which outlives the call.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, 0, ptr::from_ref(registers)) }).map(drop)
}

/// What the event of the last stop is about: a pid.
///
/// # Errors
/// ESRCH if it was killed meanwhile.
pub fn event_message(tid: i32) -> Result<i32> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one unsigned long, which outlives the call.
    check(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut message) })?;
    Ok(message as i32)
}

/// Who sent the signal that is about to be delivered to a tracee: 0 for the kernel.
///
/// # Errors
/// ESRCH if it was killed meanwhile.
pub fn signal_sender(tid: i32) -> Result<i32> {
    // SAFETY: the structure holds numbers only, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one structure of this type, which outlives the call.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid, 0, &raw mut info) })?;
    Ok(super::relay::sender_of(&info))
}

/// Sets the signal mask of a stopped tracee and returns the old one.
///
/// # Errors
/// ESRCH if it was killed meanwhile.
pub fn swap_signal_mask(tid: i32, mask: u64) -> Result<u64> {
    let mut old = 0u64;
    // SAFETY: the kernel writes a mask of the 8 bytes that are announced.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGMASK, tid, 8, &raw mut old) })?;
    // SAFETY: the kernel reads a mask of the 8 bytes that are announced.
    check(unsafe { libc::ptrace(libc::PTRACE_SETSIGMASK, tid, 8, &raw const mask) })?;
    Ok(old)
}

/// Reads one word of a stopped tracee, whatever protects its page.
///
/// # Errors
/// EIO if nothing is there.
pub fn peek(tid: i32, address: u64) -> Result<u64> {
    let mut word: libc::c_long = 0;
    // SAFETY: the raw call (not libc's wrapper) writes one long to its last argument.
    check(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKDATA, tid, address, &raw mut word) })?;
    Ok(word as u64)
}

/// Writes one word of a stopped tracee, whatever protects its page.
///
/// # Errors
/// EIO if nothing is there.
pub fn poke(tid: i32, address: u64, word: u64) -> Result<()> {
    request(libc::PTRACE_POKEDATA, tid, address, word).map(drop)
}

/// Waits for any child or tracee, or for `tid` alone. `None`: there is none.
///
/// # Errors
/// Those of waitpid(2) but EINTR and ECHILD.
pub fn wait(tid: Option<i32>) -> Result<Option<(i32, Stop)>> {
    wait_with(tid, libc::__WALL)
}

/// Returns what any child or tracee has to tell now. `None`: nothing.
///
/// # Errors
/// Those of waitpid(2) but EINTR and ECHILD.
pub fn poll() -> Result<Option<(i32, Stop)>> {
    wait_with(None, libc::__WALL | libc::WNOHANG)
}

fn wait_with(tid: Option<i32>, options: i32) -> Result<Option<(i32, Stop)>> {
    let mut status = 0;
    loop {
        // SAFETY: waitpid(2) writes one integer that outlives the call.
        let result = unsafe { libc::waitpid(tid.unwrap_or(-1), &raw mut status, options) };
        match check(result.into()) {
            Ok(0) => return Ok(None),
            Ok(found) => return Ok(Some((found as i32, stop_of(status)))),
            Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn stop_of(status: i32) -> Stop {
    if libc::WIFEXITED(status) {
        return Stop::Exited(libc::WEXITSTATUS(status) as u8);
    }
    if libc::WIFSIGNALED(status) {
        return Stop::Killed(libc::WTERMSIG(status));
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        libc::PTRACE_EVENT_SECCOMP => Stop::Filter,
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => Stop::Birth,
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Started,
        libc::PTRACE_EVENT_STOP => Stop::Group(signal),
        _ if signal == libc::SIGTRAP | 0x80 => Stop::Call,
        _ => Stop::Signal(signal),
    }
}

/// Whether `signal` waits to be delivered to a thread or to its process, as proc_pid_status(5) shows.
pub fn is_pending(tid: i32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let sets = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    let waits = |set: &str| u64::from_str_radix(set.trim(), 16).is_ok_and(|set| set >> (signal - 1) & 1 == 1);
    sets.into_iter().any(waits)
}

/// Sends `signal` to a process.
///
/// # Errors
/// ESRCH if it is gone.
pub fn signal_process(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Reads memory of a stopped tracee; the count may be short at the end of a mapping.
///
/// # Errors
/// EFAULT if nothing is there.
pub fn read_memory(tid: i32, address: u64, into: &mut [u8]) -> Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // Parts that end at a page: the kernel gives up a part as a whole.
    let first = (PAGE_BYTES - address % PAGE_BYTES).min(into.len() as u64);
    let remote = [
        libc::iovec { iov_base: address as *mut libc::c_void, iov_len: first as usize },
        libc::iovec {
            iov_base: address.wrapping_add(first) as *mut libc::c_void,
            iov_len: into.len() - first as usize,
        },
    ];
    // SAFETY: the local part is one writable slice; remote addresses are checked by the kernel.
    let count = unsafe { libc::process_vm_readv(tid, &raw const local, 1, remote.as_ptr(), 2, 0) };
    match check(count as libc::c_long) {
        // A program that may not be read, or a filter of a container runtime, forbids the call.
        Err(Errno::PERM | Errno::NOSYS) => read_by_words(tid, address, into),
        done => done.map(|count| count as usize),
    }
}

fn read_by_words(tid: i32, address: u64, into: &mut [u8]) -> Result<usize> {
    let mut count = 0;
    while count < into.len() {
        let at = address.wrapping_add(count as u64);
        let word = match peek(tid, at & !7) {
            Ok(word) => word.to_le_bytes(),
            Err(_) if count > 0 => return Ok(count),
            Err(_) => return Err(Errno::FAULT),
        };
        let part = &word[(at % 8) as usize..];
        let length = part.len().min(into.len() - count);
        into[count..count + length].copy_from_slice(&part[..length]);
        count += length;
    }
    Ok(count)
}

/// Writes memory of a stopped tracee.
///
/// # Errors
/// EFAULT if all of it cannot be written.
pub fn write_memory(tid: i32, address: u64, bytes: &[u8]) -> Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the local part is one slice that is only read; remote addresses are checked by the kernel.
    let count = unsafe { libc::process_vm_writev(tid, &raw const local, 1, &raw const remote, 1, 0) };
    match check(count as libc::c_long) {
        Ok(count) if count as usize == bytes.len() => Ok(()),
        Err(Errno::PERM | Errno::NOSYS) => write_by_words(tid, address, bytes),
        _ => Err(Errno::FAULT),
    }
}

/// Also writes where a mapping is read-only.
fn write_by_words(tid: i32, address: u64, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    let mut at = address;
    while !rest.is_empty() {
        let (start, within) = (at & !7, (at % 8) as usize);
        let mut word = peek(tid, start).map_err(|_| Errno::FAULT)?.to_le_bytes();
        let length = rest.len().min(8 - within);
        word[within..within + length].copy_from_slice(&rest[..length]);
        poke(tid, start, u64::from_le_bytes(word)).map_err(|_| Errno::FAULT)?;
        rest = &rest[length..];
        at += length as u64;
    }
    Ok(())
}

/// The raw answer of newfstatat(2): `struct stat` of x86-64 as bytes.
///
/// # Errors
/// Those of stat(2).
pub fn stat_bytes(path: &std::ffi::CStr, flags: i32, into: &mut [u8; 144]) -> Result<()> {
    // SAFETY: the kernel reads the string and writes 144 bytes, the size of its structure.
    check(unsafe { libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), into.as_mut_ptr(), flags) })
        .map(drop)
}

/// The raw answer of statx(2) as bytes.
///
/// # Errors
/// Those of statx(2).
pub fn statx_bytes(path: &std::ffi::CStr, flags: i32, mask: u32, into: &mut [u8; 256]) -> Result<()> {
    // SAFETY: the kernel reads the string and writes 256 bytes, the size of its structure.
    check(unsafe { libc::syscall(libc::SYS_statx, libc::AT_FDCWD, path.as_ptr(), flags, mask, into.as_mut_ptr()) })
        .map(drop)
}

/// lgetxattr(2); with no room the length alone is told.
///
/// # Errors
/// Those of getxattr(2).
pub fn xattr(path: &std::ffi::CStr, name: &std::ffi::CStr, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel reads both strings and writes at most so many bytes to the slice.
    let length =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), into.as_mut_ptr().cast::<libc::c_void>(), into.len()) };
    check(length as libc::c_long).map(|length| length as usize)
}

/// llistxattr(2); with no room the length alone is told.
///
/// # Errors
/// Those of listxattr(2).
pub fn xattrs(path: &std::ffi::CStr, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel reads the string and writes at most so many bytes to the slice.
    let length = unsafe { libc::llistxattr(path.as_ptr(), into.as_mut_ptr().cast(), into.len()) };
    check(length as libc::c_long).map(|length| length as usize)
}

/// Whether openat2(2) would take this `struct open_how`: it looks at that before it looks at the path.
///
/// # Errors
/// Those of openat2(2) for a bad structure, ENOSYS.
pub fn check_open_how(how: &[u8]) -> Result<()> {
    let nothing = ptr::null::<libc::c_char>();
    // SAFETY: the kernel reads so many bytes of the slice, and finds no path at the null address.
    match check(unsafe { libc::syscall(libc::SYS_openat2, -1, nothing, how.as_ptr(), how.len()) }) {
        Err(Errno::FAULT) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether openat(2) would take these flags: it looks at them before it looks at the path.
///
/// # Errors
/// EINVAL if it would not.
pub fn check_open_flags(flags: i32) -> Result<()> {
    // SAFETY: the kernel finds no path at the null address.
    match check(unsafe { libc::syscall(libc::SYS_openat, -1, ptr::null::<libc::c_char>(), flags, 0) }) {
        Err(Errno::FAULT) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// faccessat2(2) on a path whose last name is not followed, or faccessat(2) where that is missing.
///
/// # Errors
/// Those of access(2).
pub fn access(path: &std::ffi::CStr, mode: i32, flags: i32) -> Result<()> {
    let flags_here = flags | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the kernel reads the string; the rest are numbers.
    let result = unsafe { libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), mode, flags_here) };
    match check(result) {
        Err(Errno::NOSYS | Errno::PERM) => {
            // SAFETY: as above.
            check(unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), mode) }).map(drop)
        }
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_read_over_pages_and_by_words() {
        let pid = std::process::id() as i32;
        let text: Vec<u8> = (0..9000u32).map(|number| number as u8).collect();
        let mut copy = vec![0; 9000];
        assert_eq!(read_memory(pid, text.as_ptr() as u64, &mut copy[..5000]), Ok(5000));
        assert_eq!(copy[..5000], text[..5000]);
        assert_eq!(read_memory(pid, 8, &mut copy), Err(Errno::FAULT));
        let mut target = vec![0u8; 100];
        write_memory(pid, target.as_mut_ptr() as u64, &text[..100]).unwrap();
        assert_eq!(target, text[..100]);
    }
}
