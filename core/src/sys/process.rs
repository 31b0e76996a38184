//! Processes: identity by pid and start time, short-lived helpers.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, WaitOptions, WaitStatus};

/// Returns the parent of `pid` (field 4 of proc_pid_stat(5)).
///
/// # Errors
/// As [`start_time`].
pub fn parent_of(pid: u32) -> io::Result<u32> {
    let line = fs::read(format!("/proc/{pid}/stat"))?;
    let name_end = line.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let parent = std::str::from_utf8(&line[name_end..]).ok().and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
    parent.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Returns when this process started, see [`start_time`]; /proc is looked at once.
///
/// # Errors
/// Those of [`start_time`].
pub fn own_start_time() -> io::Result<u64> {
    // With its pid: a forked copy has a start of its own.
    static KNOWN: Mutex<Option<(u32, u64)>> = Mutex::new(None);
    let pid = std::process::id();
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match *known {
        Some((of, start)) if of == pid => Ok(start),
        _ => {
            let start = start_time(pid)?;
            *known = Some((pid, start));
            Ok(start)
        }
    }
}

/// Returns when `pid` started, in clock ticks since boot (field 22 of proc_pid_stat(5)). A pid without it names nobody
/// in particular.
///
/// # Errors
/// ENOENT or ESRCH if there is no such process, ESRCH also if it has ended and its parent has not asked for it yet;
/// `InvalidData` if the line is not as documented.
pub fn start_time(pid: u32) -> io::Result<u64> {
    // The kernel gives the line in one read(2), and it is shorter than this whatever the numbers are.
    let mut line = [0; 1024];
    let length = io::Read::read(&mut fs::File::open(format!("/proc/{pid}/stat"))?, &mut line)?;
    match parse_start_time(&line[..length]) {
        Some(Some(start)) => Ok(start),
        Some(None) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The program's name is in parentheses and may hold any byte, so fields are counted from the last `)`. `Some(None)`: it is
/// a zombie; a process whose first thread alone has ended is none, and has others.
fn parse_start_time(line: &[u8]) -> Option<Option<u64>> {
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(line.get(name_end + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let threads = fields.nth(16)?;
    let start = fields.nth(1)?.parse().ok()?;
    Some((!matches!(state, "Z" | "X") || threads.parse::<u32>().ok()? > 1).then_some(start))
}

/// Lets the program of `command` be ended (SIGTERM) when this process ends, however that comes (PR_SET_PDEATHSIG).
/// Single-threaded callers only: it is the thread's end that counts.
pub fn end_with_us(command: &mut std::process::Command) {
    let own = std::process::id();
    let ask = move || {
        // SAFETY: takes numbers only, and may be called between fork and exec.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // We may have ended before it was asked for.
        if std::os::unix::process::parent_id() != own {
            return Err(io::Error::from_raw_os_error(libc::ECHILD));
        }
        Ok(())
    };
    // SAFETY: `ask` makes two system calls, and allocates nothing.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, ask) };
}

/// Waits for `child`; one that goes on after `limit` is asked to end (SIGTERM), killed 2 s later, and `None`.
///
/// # Errors
/// Those of waitpid(2).
pub fn wait_or_end(child: &mut std::process::Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    const GRACE: Duration = Duration::from_secs(2);
    if let Some(status) = wait_until(child, limit)? {
        return Ok(Some(status));
    }
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        // It is ours and not reaped, so the pid is its own.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    if wait_until(child, GRACE)?.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(None)
}

fn wait_until(child: &mut std::process::Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let since = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let status = child.try_wait()?;
        let left = limit.saturating_sub(since.elapsed());
        if status.is_some() || left.is_zero() {
            return Ok(status);
        }
        std::thread::sleep(pause.min(left));
        // A hundredth of what it took is not felt.
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Runs `body` in a forked copy of this process and returns how that ended; its exit status is what `body` returns.
///
/// Single-threaded callers only. No destructors of the caller run in the copy.
///
/// # Errors
/// Those of fork(2) and waitpid(2).
pub fn in_child(body: impl FnOnce() -> u8) -> io::Result<WaitStatus> {
    wait(fork_child(body)?)
}

/// Runs `body` in a forked copy of this process without input or standard error, and returns its exit status and what it
/// prints. It is killed after `patience`; then, and if a signal ended it, there is no status. See [`in_child`].
///
/// # Errors
/// Those of pipe(2), fork(2), poll(2) and read(2).
pub fn output_of_child(patience: Duration, body: impl FnOnce() -> u8) -> io::Result<(Option<i32>, Vec<u8>)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    let child = fork_child(|| {
        for (from, to) in [(null.as_raw_fd(), 0), (write.as_raw_fd(), 1), (null.as_raw_fd(), 2)] {
            // SAFETY: takes numbers only; what was open there belongs to the parent.
            if unsafe { libc::dup2(from, to) } == -1 {
                return 125;
            }
        }
        body()
    })?;
    drop(write);
    let end = Instant::now() + patience;
    let mut output = Vec::new();
    // Whether it closed its output, or ended.
    let done = loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut polled = libc::pollfd { fd: read.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the kernel reads and writes one structure, which outlives the call.
        match unsafe { libc::poll(&raw mut polled, 1, left.as_micros().div_ceil(1000) as libc::c_int) } {
            0 if left.is_zero() => break Ok(false),
            0 => continue,
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => break Err(error),
            },
            _ => {}
        }
        let mut part = [0; 4096];
        match rustix::io::read(&read, &mut part) {
            Ok(0) => break Ok(true),
            Ok(count) => output.extend_from_slice(&part[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => break Err(error.into()),
        }
    };
    if !matches!(done, Ok(true)) {
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
    }
    let status = wait(child)?;
    done.map(|_| (status.exit_status(), output))
}

/// Starts `body` in a forked copy of this process; [`wait`] for it. See [`in_child`].
///
/// # Errors
/// Those of fork(2).
pub fn fork_child(body: impl FnOnce() -> u8) -> io::Result<Pid> {
    // SAFETY: callers are single-threaded, so no lock is held by a thread that the copy lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = body();
            // SAFETY: _exit runs no handlers and does not return.
            unsafe { libc::_exit(i32::from(status)) }
        }
        child => Ok(Pid::from_raw(child).expect("fork returns a positive pid to the parent")),
    }
}

/// Reaps `child`.
///
/// # Errors
/// ECHILD if it was reaped elsewhere.
pub fn wait(child: Pid) -> io::Result<WaitStatus> {
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets `command` start in a session of its own, block no signal, and ignore those of `ignored` ([`super::signal::ignored`])
/// alone.
pub fn in_own_session(command: &mut std::process::Command, ignored: u64) {
    use std::os::unix::process::CommandExt;
    let body = move || {
        for signal in 1..=64 {
            let action = if ignored >> (signal - 1) & 1 == 1 { libc::SIG_IGN } else { libc::SIG_DFL };
            // SAFETY: both are valid dispositions; of signals that cannot be changed the call fails.
            unsafe { libc::signal(signal, action) };
        }
        // SAFETY: the set is emptied before the kernel reads it.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        rustix::process::setsid().map(drop).map_err(io::Error::from)
    };
    // SAFETY: the body makes system calls alone.
    unsafe { command.pre_exec(body) };
}

/// Waits until process `pid`, which need not be a child, has ended. Where there are no pidfds (before Linux 5.3) it is
/// looked for once a second.
pub fn wait_for_stranger(pid: u32) {
    let Some(process) = Pid::from_raw(pid as i32) else { return };
    match rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()) {
        Ok(fd) => {
            let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: the kernel reads and writes one structure, which outlives the call.
            unsafe { libc::poll(&raw mut polled, 1, -1) };
        }
        Err(rustix::io::Errno::SRCH) => {}
        // The next look tells.
        Err(_) => std::thread::sleep(Duration::from_secs(1)),
    }
}

/// Becomes `uid` and `gid` of the current user namespace, with no supplementary groups.
///
/// # Errors
/// EPERM without the capabilities, EINVAL if an ID is not mapped.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: a count of zero makes the kernel read no list.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::setresuid(uid, uid, uid) })
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_read_behind_any_name() {
        let line = |state, threads| {
            format!("12 (a) b (c)) {state} 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 987654 1000 1")
        };
        for (state, threads, expected) in
            [("S", 1, Some(987_654)), ("Z", 1, None), ("Z", 2, Some(987_654)), ("X", 0, None)]
        {
            assert_eq!(parse_start_time(line(state, threads).as_bytes()), Some(expected), "{state} {threads}");
        }
        assert_eq!(parse_start_time(b"12 (cut"), None);
        assert_eq!(parent_of(std::process::id()).unwrap(), std::os::unix::process::parent_id());
        assert_eq!(start_time(std::process::id()).unwrap(), start_time(std::process::id()).unwrap());
    }

    #[test]
    fn the_output_of_a_child_is_read_and_patience_ends() {
        let print = || {
            io::Write::write_all(&mut fs::File::create("/proc/self/fd/1").unwrap(), b"text").unwrap();
            7
        };
        assert_eq!(output_of_child(Duration::from_secs(20), print).unwrap(), (Some(7), b"text".to_vec()));
        let sleep = || {
            std::thread::sleep(Duration::from_secs(100));
            0
        };
        assert_eq!(output_of_child(Duration::from_millis(10), sleep).unwrap(), (None, Vec::new()));
    }

    #[test]
    fn a_child_ends_with_the_status_of_its_body() {
        assert_eq!(in_child(|| 42).unwrap().exit_status(), Some(42));
    }
}
