//! Pulling: reference → manifest of one platform → stage → tag.

use std::io::{self, Read};

use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::image_config::{ImageConfig, MAX_CONFIG_BYTES};
use udocker_core::manifest::{Descriptor, Document, ManifestError};
use udocker_core::platform::Platform;
use udocker_core::progress::Progress;
use udocker_core::reference::ImageReference;
use udocker_core::settings::Settings;
use udocker_core::store::{Record, Store};

use crate::fetch::{BlobSource, FetchError};
use crate::registry::{Client, RegistryError};
use crate::stage::{Incoming, StageError, StageOptions, stage};

/// An image could not be pulled.
#[derive(Debug, thiserror::Error)]
#[error("cannot pull {reference}")]
pub struct PullError {
    reference: ImageReference,
    #[source]
    cause: PullCause,
}

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullCause {
    /// No registry has such names.
    #[error(transparent)]
    Name(#[from] udocker_core::reference::ReferenceError),
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The manifest is not usable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The index points to another index.
    #[error("the index names another index for {0}, which is not supported")]
    NestedIndex(Platform),
    /// A manifest has another size than its index says (OCI image-spec, "Content Descriptors").
    #[error("the manifest {digest} has {actual} bytes where the index says {expected}")]
    Size {
        /// The manifest.
        digest: Digest,
        /// Bytes by the index.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// The image is for another platform.
    #[error("the image is for {found}, not for {wanted}")]
    Platform {
        /// By its configuration.
        found: Platform,
        /// Asked for.
        wanted: Platform,
    },
    /// It did not get into the store.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Its tag could not be written.
    #[error(transparent)]
    Store(#[from] udocker_core::store::StoreError),
}

impl Explain for PullError {
    fn kind(&self) -> ErrorKind {
        match &self.cause {
            PullCause::Name(_) => ErrorKind::Usage,
            PullCause::Registry(error) => error.kind(),
            PullCause::Manifest(ManifestError::NoPlatform { .. }) | PullCause::Platform { .. } => ErrorKind::NotFound,
            PullCause::NestedIndex(_) => ErrorKind::Unsupported,
            PullCause::Manifest(_) | PullCause::Size { .. } => ErrorKind::Corrupt,
            PullCause::Stage(error) => error.kind(),
            PullCause::Store(error) => error.kind(),
        }
    }
    fn is_retryable(&self) -> bool {
        match &self.cause {
            PullCause::Registry(error) => error.is_retryable(),
            PullCause::Stage(error) => error.is_retryable(),
            _ => false,
        }
    }
    fn hints(&self) -> Vec<String> {
        match &self.cause {
            PullCause::Name(_) => vec!["`udocker images` lists what is here; stores take more names".into()],
            PullCause::Registry(error) => error.hints(),
            PullCause::Stage(error) => error.hints(),
            PullCause::Store(error) => error.hints(),
            PullCause::Manifest(ManifestError::NoPlatform { available, .. }) => {
                let first =
                    available.first().map(|platform| format!("`--platform={platform}` takes the first of them"));
                first.into_iter().collect()
            }
            PullCause::Platform { found, .. } => {
                vec![format!("`--platform={found}` pulls it all the same; its programs will not run on this machine")]
            }
            PullCause::Manifest(_) | PullCause::Size { .. } | PullCause::NestedIndex(_) => {
                vec!["the reference is no container image of OCI or Docker schema 2".into()]
            }
        }
    }
}

/// Pulls `reference` for `platform` into `store` and tags it there; returns its record.
///
/// # Errors
/// See [`PullCause`]; nothing half-made stays in the store.
pub fn pull(
    store: &Store,
    reference: &ImageReference,
    platform: &Platform,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Record, PullError> {
    try_pull(store, reference, platform, settings, progress)
        .map_err(|cause| PullError { reference: reference.clone(), cause })
}

fn try_pull(
    store: &Store,
    reference: &ImageReference,
    platform: &Platform,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Record, PullCause> {
    reference.check_for_registry()?;
    let registries = &settings.registries;
    let client = Client::new(registries, reference.registry(&registries.default))?;
    let repository = reference.repository(&registries.default);
    let incoming = resolve(&client, &repository, &reference.selector(), platform)?;
    let options = StageOptions::of(settings, store);
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
    store.publish_tag(reference.typed_name(), &reference.selector(), &incoming.manifest_bytes, &blobs)?;
    Ok(staged.record.clone())
}

fn resolve(client: &Client, repository: &str, selector: &str, platform: &Platform) -> Result<Incoming, PullCause> {
    let first = client.manifest(repository, selector)?;
    let (fetched, index, manifest) = match first.document {
        Document::Image(ref manifest) => {
            let manifest = manifest.clone();
            (first, None, manifest)
        }
        Document::Index(ref entries) => {
            let entry = entries.select(platform)?;
            let second = client.manifest(repository, &entry.digest.to_string())?;
            let actual = second.bytes.len() as u64;
            if actual != entry.size {
                return Err(PullCause::Size { digest: entry.digest.clone(), expected: entry.size, actual });
            }
            match second.document {
                Document::Image(ref manifest) => {
                    let manifest = manifest.clone();
                    (second, Some(first.digest), manifest)
                }
                Document::Index(_) => return Err(PullCause::NestedIndex(platform.clone())),
                Document::Schema1(_) => {
                    return Err(
                        ManifestError::Contradiction("pulls of schema 1 come with the registry's part".into()).into()
                    );
                }
            }
        }
        Document::Schema1(_) => {
            return Err(ManifestError::Contradiction("pulls of schema 1 come with the registry's part".into()).into());
        }
    };
    let config_bytes = client.small_blob(repository, &manifest.config, MAX_CONFIG_BYTES)?;
    let config = ImageConfig::parse(&config_bytes).map_err(StageError::from)?;
    if let Some(found) = config.platform
        && !found.satisfies(platform)
    {
        return Err(PullCause::Platform { found, wanted: platform.clone() });
    }
    Ok(Incoming { manifest_bytes: fetched.bytes, manifest, index, config_bytes, platform: platform.clone() })
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
