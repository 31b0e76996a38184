//! The client side of the OCI distribution specification.
//!
//! Rules: manifests and small blobs are capped and verified here; blob streams are cut at their descriptor's size and hashed
//! by the caller. Redirects are followed by us: credentials go only to the host, port and scheme that they were asked for,
//! https never falls to http, at most five hops. Plain http only for loopback and for hosts that somebody listed.
//! Foreign layers' `urls` are never asked.
//!
//! ```text
//! client     what is asked: manifests, configurations, blobs; repetition
//! blob       a stream that takes up where it broke off
//! session    one request: which scheme, login, redirects, statuses
//! transport  one exchange: TLS, certificates, proxies, limits in time
//! ```

mod auth;
mod blob;
mod body;
mod client;
mod error;
mod limits;
mod session;
mod transport;

pub use client::{Client, FetchedManifest};
pub use error::{RegistryError, Unreached};
pub use limits::Limits;
