//! The client side of the OCI distribution specification.
//!
//! Rules: manifests and small blobs are capped and verified here; blob streams are cut at their descriptor's size and hashed
//! by the caller. Redirects are followed by us: credentials go only to the host, port and scheme that they were asked for,
//! https never falls to http, at most five hops. Plain http only for loopback and for hosts that somebody listed.
//! Foreign layers' `urls` are never asked.
//!
//! ```text
//! client       what is asked: manifests, configurations, blobs
//! blob         a stream that takes up where it broke off
//! lists        tags, and the catalogue of repositories, page by page
//! search       the APIs that search
//! login        trying a user's credentials
//! repeat       what failed is asked again, and answers are checked
//! session      one request: which scheme, login, redirects, statuses
//! credentials  whose they are: the keystore, Docker's files, helpers
//! transport    one exchange: TLS, certificates, proxies, limits in time
//! ```

mod auth;
mod blob;
mod body;
mod client;
mod credentials;
mod error;
mod helper;
mod jws;
mod keystore;
mod limits;
mod lists;
mod login;
mod repeat;
mod search;
mod session;
mod transport;

pub use auth::Secret;
pub use client::{Client, FetchedManifest};
pub use error::{RegistryError, Unreached};
pub use keystore::{Keystore, KeystoreError};
pub use limits::Limits;
pub use login::{Gate, gate, try_login};
pub use search::{Found, Search, Searched};
