//! What writes images into a store: the registry client, archives, extraction and publishing.
//!
//! Threads, codecs and the network live here and nowhere else; `udocker-launch`, the plugin and the hook do not link this
//! crate. Every way in (a registry, an archive, blobs that udocker left) ends in [`stage::stage`]: blobs, then the tree,
//! then the record, each by one rename; a tag comes last.
#![warn(missing_docs)]

pub mod archive;
pub mod extract;
pub mod fetch;
pub mod lease;
pub mod locate;
pub mod node_copy;
pub mod publish;
pub mod pull;
mod pull_error;
pub mod registry;
pub mod resolve;
mod space;
pub mod stage;
mod stage_error;
pub mod stored;
pub mod tag;
pub mod verify;
pub mod verify_store;
