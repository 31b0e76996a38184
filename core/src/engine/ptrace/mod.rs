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

mod calls;
mod error;
mod exec;
mod guest;
mod identity;
mod image;
mod setup;
mod tracer;

pub use error::TraceError;

use super::ExecPlan;
use crate::sys::supervised::Ended;

/// How an execution ended: by the program's end, or before it began.
pub type Outcome = Result<Ended, TraceError>;

/// Runs the program of `plan` under a tracer until it ends, and passes on signals meanwhile.
///
/// Single-threaded callers only. Mounts of the plan are binds of the tracer; its tmpfs mounts are directories that are
/// removed at the end.
///
/// # Errors
/// [`TraceError::Unsupported`] for a root that needs a real mount, [`TraceError::Refused`] where tracing is forbidden.
pub fn execute(plan: &ExecPlan) -> Outcome {
    let prepared = setup::prepare(plan)?;
    let child = setup::start(plan, &prepared)?;
    tracer::Tracer::new(prepared, child).run()
}
