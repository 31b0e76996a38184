//! OCI layouts (image-spec, `image-layout.md`): `index.json`, and the indexes that it leads to.
//!
//! The entries of one index are either images of their own or one image for several platforms. They are the latter if they
//! share a name (their own, or that of the index they are in), or if all are nameless and each names another platform.

use std::collections::HashMap;

use udocker_core::digest::Digest;
use udocker_core::image_config::MAX_CONFIG_BYTES;
use udocker_core::manifest::{Document, ImageIndex, ImageManifest, IndexEntry, MAX_MANIFEST_BYTES, ManifestError};
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;

use super::ArchiveError;
use super::found::{Found, named, platform_of};
use super::members::Members;
use crate::stage::Incoming;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Indexes within `index.json`.
const MAX_DEPTH: usize = 8;

/// All images of a layout that this machine would take.
pub(super) fn images(members: &Members, name: Option<&ImageReference>) -> Result<Vec<Found>, ArchiveError> {
    let bytes = members.read("index.json", MAX_MANIFEST_BYTES)?;
    let Document::Index(index) = Document::parse(None, &bytes)? else {
        return Err(ManifestError::Contradiction("`index.json` is no index".into()).into());
    };
    let mut walk = Walk { members, name, native: Platform::native(), found: Vec::new() };
    walk.index(&index, &Above::default())?;
    Ok(walk.found)
}

/// What an index hands down to its entries.
#[derive(Clone, Default)]
struct Above {
    depth: usize,
    /// The index that lists the images; none for `index.json`, which is no blob.
    index: Option<Digest>,
    label: Option<String>,
    chosen: Option<Platform>,
}

struct Walk<'a> {
    members: &'a Members,
    name: Option<&'a ImageReference>,
    native: Platform,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn index(&mut self, index: &ImageIndex, above: &Above) -> Result<(), ArchiveError> {
        if above.depth > MAX_DEPTH {
            return Err(ArchiveError::TooDeep(MAX_DEPTH));
        }
        // In the order of the index, so that the first named is the first loaded.
        let mut groups: Vec<(Option<String>, Vec<&IndexEntry>)> = Vec::new();
        for entry in index.manifests.iter().filter(|entry| !is_attestation(entry)) {
            let label = label(entry).or(above.label.as_deref()).map(str::to_owned);
            match groups.iter_mut().find(|(other, _)| *other == label) {
                Some((_, group)) => group.push(entry),
                None => groups.push((label, vec![entry])),
            }
        }
        for (label, group) in groups {
            let is_one_image = group.len() > 1 && (label.is_some() || differ_in_platform(&group));
            let above = Above { label, ..above.clone() };
            if is_one_image {
                let choice = ImageIndex { manifests: group.into_iter().cloned().collect() };
                let digest = &choice.select(&self.native)?.digest;
                let entry = choice.manifests.iter().find(|entry| entry.descriptor.digest == *digest);
                let entry = entry.expect("select returns one of the entries");
                let chosen = entry.platform.as_ref().map(|platform| platform.to_platform());
                self.entry(entry, &Above { chosen, ..above })?;
            } else {
                group.into_iter().try_for_each(|entry| self.entry(entry, &above))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &IndexEntry, above: &Above) -> Result<(), ArchiveError> {
        let digest = &entry.descriptor.digest;
        let bytes = self.members.blob(digest, MAX_MANIFEST_BYTES)?;
        match Document::parse(None, &bytes)? {
            Document::Index(index) => {
                let above = Above { depth: above.depth + 1, index: Some(digest.clone()), ..above.clone() };
                self.index(&index, &above)
            }
            Document::Image(manifest) => self.image(bytes, manifest, above),
            Document::Schema1(_) => {
                Err(ManifestError::Contradiction("it is of schema 1, which no layout holds".into()).into())
            }
        }
    }

    fn image(&mut self, manifest_bytes: Vec<u8>, manifest: ImageManifest, above: &Above) -> Result<(), ArchiveError> {
        let config_bytes = self.members.blob(&manifest.config.digest, MAX_CONFIG_BYTES)?;
        let platform = platform_of(&config_bytes)?;
        let reference = self.reference(above.label.as_deref())?;
        let incoming = Incoming { manifest_bytes, manifest, index: above.index.clone(), config_bytes, platform };
        let (names, chosen) = (vec![reference], above.chosen.clone());
        self.found.push(Found { incoming, names, blob_names: HashMap::new(), chosen });
        Ok(())
    }

    /// The name of an image whose label is a whole reference (containerd, podman) or a tag alone (skopeo, umoci).
    fn reference(&self, label: Option<&str>) -> Result<ImageReference, ArchiveError> {
        match label.filter(|label| label.contains([':', '/'])) {
            None => named(self.name, label),
            Some(whole) => {
                let whole: ImageReference = whole.parse()?;
                if self.name.is_some() { named(self.name, whole.tag()) } else { Ok(whole) }
            }
        }
    }
}

fn label(entry: &IndexEntry) -> Option<&str> {
    entry.annotations.get(CONTAINERD_NAME).or(entry.annotations.get(REF_NAME)).map(String::as_str)
}

/// What docker's build tool lists beside its images: no image of any machine.
fn is_attestation(entry: &IndexEntry) -> bool {
    entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

fn differ_in_platform(group: &[&IndexEntry]) -> bool {
    let named = |at: usize| group[at].platform.as_ref();
    (0..group.len()).all(|at| named(at).is_some() && (0..at).all(|other| named(other) != named(at)))
}
