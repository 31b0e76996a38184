//! `load`: what an archive holds is found, checked against the store, staged, and only then named.

use std::collections::HashMap;

use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::reference::ImageReference;
use udocker_core::store::Store;

use super::found::Found;
use super::members::{ArchiveBlobs, Members};
use super::{ArchiveError, Input, docker, layout};
use crate::stage::{StageOptions, stage};

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
