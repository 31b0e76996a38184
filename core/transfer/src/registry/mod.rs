//! The client side of the OCI distribution specification.
//!
//! Rules: manifests and small blobs are capped and verified here; blob streams are cut at their descriptor's size and hashed
//! by the caller. Redirects are followed by us: credentials go only to the host, port and scheme that they were asked for,
//! https never falls to http, at most five hops. Plain http only for loopback and for hosts that somebody listed.

mod auth;
mod client;
mod error;

pub use client::{Client, FetchedManifest};
pub use error::RegistryError;
