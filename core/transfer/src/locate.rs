//! The way from a name to a document of a registry.
//!
//! An index may lead to another (OCI image-spec, "Image Index"); the way down has an end in depth and in number.

use udocker_core::digest::Digest;
use udocker_core::manifest::{Descriptor, Document, IndexEntry, ManifestError};
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::settings::RegistrySettings;

use crate::pull_error::{MAX_DOCUMENTS, MAX_INDEX_DEPTH, PullCause, PullError};
use crate::registry::{Client, FetchedManifest, RegistryError};

/// The manifest of `reference` as its registry has it: that of `platform`, else whatever the name stands for.
///
/// # Errors
/// See [`PullCause`].
pub fn manifest(
    reference: &ImageReference,
    platform: Option<&Platform>,
    registries: &RegistrySettings,
) -> Result<Vec<u8>, PullError> {
    let get = || {
        let client = Client::new(registries, reference.registry(&registries.default))?;
        Ok(locate(&client, reference, registries, platform)?.fetched.bytes)
    };
    get().map_err(|cause| PullError::new(format!("get the manifest of {reference}"), cause))
}

/// The digest of what `reference` names in its registry: of the index, if it is one.
///
/// # Errors
/// [`PullCause::Registry`]
pub fn digest(reference: &ImageReference, registries: &RegistrySettings) -> Result<Digest, PullError> {
    let get = || {
        reference.check_for_registry()?;
        let client = Client::new(registries, reference.registry(&registries.default))?;
        Ok(first_found(reference, registries, |repository| client.digest(repository, &reference.selector()))?.1)
    };
    get().map_err(|cause| PullError::new(format!("ask for the digest of {reference}"), cause))
}

/// The tags of the repository that `reference` names.
///
/// # Errors
/// [`PullCause::Registry`]
pub fn tags(reference: &ImageReference, registries: &RegistrySettings) -> Result<Vec<String>, PullError> {
    let get = || {
        let client = Client::new(registries, reference.registry(&registries.default))?;
        Ok(first_found(reference, registries, |repository| client.tags(repository))?.1)
    };
    get().map_err(|cause| PullError::new(format!("list the tags of {}", reference.typed_name()), cause))
}

/// What `ask` finds for `reference`, and under which name.
///
/// udocker asks every registry for `library/NAME` where the user wrote neither a host nor a `/`. We do so too, and then,
/// on registries other than Docker Hub, for `NAME`.
pub(crate) fn first_found<T>(
    reference: &ImageReference,
    registries: &RegistrySettings,
    ask: impl Fn(&str) -> Result<T, RegistryError>,
) -> Result<(String, T), RegistryError> {
    let name = reference.repository(&registries.default);
    if reference.typed_host().is_none() && !name.contains('/') {
        let library = format!("library/{name}");
        match ask(&library) {
            // Registries answer so for what does not exist as well.
            Err(RegistryError::Status { status: 401 | 403 | 404, .. }) => {}
            other => return other.map(|found| (library, found)),
        }
    }
    ask(&name).map(|found| (name, found))
}

/// A document of a registry and the way to it.
pub(crate) struct Located {
    /// Under which name the registry has it.
    pub(crate) repository: String,
    pub(crate) fetched: FetchedManifest,
    /// The index that the name stands for.
    pub(crate) index: Option<Digest>,
}

/// With a platform the document of an image, else the first one.
pub(crate) fn locate(
    client: &Client,
    reference: &ImageReference,
    registries: &RegistrySettings,
    platform: Option<&Platform>,
) -> Result<Located, PullCause> {
    let selector = reference.selector();
    let (repository, first) = first_found(reference, registries, |name| client.manifest(name, &selector))?;
    let (Some(platform), Document::Index(_)) = (platform, &first.document) else {
        return Ok(Located { repository, fetched: first, index: None });
    };
    let index = Some(first.digest.clone());
    let mut walk = Walk { client, repository: &repository, platform, left: MAX_DOCUMENTS };
    let fetched = walk.image(first, 0)?;
    Ok(Located { fetched, index, repository })
}

/// The way from index to index.
struct Walk<'a> {
    client: &'a Client,
    repository: &'a str,
    platform: &'a Platform,
    /// Documents that may still be read.
    left: u32,
}

impl Walk<'_> {
    /// The image that `fetched` is or leads to; `depth` indexes lie above it.
    fn image(&mut self, fetched: FetchedManifest, depth: u32) -> Result<FetchedManifest, PullCause> {
        let Document::Index(index) = &fetched.document else { return Ok(fetched) };
        if depth == MAX_INDEX_DEPTH {
            return Err(PullCause::NestedIndex(self.platform.clone()));
        }
        let none = match index.select(self.platform) {
            Ok(descriptor) => return self.step(descriptor, depth),
            Err(none) => none,
        };
        let is_index = |entry: &&IndexEntry| {
            let kind = &entry.descriptor.media_type;
            entry.platform.is_none() && (kind.ends_with("index.v1+json") || kind.ends_with("manifest.list.v2+json"))
        };
        for entry in index.manifests.iter().filter(is_index) {
            match self.step(&entry.descriptor, depth) {
                Err(PullCause::Manifest(ManifestError::NoPlatform { .. })) => {}
                other => return other,
            }
        }
        Err(none.into())
    }

    fn step(&mut self, descriptor: &Descriptor, depth: u32) -> Result<FetchedManifest, PullCause> {
        self.left = self.left.checked_sub(1).ok_or_else(|| PullCause::NestedIndex(self.platform.clone()))?;
        let fetched = self.client.manifest(self.repository, &descriptor.digest.to_string())?;
        let actual = fetched.bytes.len() as u64;
        if actual != descriptor.size {
            return Err(PullCause::Size { digest: descriptor.digest.clone(), expected: descriptor.size, actual });
        }
        self.image(fetched, depth + 1)
    }
}
