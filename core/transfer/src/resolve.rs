//! From a name to a digest, for a job that is to have one image on all its nodes however long it waits: the local stores
//! first, then the registry, which is given 5 s and asked once a minute.
//!
//! ```text
//! RUN-DIRECTORY/resolved-HEX     what a registry answered; HEX: SHA-256 over registry and reference
//! ```
//! A digest is that of the index where there is one: each node picks its platform.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::PullPolicy;
use udocker_core::settings::{RegistrySettings, Settings};
use udocker_core::store::{FoundImage, RunDirectory, StoreError, Stores};

use crate::locate;
use crate::pull_error::PullError;

/// A registry has so long to answer, its token server included: somebody waits for his prompt.
const LIMIT: Duration = Duration::from_secs(5);
/// An answer is good for so long: a loop of submissions asks once.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of an index or of a manifest.
    pub digest: Digest,
    /// Who said so.
    pub source: Source,
}

/// Who told a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The reference itself.
    Reference,
    /// The store of this name.
    Store(String),
    /// The registry.
    Registry,
    /// The registry, less than [`REMEMBERED_FOR`] ago.
    Memory,
}

/// A name has no digest.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A store is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(#[from] PullError),
    /// It did not answer in time.
    #[error("cannot ask for the digest of {reference}: its registry did not answer within {} s", LIMIT.as_secs())]
    Late {
        /// Which image.
        reference: ImageReference,
    },
    /// No store has it and no registry is asked.
    #[error("image {0} is in no store, and `--pull=never` forbids asking the registry")]
    NotHere(ImageReference),
    /// It was stored in udocker's first format and never extracted.
    #[error("image {0} has no digest before it is extracted: it has no manifest")]
    NoManifest(ImageReference),
}

impl Explain for ResolveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Late { .. } => ErrorKind::Timeout,
            Self::NotHere(_) | Self::NoManifest(_) => ErrorKind::NotFound,
        }
    }
    fn is_retryable(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_retryable(),
            Self::Late { .. } => true,
            _ => false,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Store(error) => error.hints(),
            Self::Registry(error) => error.hints(),
            Self::Late { reference } | Self::NotHere(reference) => {
                vec![format!("`udocker pull {reference}` gets it into your store, which is asked first")]
            }
            Self::NoManifest(reference) => vec![format!("`udocker stage {reference}` extracts it")],
        }
    }
}

/// Tells what `reference` stands for now.
///
/// # Errors
/// See [`ResolveError`].
pub fn resolve(
    stores: &Stores,
    reference: &ImageReference,
    platform: &Platform,
    pull: PullPolicy,
    settings: &Settings,
) -> Result<Resolved, ResolveError> {
    if let Some(digest) = reference.digest() {
        return Ok(Resolved { digest: digest.clone(), source: Source::Reference });
    }
    // What a tag has for another platform is another manifest; one that was never extracted is this machine's.
    let of_platform = |found: &FoundImage<'_>| found.record.is_some() || *platform == Platform::native();
    if pull != PullPolicy::Always
        && let Some(found) = stores.find_image(reference, platform)?.filter(of_platform)
    {
        let source = Source::Store(found.store.settings().name.clone());
        let digest = match (&found.record, &found.tag_directory) {
            (Some(record), _) => record.index.clone().unwrap_or_else(|| record.manifest.clone()),
            (None, Some(directory)) if directory.join("manifest").is_file() => found.key,
            (None, _) => return Err(ResolveError::NoManifest(reference.clone())),
        };
        return Ok(Resolved { digest, source });
    }
    if pull == PullPolicy::Never {
        return Err(ResolveError::NotHere(reference.clone()));
    }
    let memory = Memory::of(reference, settings);
    if pull != PullPolicy::Always
        && let Some(digest) = memory.as_ref().and_then(Memory::read)
    {
        return Ok(Resolved { digest, source: Source::Memory });
    }
    let digest = ask(reference, &settings.registries)?;
    if let Some(memory) = memory {
        memory.write(&digest);
    }
    Ok(Resolved { digest, source: Source::Registry })
}

/// Asks the registry, once; a thread that is still waiting then ends with the process.
fn ask(reference: &ImageReference, registries: &RegistrySettings) -> Result<Digest, ResolveError> {
    let (send, answer) = channel();
    let (asked, registries) = (reference.clone(), RegistrySettings { retries: 0, ..registries.clone() });
    std::thread::spawn(move || {
        // Nobody listens once the time is up.
        let _ = send.send(locate::digest(&asked, &registries));
    });
    match answer.recv_timeout(LIMIT) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ResolveError::Late { reference: reference.clone() }),
    }
}

/// What the registry said of one name a moment ago: private and node-local, as the run directory is.
struct Memory(PathBuf);

impl Memory {
    fn of(reference: &ImageReference, settings: &Settings) -> Option<Self> {
        let run = RunDirectory::open(&settings.run_dirs)?;
        let name = format!("{} {reference}", reference.registry(&settings.registries.default));
        Some(Self(run.path().join(format!("resolved-{}", Digest::sha256_of(name.as_bytes()).hex()))))
    }
    fn read(&self) -> Option<Digest> {
        let age = fs::metadata(&self.0).ok()?.modified().ok()?.elapsed().ok()?;
        (age < REMEMBERED_FOR).then_some(())?;
        fs::read_to_string(&self.0).ok()?.trim_end().parse().ok()
    }
    fn write(&self, digest: &Digest) {
        let temporary = self.0.with_extension(std::process::id().to_string());
        // What is not remembered is asked again.
        if fs::write(&temporary, format!("{digest}\n")).is_ok() {
            let _ = fs::rename(&temporary, &self.0);
        }
    }
}
