//! Paths inside a container that has no mount namespace: what the P engines share.
//!
//! [`Mounts`] says which host directory lies behind which directory of the guest; [`Resolver`] follows a path of the
//! guest through it and ends at a canonical host path; [`table`] says what each system call does with its paths.
//!
//! The host path that comes out holds no symbolic link but possibly its last name, so who passes it on to the kernel
//! passes the flag that says whether that one is followed. Between the two looks a process of the guest may put a link in
//! the place of a directory: as with every engine of this family, this keeps honest programs inside and is no security
//! boundary; the user has all of the host's files as it is.

mod mounts;
mod place;
mod resolve;
#[cfg(target_arch = "x86_64")]
pub mod table;
mod walk;

pub use mounts::{Mount, Mounts};
pub use place::{Base, Ending, LastLink, Limits, Place, Processes, Scope, parent};
pub use resolve::Resolver;
