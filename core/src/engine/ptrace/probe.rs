//! Whether this process may trace a child, found out by doing.

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
    let seized = ptrace::seize(child.as_raw_nonzero().get());
    drop(tell);
    let killed = rustix::process::kill_process(child, rustix::process::Signal::KILL);
    killed.map_err(|error| TraceError::System { step: "end a child", source: error.into() })?;
    process::wait(child).map_err(TraceError::system("wait for a child"))?;
    seized.map_err(|error| TraceError::Refused(error.into()))
}
