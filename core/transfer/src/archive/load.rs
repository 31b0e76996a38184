//! `load`: what an archive holds is found, checked against the store, staged, and only then named.

use std::collections::HashMap;

use udocker_core::digest::Digest;
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::reference::{DEFAULT_TAG, ImageReference};
use udocker_core::store::Store;

use super::members::{ArchiveBlobs, Members};
use super::{ArchiveError, Input, docker, layout};
use crate::stage::{Incoming, StageOptions, stage};

/// One image of an archive, with the names it shall have.
pub(super) struct Found {
    pub incoming: Incoming,
    pub names: Vec<ImageReference>,
    /// Where its layers are, if not where an OCI layout has them.
    pub blob_names: HashMap<Digest, String>,
    /// The platform by which it was chosen among several.
    pub chosen: Option<Platform>,
}

/// A name that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The name.
    pub reference: ImageReference,
    /// The platform by which the archive's image was chosen among several.
    pub chosen: Option<Platform>,
}

/// Loads the images of `input` into `store` and returns the names that were made.
///
/// `name` replaces the name of the archive's image, its tag stays; an image without any name gets a random one.
///
/// # Errors
/// [`ArchiveError::Exists`] if one of the names is there already: nothing is changed then.
pub fn load(
    store: &Store,
    input: &Input,
    name: Option<&ImageReference>,
    options: &StageOptions,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, ArchiveError> {
    let folder;
    let members = match input {
        Input::Path(path) if path.is_dir() => Members::Directory(path.clone()),
        _ => {
            let reader = input.open()?;
            folder = store.temporary("load")?;
            Members::spread(reader, &input.name(), folder.path())?
        }
    };
    let found = if members.get("index.json").is_some() {
        layout::images(&members, name)?
    } else if members.get("manifest.json").is_some() {
        docker::images(&members, name)?
    } else if members.get("repositories").is_some() {
        docker::old_images(&members, name)?
    } else {
        return Err(ArchiveError::NotAnImage(input.name()));
    };
    if found.is_empty() {
        return Err(ArchiveError::Empty(input.name()));
    }
    check_names(store, &found)?;
    let mut staged = Vec::new();
    for image in &found {
        let blobs = ArchiveBlobs { members: &members, names: image.blob_names.clone() };
        staged.push(stage(store, &image.incoming, &blobs, options, progress)?);
    }
    let mut loaded = Vec::new();
    for Found { incoming, names, chosen, .. } in found {
        let mut digests: Vec<_> = incoming.manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
        digests.push(incoming.manifest.config.digest.clone());
        for reference in names {
            let (name, tag) = (reference.typed_name(), reference.selector());
            if !store.publish_new_tag(name, &tag, &incoming.manifest_bytes, &digests)? {
                return Err(ArchiveError::Exists(reference));
            }
            loaded.push(Loaded { reference, chosen: chosen.clone() });
        }
    }
    Ok(loaded)
}

fn check_names(store: &Store, found: &[Found]) -> Result<(), ArchiveError> {
    let mut seen = HashMap::new();
    for (image, reference) in found.iter().flat_map(|image| image.names.iter().map(move |name| (image, name))) {
        if store.has_tag(reference.typed_name(), &reference.selector()) {
            return Err(ArchiveError::Exists(reference.clone()));
        }
        let manifest = &image.incoming.manifest_bytes;
        if *seen.entry(reference).or_insert(manifest) != manifest {
            return Err(ArchiveError::SameName(reference.clone()));
        }
    }
    Ok(())
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
