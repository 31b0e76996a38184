//! Mode N1: user and mount namespaces, an exec in place; no child, no monitor, no thread stays.
//!
//! ```text
//! descriptors marked ─ unshare ─ ID maps ─ all mounts made slaves
//!   └─ tree and sources opened     before anything hides them; descriptors of the outer namespace cannot be bound
//!        └─ root mounted           over the tree's own path, or in a scratch tmpfs over it
//!             └─ files, mounts     targets resolved inside the new root, one after the other
//!                  └─ pivot_root ─ directory ─ privileges ─ exec
//! ```
//! Recursive binds of a directory above the tree (a home with a store in it) leave our own mounts out: the lowest of them
//! is unbindable while the mounts are made.

mod enter;
mod error;
mod mounts;
mod probe;
mod root;
mod underlay;

pub use enter::{as_mapped_root, execute, execute_in};
pub use error::{EnterError, Step};
pub use probe::{ProbeError, owner_in_the_way, probe_layer, probe_overlay, probe_user_namespace};
