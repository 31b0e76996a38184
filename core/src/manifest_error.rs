//! Why a document is no manifest or index that can be acted on, whichever form it has; and the bound that all forms share.

use crate::platform::Platform;

/// Most layers of one image.
pub const MAX_LAYERS: usize = 4096;

/// A document is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON, or fields of the wrong type.
    #[error("the manifest cannot be read")]
    Json(#[source] serde_json::Error),
    /// Both an image and an index, or its media types disagree (CVE-2021-41190).
    #[error("the manifest contradicts itself: {0}")]
    Contradiction(String),
    /// More layers than [`MAX_LAYERS`].
    #[error("the image has {0} layers, more than the {MAX_LAYERS} that are supported")]
    TooManyLayers(usize),
    /// No entry for the platform.
    #[error("the index has no image for {wanted}; it has {}", offered(.available))]
    NoPlatform {
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        available: Vec<Platform>,
    },
}

fn offered(available: &[Platform]) -> String {
    if available.is_empty() {
        return "none that names a platform".into();
    }
    available.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
