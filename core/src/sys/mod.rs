//! The only unsafe code: one small file per kernel facility. File descriptors are owned, errors name the call.

pub mod caps;
pub mod exec;
pub mod fds;
pub mod flock;
pub mod mount;
pub mod namespace;
pub mod process;
#[cfg(target_arch = "x86_64")]
pub mod ptrace;
pub mod quota;
pub mod relay;
pub mod resolve;
pub mod seccomp;
pub mod signal;
pub mod supervised;
#[cfg(target_arch = "x86_64")]
pub mod trace_filter;
