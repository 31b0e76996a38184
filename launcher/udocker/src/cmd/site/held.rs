//! An image of a central store as an administrator names it.

use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::store::{HeldImage, Store, TagEntry};

use crate::image::parse_reference;

/// The store has no such image, or it is named otherwise.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    #[error("the store {store} has no image {shown}")]
    Absent { shown: String, store: String },
    #[error("image {0} is pinned")]
    Pinned(String),
    #[error("image {digest} has the name {tag}")]
    Tagged { digest: Digest, tag: String },
}

impl Explain for HeldError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Pinned(_) => ErrorKind::Denied,
            Self::Tagged { .. } => ErrorKind::Conflict,
        }
    }
    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::Absent { .. } => "`udocker site list` lists its images".into(),
            Self::Pinned(shown) => format!("`udocker site pin --remove {shown}` takes the pin away"),
            Self::Tagged { tag, .. } => format!("`udocker site retire {tag}` takes the name away"),
        }]
    }
}

/// What was named: an image, and the tag if it was named by one.
pub struct Named {
    pub image: HeldImage,
    pub tag: Option<TagEntry>,
}

/// Finds what `text` names in `store`: NAME[:TAG], NAME@DIGEST or DIGEST, of the manifest or the index.
pub fn find(store: &Store, text: Option<&str>) -> Result<Named, Failure> {
    let shown = text.unwrap_or_default().to_owned();
    let absent = || HeldError::Absent { shown: shown.clone(), store: store.path().display().to_string() };
    let images = store.held_images()?;
    if let Ok(digest) = shown.parse::<Digest>() {
        return Ok(by_digest(images, &digest).ok_or_else(absent)?);
    }
    let reference = parse_reference(text)?;
    let Some(tag) = store.find_tag(&reference) else {
        let found = reference.digest().and_then(|digest| by_digest(images, digest));
        return Ok(found.ok_or_else(absent)?);
    };
    let image = images.into_iter().find(|image| image.tags.iter().any(|other| other.directory == tag.directory));
    Ok(Named { image: image.ok_or_else(absent)?, tag: Some(tag) })
}

fn by_digest(images: Vec<HeldImage>, digest: &Digest) -> Option<Named> {
    let is_it = |image: &HeldImage| {
        image.manifest == *digest || image.records.iter().any(|(_, record)| record.index.as_ref() == Some(digest))
    };
    images.into_iter().find(is_it).map(|image| Named { image, tag: None })
}
