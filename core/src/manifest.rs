//! Manifests and indexes: OCI image spec 1.1 (`manifest.md`, `image-index.md`) and Docker's schemas 2 and 1.
//!
//! Documents are kept as bytes where they are stored or digested; these types hold what we act on.

use serde::Deserialize;

use crate::digest::Digest;
pub use crate::manifest_error::{MAX_LAYERS, ManifestError};
use crate::platform::Platform;
use crate::schema1::Schema1;

/// Largest manifest or index that is read, in bytes (as containerd and Docker's registry).
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The media types of documents, as an Accept header wants them; what is oldest comes last.
pub const DOCUMENT_MEDIA_TYPES: [&str; 6] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];

/// A pointer to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    /// Media type as its author wrote it.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Digest of the blob's bytes.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Foreign URLs; never fetched, their presence is told.
    #[serde(default)]
    pub urls: Vec<String>,
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IndexEntry {
    /// Where the manifest is.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// For which platform; absent in indexes that are no platform lists.
    #[serde(default)]
    pub platform: Option<IndexPlatform>,
    /// Free text; `org.opencontainers.image.ref.name` names tags in layouts.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The platform object of an index entry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct IndexPlatform {
    pub os: String,
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
}

impl IndexPlatform {
    /// The same as our type.
    pub fn to_platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().filter(|v| !v.is_empty()),
        }
    }
}

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The image's configuration.
    pub config: Descriptor,
    /// Layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageIndex {
    /// In their author's order.
    pub manifests: Vec<IndexEntry>,
}

/// What a registry's `manifests/` answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Image(ImageManifest),
    /// Several.
    Index(ImageIndex),
    /// One image in Docker's oldest form.
    Schema1(Schema1),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "schemaVersion", default)]
    schema_version: u64,
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<IndexEntry>>,
}

impl Document {
    /// Reads a document once; `content_type` is the transport's word for it, if there was one.
    ///
    /// # Errors
    /// [`ManifestError::Contradiction`] where Content-Type, `mediaType` and the fields do not agree.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let outer = content_type.map(|t| t.split(';').next().unwrap_or(t).trim()).filter(|t| is_document_type(t));
        if let (Some(outer), Some(inner)) = (outer, &raw.media_type)
            && outer != inner
        {
            return Err(ManifestError::Contradiction(format!("it was sent as `{outer}` and calls itself `{inner}`")));
        }
        let media_type = raw.media_type.as_deref().or(outer);
        let is_schema1 = media_type.is_some_and(|t| t.starts_with("application/vnd.docker.distribution.manifest.v1+"));
        if is_schema1 || raw.schema_version == 1 {
            if raw.schema_version != 1 || media_type.is_some() && !is_schema1 {
                let (version, media_type) = (raw.schema_version, media_type.unwrap_or_default());
                return Err(ManifestError::Contradiction(format!(
                    "it is of schema {version} and of type `{media_type}`"
                )));
            }
            return Schema1::parse(bytes).map(Self::Schema1);
        }
        let is_index = media_type.map(|t| t.ends_with("index.v1+json") || t.ends_with("manifest.list.v2+json"));
        match (raw.config, raw.layers, raw.manifests, is_index) {
            (None, None, Some(manifests), None | Some(true)) => Ok(Self::Index(ImageIndex { manifests })),
            (Some(config), Some(layers), None, None | Some(false)) => {
                if layers.len() > MAX_LAYERS {
                    return Err(ManifestError::TooManyLayers(layers.len()));
                }
                Ok(Self::Image(ImageManifest { config, layers }))
            }
            (_, Some(_), Some(_), _) | (Some(_), _, Some(_), _) => {
                Err(ManifestError::Contradiction("it has both `layers` and `manifests`".into()))
            }
            (_, _, _, Some(_)) => {
                Err(ManifestError::Contradiction(format!("its fields do not fit `{}`", media_type.unwrap_or_default())))
            }
            _ => Err(ManifestError::Contradiction("it has neither `config` and `layers` nor `manifests`".into())),
        }
    }
}

fn is_document_type(text: &str) -> bool {
    text.starts_with("application/vnd.oci.image.") || text.starts_with("application/vnd.docker.distribution.manifest.")
}

impl ImageIndex {
    /// The entry for `wanted`: the first whose platform satisfies it; an exact variant wins.
    ///
    /// # Errors
    /// [`ManifestError::NoPlatform`] names what there is.
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let platforms = || self.manifests.iter().filter_map(|m| Some((m, m.platform.as_ref()?.to_platform())));
        let fitting: Vec<_> = platforms().filter(|(_, p)| p.satisfies(wanted)).collect();
        let exact = fitting.iter().find(|(_, p)| p.variant == wanted.variant);
        match exact.or(fitting.first()) {
            Some((entry, _)) => Ok(&entry.descriptor),
            None => Err(ManifestError::NoPlatform {
                wanted: wanted.clone(),
                available: platforms().map(|(_, p)| p).filter(|p| p.os != "unknown").collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":1}}"#, "0".repeat(64))
    }

    #[test]
    fn both_image_and_index_is_refused() {
        let d = descriptor("x");
        let text = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[],"manifests":[]}}"#);
        assert!(matches!(Document::parse(None, text.as_bytes()), Err(ManifestError::Contradiction(_))));
    }

    #[test]
    fn content_type_must_agree() {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, DOCUMENT_MEDIA_TYPES[1]);
        assert!(Document::parse(Some(DOCUMENT_MEDIA_TYPES[1]), text.as_bytes()).is_ok());
        assert!(Document::parse(Some("application/json; charset=utf-8"), text.as_bytes()).is_ok());
        assert!(Document::parse(Some(DOCUMENT_MEDIA_TYPES[0]), text.as_bytes()).is_err());
    }

    #[test]
    fn an_index_gives_the_platform_or_says_what_it_has() {
        let entry = |arch: &str, variant: &str| {
            format!(
                r#"{{"mediaType":"m","digest":"sha256:{}","size":2,"platform":{{"os":"linux","architecture":"{arch}","variant":"{variant}"}}}}"#,
                crate::digest::Digest::sha256_of((arch.to_owned() + variant).as_bytes()).hex()
            )
        };
        let text = format!(r#"{{"manifests":[{},{}]}}"#, entry("amd64", ""), entry("arm", "v7"));
        let Document::Index(index) = Document::parse(None, text.as_bytes()).unwrap() else { panic!("no index") };
        assert_eq!(index.select(&"linux/arm/v7".parse().unwrap()).unwrap(), &index.manifests[1].descriptor);
        let error = index.select(&"linux/s390x".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "the index has no image for linux/s390x; it has linux/amd64, linux/arm/v7");
    }

    #[test]
    fn schema_1_is_told_from_the_others() {
        let one = br#"{"schemaVersion":1,"fsLayers":[],"history":[{"v1Compatibility":"{}"}]}"#;
        for content_type in [None, Some(DOCUMENT_MEDIA_TYPES[4]), Some(DOCUMENT_MEDIA_TYPES[5]), Some("text/plain")] {
            assert!(matches!(Document::parse(content_type, one), Ok(Document::Schema1(_))), "{content_type:?}");
        }
        for (content_type, bytes) in [
            (Some(DOCUMENT_MEDIA_TYPES[0]), one.as_slice()),
            (Some(DOCUMENT_MEDIA_TYPES[4]), br#"{"schemaVersion":2,"manifests":[]}"#.as_slice()),
        ] {
            assert!(matches!(Document::parse(content_type, bytes), Err(ManifestError::Contradiction(_))));
        }
    }
}
