//! From what the user typed to a tree that can be run: a stored image, one that udocker left unflattened, or a pull.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::image_config::ImageConfig;
use udocker_core::manifest::{Descriptor, Document};
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::PullPolicy;
use udocker_core::store::{FoundImage, Record, Store, Stores};
use udocker_transfer::fetch::BlobSource;
use udocker_transfer::stage::{Incoming, StageOptions, stage};

use crate::context::Context;
use crate::usage_text;

/// An image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No store has it and asking the registry was ruled out.
    #[error("image {0} is in no store, and `--pull=never` forbids asking the registry")]
    NotHere(ImageReference),
    /// No store has it.
    #[error("image {0} does not exist")]
    NotFound(ImageReference),
    /// A stored file is damaged.
    #[error("cannot use the stored image {reference}: {what}")]
    Damaged {
        /// Which image.
        reference: ImageReference,
        /// What is wrong.
        what: String,
    },
}

impl Explain for ImageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotHere(_) | Self::NotFound(_) => ErrorKind::NotFound,
            Self::Damaged { .. } => ErrorKind::Corrupt,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotHere(reference) | Self::NotFound(reference) => {
                vec!["`udocker images` lists what is here".into(), format!("`udocker pull {reference}` gets it")]
            }
            Self::Damaged { reference, .. } => vec![format!("`udocker pull {reference}` gets it anew")],
        }
    }
}

/// A typed image name; udocker's message if there is none.
pub fn parse_reference(text: Option<&str>) -> Result<ImageReference, Failure> {
    match text {
        None | Some("") => Err(usage_text("must specify image:tag or repository/image:tag").into()),
        Some(text) => Ok(text.parse().map_err(crate::usage)?),
    }
}

/// A name for an image that nobody named.
pub fn random_reference() -> ImageReference {
    let name = udocker_core::container::ContainerId::generate().to_string();
    name.parse().expect("a UUID is an image name")
}

/// A flattened image, ready to run.
pub struct Ready {
    pub record: Record,
    pub tree: PathBuf,
}

/// Finds `reference`, pulls it if the policy wants that, flattens it if that was never done.
pub fn ready(
    context: &Context,
    reference: &ImageReference,
    platform: &Platform,
    policy: PullPolicy,
) -> Result<Ready, Failure> {
    if policy == PullPolicy::Always {
        return pulled(context, reference, platform);
    }
    let stores = context.stores()?;
    match stores.find_image(reference, platform)? {
        Some(FoundImage { record: Some(record), tree: Some(tree), .. }) => Ok(Ready { record, tree }),
        Some(found) => flatten_stored(context, &stores, &found, reference, platform),
        None if policy == PullPolicy::Never => Err(ImageError::NotHere(reference.clone()).into()),
        None => pulled(context, reference, platform),
    }
}

fn pulled(context: &Context, reference: &ImageReference, platform: &Platform) -> Result<Ready, Failure> {
    let record = crate::cmd::pull::pull(context, reference, platform)?;
    let tree = context.writable_store()?.tree(&record.tree);
    Ok(Ready { record, tree })
}

/// Flattens what udocker pulled, or a central store holds only as blobs, into the first writable store.
fn flatten_stored(
    context: &Context,
    _stores: &Stores,
    found: &FoundImage<'_>,
    reference: &ImageReference,
    platform: &Platform,
) -> Result<Ready, Failure> {
    let damaged = |what: String| ImageError::Damaged { reference: reference.clone(), what };
    let directory = found.tag_directory.as_ref().ok_or_else(|| damaged("it has no tag directory".into()))?;
    let manifest_path = directory.join("manifest");
    let manifest_bytes =
        std::fs::read(&manifest_path).map_err(|e| damaged(format!("cannot read {}: {e}", manifest_path.display())))?;
    let manifest = match Document::parse(None, &manifest_bytes).map_err(|e| damaged(e.to_string()))? {
        Document::Image(manifest) => manifest,
        Document::Index(_) => return Err(damaged("its manifest is an index".into()).into()),
        Document::Schema1(_) => return Err(damaged("its manifest is of schema 1".into()).into()),
    };
    let config_path = found.store.blob(&manifest.config.digest);
    let config_bytes =
        std::fs::read(&config_path).map_err(|e| damaged(format!("cannot read {}: {e}", config_path.display())))?;
    if Digest::sha256_of(&config_bytes) != manifest.config.digest {
        return Err(damaged(format!("{} is corrupt", config_path.display())).into());
    }
    if let Some(image) = ImageConfig::parse(&config_bytes).map_err(|e| damaged(e.to_string()))?.platform
        && !image.satisfies(platform)
    {
        return Err(damaged(format!("it is for {image}, not for {platform}")).into());
    }
    let store = context.writable_store()?;
    let incoming = Incoming { manifest_bytes, manifest, index: None, config_bytes, platform: platform.clone() };
    let mut options = StageOptions::of(&context.settings, &store);
    options.keep_layers = store.path() == found.store.path();
    context.ui.info(&format!("extracting {reference}, which no store has as a tree yet"));
    let progress = context.ui.progress();
    let record = stage(&store, &incoming, &StoredBlobs(found.store), &options, progress.as_ref())?;
    let tree = store.tree(&record.tree);
    Ok(Ready { record, tree })
}

struct StoredBlobs<'a>(&'a Store);

impl BlobSource for StoredBlobs<'_> {
    fn open(&self, descriptor: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.0.blob(&descriptor.digest))?))
    }
}
