//! From what the user typed to a tree that can be run: a stored image, one that udocker left unflattened, or a pull.

use std::path::PathBuf;

use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::PullPolicy;
use udocker_core::store::{FoundImage, Record, Store, StoreError, Stores, TagEntry};
use udocker_transfer::pull::{DigestTag, PullError};
use udocker_transfer::stage::{StageError, StageOptions};
use udocker_transfer::stored::stage_stored;

use crate::context::Context;
use crate::{ui, usage_text};

/// An image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No store has it and asking the registry was ruled out.
    #[error("image {0} is in no store, and `--pull=never` forbids asking the registry")]
    NotHere(ImageReference),
    /// There is only a tree of another user's, which a writable layer cannot be laid over.
    #[error(
        "image {0} is another user's, no store has the layers to extract it anew, and `--pull=never` forbids asking the registry"
    )]
    NotOwn(ImageReference),
    /// No store has it.
    #[error("image {0} does not exist")]
    NotFound(ImageReference),
    /// No store has what a container was to be made of; the words are udocker's.
    #[error("create container: imagerepo is invalid: image {0} does not exist")]
    NothingToCreate(ImageReference),
    /// It has no tag of its own to remove.
    #[error("image {reference} is here under the name {tag}")]
    Tagged {
        /// As typed, by digest.
        reference: ImageReference,
        /// `NAME:TAG`.
        tag: String,
    },
    /// It is where nothing may be changed.
    #[error("image {reference} lies in the store {}, which is read-only", store.display())]
    ReadOnly {
        /// Which image.
        reference: ImageReference,
        /// Where.
        store: PathBuf,
    },
    /// A stored file is damaged.
    #[error("cannot use the stored image {reference}")]
    Damaged {
        /// Which image.
        reference: ImageReference,
        /// What is wrong.
        #[source]
        source: StoreError,
    },
    /// It was stored for another platform.
    #[error("the stored image {reference} is for {found}, not for {wanted}")]
    Platform {
        /// Which image.
        reference: ImageReference,
        /// By its configuration.
        found: Platform,
        /// Asked for.
        wanted: Platform,
    },
}

impl Explain for ImageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotHere(_)
            | Self::NotOwn(_)
            | Self::NotFound(_)
            | Self::NothingToCreate(_)
            | Self::Platform { .. } => ErrorKind::NotFound,
            Self::ReadOnly { .. } => ErrorKind::Denied,
            Self::Tagged { .. } => ErrorKind::Conflict,
            Self::Damaged { source, .. } => source.kind(),
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotHere(reference) | Self::NotFound(reference) | Self::NothingToCreate(reference) => {
                vec!["`udocker images` lists what is here".into(), format!("`udocker pull {reference}` gets it")]
            }
            Self::Tagged { tag, .. } => vec![format!("`udocker rmi {tag}` removes it")],
            Self::NotOwn(_) => vec!["`--write=none` runs it as it is".into()],
            Self::ReadOnly { .. } => vec!["ask those who keep that store".into()],
            Self::Damaged { reference, .. } => {
                vec![format!("`udocker rmi {reference}` removes it; then `udocker pull`, `load` or `import` it anew")]
            }
            Self::Platform { found, .. } => vec![format!("`--platform={found}` takes it all the same")],
        }
    }
}

/// A typed image name; udocker's message if there is none.
pub fn parse_reference(text: Option<&str>) -> Result<ImageReference, Failure> {
    match text {
        None | Some("") => Err(usage_text("must specify image:tag or repository/image:tag").into()),
        Some(text) => Ok(text
            .parse()
            .map_err(|error| usage_text(&format!("must specify image:tag or repository/image:tag: {error}")))?),
    }
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
    digest_tag: DigestTag,
) -> Result<Ready, Failure> {
    let pulled = || pulled(context, reference, platform, policy, digest_tag);
    if policy == PullPolicy::Always {
        return pulled();
    }
    match stored(context, reference, platform)? {
        Some(ready) => Ok(ready),
        None if policy == PullPolicy::Never => Err(ImageError::NotHere(reference.clone()).into()),
        None => pulled(),
    }
}

/// The same of what a store has; nothing is pulled.
pub fn stored(context: &Context, reference: &ImageReference, platform: &Platform) -> Result<Option<Ready>, Failure> {
    in_stores(context, &context.stores()?, reference, platform)
}

/// The same as a tree of the caller's, for an overlay over it ([`Stores::with_own_trees`]): made once, from the layers of the
/// store that has another user's. `None` if it kept none.
pub fn own(context: &Context, reference: &ImageReference, platform: &Platform) -> Result<Option<Ready>, Failure> {
    in_stores(context, &context.stores()?.with_own_trees(), reference, platform)
}

fn in_stores(
    context: &Context,
    stores: &Stores,
    reference: &ImageReference,
    platform: &Platform,
) -> Result<Option<Ready>, Failure> {
    match stores.find_image(reference, platform).map_err(|source| damaged(reference, source))? {
        Some(FoundImage { record: Some(record), tree: Some(tree), .. }) => Ok(Some(Ready { record, tree })),
        Some(found) => flatten_stored(context, &found, reference, platform),
        None => Ok(None),
    }
}

/// The tag that `reference` names, or an error.
pub fn find_tag<'a>(stores: &'a Stores, reference: &ImageReference) -> Result<(&'a Store, TagEntry), Failure> {
    Ok(stores.find_tag(reference).ok_or_else(|| ImageError::NotFound(reference.clone()))?)
}

/// Asks the registry.
pub fn pulled(
    context: &Context,
    reference: &ImageReference,
    platform: &Platform,
    policy: PullPolicy,
    digest_tag: DigestTag,
) -> Result<Ready, Failure> {
    let store = context.writable_store()?;
    let record = pull(context, &store, reference, platform, policy, digest_tag)?;
    let tree = store.tree(&record.tree);
    Ok(Ready { record, tree })
}

/// Pulls into `store` and says what came.
pub fn pull(
    context: &Context,
    store: &Store,
    reference: &ImageReference,
    platform: &Platform,
    policy: PullPolicy,
    digest_tag: DigestTag,
) -> Result<Record, PullError> {
    let progress = context.ui.progress();
    let since = std::time::Instant::now();
    let settings = &context.settings;
    let record =
        udocker_transfer::pull::pull(store, reference, platform, policy, digest_tag, settings, progress.as_ref())?;
    context.ui.info(&format!(
        "pulled {reference} for {} in {:.1} s: {} layers, {} packed, {} in {} entries",
        record.platform,
        since.elapsed().as_secs_f64(),
        record.layers,
        ui::bytes(record.packed_bytes),
        ui::bytes(record.tree_bytes),
        record.entries,
    ));
    Ok(record)
}

/// A damaged store in terms of the image.
pub fn damaged(reference: &ImageReference, error: StoreError) -> Failure {
    match error {
        source @ StoreError::Damaged { .. } => ImageError::Damaged { reference: reference.clone(), source }.into(),
        other => other.into(),
    }
}

/// Flattens what udocker wrote, or a central store holds only as blobs or as somebody else's tree, into the first writable
/// store; `None` if a store has the tree but kept no layers.
fn flatten_stored(
    context: &Context,
    found: &FoundImage<'_>,
    reference: &ImageReference,
    platform: &Platform,
) -> Result<Option<Ready>, Failure> {
    let directory = found.tag_directory.as_ref().ok_or_else(|| ImageError::NotFound(reference.clone()))?;
    let image = found.store.read_image(directory).map_err(|source| damaged(reference, source))?;
    let image = image.ok_or_else(|| ImageError::NotFound(reference.clone()))?;
    // One that names no platform is taken to be for any.
    if let Some(claimed) = ImageConfig::parse(&image.config).map_err(StageError::from)?.platform
        && !claimed.satisfies(platform)
    {
        let (reference, wanted) = (reference.clone(), platform.clone());
        return Err(ImageError::Platform { reference, found: claimed, wanted }.into());
    }
    let foreign = found.store.foreign_tree(&found.key, platform)?;
    if foreign.is_some() && !image.layers.iter().all(|layer| layer.path.is_file()) {
        return Ok(None);
    }
    let store = if foreign.is_some() { context.own_store()? } else { context.writable_store()? };
    let known = match found.store.distrust() {
        None => found.store.read_record(&found.key, platform)?,
        Some(_) => None,
    };
    // A tag of that name leads to it.
    let names = vec![reference.typed_name().to_owned()];
    let options = StageOptions { names, ..StageOptions::of(&context.settings, &store) };
    let (from, into) = (found.store.path().display(), store.path().display());
    context.ui.info(&match (found.store.distrust(), foreign) {
        (Some(why), _) => format!("extracting {reference} into {into}: {from} is not run from, as {why}"),
        (None, Some(owner)) => format!(
            "extracting {reference} into {into}, once: a writable layer lies over files of one's own, and those of {from} are uid {owner}'s\n  hint: `--write=none` runs it as it is"
        ),
        (None, None) => format!("extracting {reference}, which no store has as a tree yet"),
    });
    let progress = context.ui.progress();
    let record = match stage_stored(&store, &image, (&found.key, known.as_ref()), platform, &options, progress.as_ref())
    {
        Err(StageError::Store(error)) => return Err(damaged(reference, error)),
        other => other?,
    };
    let tree = store.tree(&record.tree);
    Ok(Some(Ready { record, tree }))
}
