//! What is found in an archive, whichever form it has: an image, its names, and the platform that it counts as.

use std::collections::HashMap;

use udocker_core::digest::Digest;
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::reference::{DEFAULT_TAG, ImageReference};

use super::ArchiveError;
use crate::stage::Incoming;

/// One image of an archive, with the names it shall have.
pub(super) struct Found {
    pub incoming: Incoming,
    pub names: Vec<ImageReference>,
    /// Where its layers are, if not where an OCI layout has them.
    pub blob_names: HashMap<Digest, String>,
    /// The platform by which it was chosen among several.
    pub chosen: Option<Platform>,
}

/// The name that an image gets whose archive says at most a tag.
pub(super) fn named(name: Option<&ImageReference>, tag: Option<&str>) -> Result<ImageReference, ArchiveError> {
    let base = match name {
        Some(name) => name.typed_name().to_owned(),
        None => random_name(),
    };
    let tag = name.and_then(ImageReference::tag).or(tag).unwrap_or(DEFAULT_TAG);
    Ok(format!("{base}:{tag}").parse()?)
}

/// 16 lower-case letters and digits: a name for an image that has none.
fn random_name() -> String {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    debug_assert_eq!(filled, Ok(16), "getrandom(2) fills up to 256 bytes at once");
    bytes.iter().map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyz012345"[usize::from(byte & 31)])).collect()
}

/// Under which platform an image is staged: this machine's where the image runs on it, so that a run finds it.
pub(super) fn platform_of(config_bytes: &[u8]) -> Result<Platform, ArchiveError> {
    let native = Platform::native();
    Ok(match ImageConfig::parse(config_bytes)?.platform {
        Some(platform) if !platform.satisfies(&native) => platform,
        _ => native,
    })
}
