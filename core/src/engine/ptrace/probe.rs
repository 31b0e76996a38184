//! Whether this process may trace a child, found out by doing, and what forbids it.

use std::fs;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::error::TraceError;
use crate::sys::{process, ptrace};

/// Whether this process may trace a child. Single-threaded callers only.
///
/// # Errors
/// [`TraceError::Refused`].
pub fn probe() -> Result<(), TraceError> {
    let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let (go, tell) = pipe.map_err(|error| TraceError::System { step: "make a pipe", source: error.into() })?;
    let child = process::fork_child(|| {
        // It waits to be killed, or for the end of its parent.
        let _ = rustix::io::read(&go, &mut [0u8; 1]);
        0
    });
    let child = child.map_err(TraceError::system("start a child"))?;
    let pid = child.as_raw_nonzero().get();
    let seized = ptrace::seize(pid).map_err(|error| refused(pid, error));
    drop(tell);
    let killed = rustix::process::kill_process(child, rustix::process::Signal::KILL);
    killed.map_err(|error| TraceError::System { step: "end a child", source: error.into() })?;
    process::wait(child).map_err(TraceError::system("wait for a child"))?;
    seized
}

/// The error for a living child that could not be traced.
pub(super) fn refused(child: i32, error: Errno) -> TraceError {
    TraceError::Refused { by: who_refuses(child), source: error.into() }
}

/// Looks at all that is known to forbid it, the most certain first.
fn who_refuses(child: i32) -> String {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
    match (field("TracerPid:"), field("Seccomp:")) {
        (tracer, _) if !matches!(tracer, "" | "0") => {
            let name = fs::read_to_string(format!("/proc/{tracer}/comm")).unwrap_or_default();
            format!("process {tracer} ({}) traces it already, and a program has one tracer", name.trim())
        }
        _ if scope.trim() == "3" => "the sysctl kernel.yama.ptrace_scope is 3, which forbids all tracing".into(),
        (_, "2") => "a seccomp filter forbids it, as those of other container runtimes do".into(),
        _ if scope.trim() == "2" => "the sysctl kernel.yama.ptrace_scope is 2, which allows it to root alone".into(),
        _ => "a security module of the kernel (SELinux's deny_ptrace, AppArmor) may forbid it".into(),
    }
}
