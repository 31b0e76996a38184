//! Images and containers from files and into files: `load`, `save`, `import`, `export`.
//!
//! ```text
//! load    input → members → {layout, docker} ─→ stage, tags       save    stored → tar of docker's form → output
//! import  input → one layer ────────────────→ stage, tag          export  tree (base and upper) → tar → output
//!         input → clone of a container ─────→ container
//! ```
//! What comes in is first spread into a private folder of the store, each member under a number of ours, so that no name of
//! an archive is ever a path; then it goes the way of a pull, [`crate::stage`]. A file that goes out is written beside its
//! place and renamed.

mod clone;
mod docker;
mod error;
mod export;
mod found;
mod import;
mod input;
mod layout;
mod load;
mod members;
mod output;
mod save;
mod stored;
mod tar_writer;
mod tree;

pub use clone::{Cloned, import_clone};
pub use error::ArchiveError;
pub use export::{export, export_clone};
pub use import::{ImportOptions, import, import_container};
pub use input::Input;
pub use load::{Loaded, load};
pub use output::{Existing, Output};
pub use save::save;

use serde_json::json;
use udocker_core::manifest::Descriptor;

/// The media type that the first bytes of a layer stand for.
fn layer_media_type(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    }
}

/// An OCI manifest of ours for images that came without one.
fn manifest_json(config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
    let descriptor = |d: &Descriptor| json!({"mediaType": d.media_type, "digest": d.digest, "size": d.size});
    let document = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(config),
        "layers": layers.iter().map(descriptor).collect::<Vec<_>>(),
    });
    serde_json::to_vec(&document).expect("a JSON value of ours serialises")
}

/// The descriptor of a configuration.
fn config_descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.config.v1+json".to_owned(),
        digest: udocker_core::digest::Digest::sha256_of(bytes),
        size: bytes.len() as u64,
        urls: Vec::new(),
    }
}
