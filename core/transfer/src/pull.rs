//! Pulling: reference → lease → manifest of one platform → stage → tag.
//!
//! One process of a cluster pulls an image into a store, and one of a node waits for it ([`crate::lease`], and a lock in the
//! run directory); the others find what it brought, without a word to the registry.
//!
//! Manifests of Docker's schema 1 become what came after them; their own bytes are what the store keeps.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use udocker_core::deadline::Deadline;
use udocker_core::digest::Digest;
use udocker_core::image_config::{ImageConfig, MAX_CONFIG_BYTES};
use udocker_core::manifest::{Descriptor, Document, ImageManifest};
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::reference::ImageReference;
use udocker_core::run::PullPolicy;
use udocker_core::schema1::{EMPTY_LAYER, Schema1};
use udocker_core::settings::Settings;
use udocker_core::store::{FoundImage, NodeLock, Patience, Record, RunDirectory, Store, StoreError, Stores};

use crate::fetch::{BlobSource, FetchError, digest_of};
use crate::lease::Lease;
use crate::locate::{Located, locate};
pub use crate::pull_error::{PullCause, PullError};
use crate::registry::Client;
use crate::stage::{Incoming, StageError, StageOptions, stage};

/// Whether an image that is named by its digest gets a tag of that name, as one that is named by a tag always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestTag {
    /// It does: who pulls it wants to see it listed.
    Write,
    /// It does not: who runs it finds it by its record.
    Omit,
}

/// Pulls `reference` for `platform` into `store` and tags it there; returns its record.
///
/// Asks no registry for what another process brings meanwhile, nor with [`PullPolicy::Missing`] for what `store` has. All
/// waits for others together end after the limit of `settings`.
///
/// # Errors
/// See [`PullCause`]; nothing half-made stays in the store.
pub fn pull(
    store: &Store,
    reference: &ImageReference,
    platform: &Platform,
    policy: PullPolicy,
    digest_tag: DigestTag,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Record, PullError> {
    let deadline = Deadline::after(settings.limits.wait);
    let is_tagged = reference.digest().is_none() || digest_tag == DigestTag::Write;
    let one = Wanted { store, reference, platform, is_tagged, settings, deadline, progress };
    one.pull(policy).map_err(|cause| PullError::new(format!("pull {reference}"), cause))
}

/// What is pulled, and where to.
struct Wanted<'a> {
    store: &'a Store,
    reference: &'a ImageReference,
    platform: &'a Platform,
    is_tagged: bool,
    settings: &'a Settings,
    deadline: Deadline,
    progress: &'a dyn Progress,
}

impl Wanted<'_> {
    fn pull(&self, policy: PullPolicy) -> Result<Record, PullCause> {
        self.reference.check_for_registry()?;
        let before = self.tagged_at();
        let _leader = self.lead_node()?;
        let told = |holder: &str| self.progress.warning(&format!("waiting for {holder}, which pulls the same image"));
        let lease =
            Lease::take(self.store, self.reference, self.platform, &Patience::until(&self.deadline, &|| {}), &told)?;
        let at_start = self.tagged_at();
        if (policy != PullPolicy::Always || at_start != before)
            && let Some(record) = self.ready()?
        {
            return Ok(record);
        }
        self.bring(|| lease.is_lost() && self.tagged_at() != at_start)
    }

    /// One process of a node waits for the lease, the others for that process. Without a run directory each waits itself.
    fn lead_node(&self) -> Result<Option<NodeLock>, StoreError> {
        let Some(run) = RunDirectory::open(&self.settings.run_dirs) else { return Ok(None) };
        let name = format!("{} {} {}", self.store.path().display(), self.reference, self.platform);
        let told = || self.progress.warning("waiting for another process of yours that pulls the same image");
        run.lock(&format!("pull-{}", Digest::sha256_of(name.as_bytes()).hex()), &Patience::until(&self.deadline, &told))
            .map(Some)
    }

    /// The image of the store, if it can run.
    fn ready(&self) -> Result<Option<Record>, StoreError> {
        let store = Stores::only(self.store.clone());
        let found = store.find_image(self.reference, self.platform)?;
        Ok(found.and_then(|FoundImage { record, tree, .. }| record.filter(|_| tree.is_some())))
    }

    /// Which file is the tag's manifest: each pull makes another.
    fn tagged_at(&self) -> Option<(u64, i64, i64)> {
        let manifest = self.store.find_tag(self.reference)?.directory.join("manifest");
        let status = fs::metadata(manifest).ok()?;
        Some((status.ino(), status.mtime(), status.mtime_nsec()))
    }

    /// Asks the registry; publishes no tag where `is_done`: another process has.
    fn bring(&self, is_done: impl Fn() -> bool) -> Result<Record, PullCause> {
        let Self { store, reference, platform, settings, progress, .. } = *self;
        let registries = &settings.registries;
        let client = Client::new(registries, reference.registry(&registries.default))?;
        let located = locate(&client, reference, registries, Some(platform))?;
        let repository = located.repository.clone();
        let names_empty_layer =
            matches!(&located.fetched.document, Document::Schema1(image) if image.names_empty_layer);
        let incoming = describe(store, &client, located, platform)?;
        // Its tag may lead to another image by the time that this one is run by its digest.
        let names = vec![reference.typed_name().to_owned()];
        let options = StageOptions { names, deadline: self.deadline, ..StageOptions::of(settings, store) };
        let source = Remote { client: &client, repository: &repository };
        let staged = loop {
            match stage(store, &incoming, &source, &options, progress) {
                // Somebody wrote into the store, or its disk did: the registry has the right bytes.
                Err(StageError::Fetch(FetchError::Stored { digest, .. })) => {
                    progress.warning(&format!("the stored blob {digest} is damaged and is fetched anew"));
                    store.remove_blob(&digest)?;
                }
                other => break other?,
            }
        };
        let mut blobs: Vec<_> = incoming.manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
        blobs.push(incoming.manifest.config.digest.clone());
        if names_empty_layer {
            publish_empty_layer(store)?;
            blobs.push(Schema1::empty_layer());
        }
        if is_done()
            && let Some(record) = self.ready()?
        {
            return Ok(record);
        }
        if self.is_tagged {
            store.publish_tag(reference.typed_name(), &reference.selector(), &incoming.manifest_bytes, &blobs)?;
        }
        Ok(staged.record.clone())
    }
}

fn describe(store: &Store, client: &Client, located: Located, platform: &Platform) -> Result<Incoming, PullCause> {
    let Located { repository, fetched, index } = located;
    let (manifest, config_bytes) = match fetched.document {
        Document::Image(manifest) => {
            let config = match stored(store, &manifest.config) {
                Some(config) => config,
                None => client.small_blob(&repository, &manifest.config, MAX_CONFIG_BYTES)?,
            };
            (manifest, config)
        }
        Document::Schema1(image) => (modern(client, &repository, &image)?, image.config),
        Document::Index(_) => unreachable!("the way from an index ends at an image or an error"),
    };
    let config = ImageConfig::parse(&config_bytes).map_err(StageError::from)?;
    if let Some(found) = config.platform
        && !found.satisfies(platform)
    {
        return Err(PullCause::Platform { found, wanted: platform.clone() });
    }
    Ok(Incoming { manifest_bytes: fetched.bytes, manifest, index, config_bytes, platform: platform.clone() })
}

/// A small blob that is here already, whole.
fn stored(store: &Store, blob: &Descriptor) -> Option<Vec<u8>> {
    let path = store.blob(&blob.digest);
    let is_small = path.metadata().is_ok_and(|status| status.len() <= MAX_CONFIG_BYTES);
    let bytes = std::fs::read(path).ok().filter(|_| is_small)?;
    (digest_of(blob.digest.algorithm(), &bytes) == blob.digest).then_some(bytes)
}

/// What schema 1 says in the terms of later manifests; the registry tells the sizes that it does not.
fn modern(client: &Client, repository: &str, image: &Schema1) -> Result<ImageManifest, PullCause> {
    let descriptor = |digest: &Digest, size| Descriptor {
        media_type: String::new(),
        digest: digest.clone(),
        size,
        urls: Vec::new(),
    };
    let mut layers: Vec<Descriptor> = Vec::with_capacity(image.layers.len());
    for digest in &image.layers {
        let size = match layers.iter().find(|layer| layer.digest == *digest) {
            Some(same) => same.size,
            None => client.blob_size(repository, digest)?,
        };
        layers.push(descriptor(digest, size));
    }
    let config = descriptor(&Digest::sha256_of(&image.config), image.config.len() as u64);
    Ok(ImageManifest { config, layers })
}

/// udocker wants a file for each blob that a manifest names, also for the one that every layer without files is.
fn publish_empty_layer(store: &Store) -> Result<(), PullCause> {
    let folder = store.temporary("pull")?;
    let path = folder.path().join("empty");
    fs::write(&path, EMPTY_LAYER).map_err(|source| PullCause::Write { path: path.clone(), source })?;
    Ok(store.publish_blob(&path, &Schema1::empty_layer())?)
}

struct Remote<'a> {
    client: &'a Client,
    repository: &'a str,
}

impl BlobSource for Remote<'_> {
    fn open(&self, descriptor: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        self.client.blob(self.repository, descriptor).map_err(io::Error::other)
    }
}
