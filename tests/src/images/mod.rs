//! Images made on the spot, each once per recipe: below `target/test-images/NAME-HASH`.
//!
//! ```text
//! target/test-images/
//! ├── NAME-HASH/           HASH covers the recipe, so a changed recipe makes a new image
//! │   ├── blobs/sha256/HEX manifests, configs, layers: an OCI layout
//! │   ├── index.json       tag `latest`
//! │   └── oci-layout
//! ├── debian-HASH/N.tar    the layers that the Debian images share
//! └── NAME-HASH.lock       held by the process that makes it; the others wait
//! ```
//! The same recipe gives the same bytes but for what Debian's mirror changes.

mod build;
mod layer;
mod publish;
mod set;

pub use build::{Format, Image, Packing, Recipe, hex};
pub use layer::{EPOCH, Layer};
pub use set::{Kind, busybox_layer, cached, debian_tars, newer_proot};
