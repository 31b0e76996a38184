//! Mode P2: a tracer that gives every path of the guest its host path. No namespace, no privilege.
//!
//! ```text
//! execute ── mounts planned ── child forked ── seized ──┬─ events until the program ends ── the rest is killed
//!                                child: filter, directory, exec: all by the guest's paths, since it is traced already
//! ```
//! A filter stops only the calls that take a path ([`crate::engine::path::table`]); where filters are refused, every call
//! stops. What only looks (stat, access, readlink) is done by the tracer, which is the same user, and answered without a
//! second stop. What makes a descriptor or changes something is done by the guest itself on a path of the host, written
//! into memory of ours in its address space; the registers are as they were when it comes back.
//!
//! `execve` of a dynamically linked program executes the guest's loader, and the program is mapped before the loader's
//! first instruction by calls made in the guest's name; so argv, the auxiliary vector and the name are the program's own,
//! whatever libc it is.
//!
//! When the program ends, what it left running is killed: without its tracer it would run on paths of the host.

#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
mod changing;
#[cfg(target_arch = "x86_64")]
mod company;
#[cfg(target_arch = "x86_64")]
mod credentials;
mod error;
#[cfg(target_arch = "x86_64")]
mod exec;
#[cfg(target_arch = "x86_64")]
mod guest;
#[cfg(target_arch = "x86_64")]
mod identity;
#[cfg(target_arch = "x86_64")]
mod image;
#[cfg(target_arch = "x86_64")]
mod looking;
#[cfg(target_arch = "x86_64")]
mod names;
#[cfg(target_arch = "x86_64")]
mod paths;
#[cfg(target_arch = "x86_64")]
mod pending;
#[cfg(target_arch = "x86_64")]
mod probe;
#[cfg(target_arch = "x86_64")]
mod setup;
#[cfg(target_arch = "x86_64")]
mod sockets;
#[cfg(target_arch = "x86_64")]
mod state;
#[cfg(target_arch = "x86_64")]
mod tracer;

use std::path::Path;

pub use error::TraceError;
#[cfg(target_arch = "x86_64")]
pub use probe::probe;

use super::ExecPlan;
use crate::sys::supervised::Ended;

/// Runs the program of `plan` under a tracer until it ends, and passes on signals meanwhile.
///
/// Single-threaded callers only. Mounts of the plan are binds of the tracer; its tmpfs mounts and generated files lie in
/// `scratch`, an empty directory of the caller.
///
/// # Errors
/// [`TraceError::Unsupported`] for what needs a real mount or namespace, [`TraceError::Refused`] where tracing is
/// forbidden, [`TraceError::Program`] if the program does not start.
#[cfg(target_arch = "x86_64")]
pub fn execute(plan: &ExecPlan, scratch: &Path) -> Result<Ended, TraceError> {
    // What is made here has explicit modes; the program inherits the caller's umask.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let prepared = setup::prepare(plan, scratch);
    rustix::process::umask(umask);
    let prepared = prepared?;
    let child = setup::start(plan, &prepared)?;
    state::Tracer::new(prepared, child).run()
}

/// Refuses.
///
/// # Errors
/// [`TraceError::Architecture`].
#[cfg(not(target_arch = "x86_64"))]
pub fn probe() -> Result<(), TraceError> {
    Err(TraceError::Architecture)
}

/// Refuses.
///
/// # Errors
/// [`TraceError::Architecture`].
#[cfg(not(target_arch = "x86_64"))]
pub fn execute(_plan: &ExecPlan, _scratch: &Path) -> Result<Ended, TraceError> {
    Err(TraceError::Architecture)
}
