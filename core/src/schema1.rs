//! Docker's first manifest form, schema 1 (`distribution/docs/spec/manifest-v2-1.md`), read as what came after it.
//!
//! It lists its blobs top layer first, without sizes, and has no configuration blob: each entry of `history` holds, as
//! text, the JSON that version 1 of the image format kept per layer, and the first one describes the whole image.
//! Layers without files are the one blob [`EMPTY_LAYER`]. udocker keeps such manifests in its repositories, and so do we.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::manifest_error::{MAX_LAYERS, ManifestError};

/// The gzip of an empty tar that stands for every layer without files.
pub const EMPTY_LAYER: [u8; 32] = [
    31, 139, 8, 0, 0, 9, 110, 136, 0, 255, 98, 24, 5, 163, 96, 20, 140, 88, 0, 8, 0, 0, 255, 255, 46, 175, 181, 239, 0,
    4, 0, 0,
];

/// An image by a manifest of schema 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema1 {
    /// Its layers, lowest first, without the empty ones.
    pub layers: Vec<Digest>,
    /// Whether [`EMPTY_LAYER`] is among the blobs that the manifest names; udocker wants a link for it.
    pub names_empty_layer: bool,
    /// Its configuration, as the JSON of a configuration blob: the first `v1Compatibility`, byte for byte if it names a
    /// platform, else with the manifest's architecture and `linux`.
    pub config: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    architecture: String,
    fs_layers: Vec<RawLayer>,
    history: Vec<RawHistory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    blob_sum: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHistory {
    v1_compatibility: String,
}

impl Schema1 {
    /// The digest of [`EMPTY_LAYER`].
    pub fn empty_layer() -> Digest {
        Digest::sha256_of(&EMPTY_LAYER)
    }

    /// Reads a manifest of schema 1, signed or not; signatures are not looked at.
    ///
    /// # Errors
    /// [`ManifestError::Json`] and [`ManifestError::TooManyLayers`]; [`ManifestError::Contradiction`] without a history.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if raw.fs_layers.len() > MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(raw.fs_layers.len()));
        }
        let Some(RawHistory { v1_compatibility }) = raw.history.into_iter().next() else {
            return Err(ManifestError::Contradiction("it is of schema 1 and has no history".into()));
        };
        let empty = Self::empty_layer();
        let blobs = raw.fs_layers.len();
        let layers: Vec<_> =
            raw.fs_layers.into_iter().rev().map(|layer| layer.blob_sum).filter(|blob| *blob != empty).collect();
        let config = with_platform(v1_compatibility, raw.architecture)?;
        Ok(Self { names_empty_layer: layers.len() != blobs, layers, config })
    }
}

/// `text`, a JSON object, with a platform.
fn with_platform(text: String, architecture: String) -> Result<Vec<u8>, ManifestError> {
    let mut object: Map<String, Value> = serde_json::from_str(&text).map_err(ManifestError::Json)?;
    let mut changed = false;
    for (key, value) in [("architecture", architecture), ("os", "linux".to_owned())] {
        let is_missing = object.get(key).and_then(Value::as_str).is_none_or(str::is_empty);
        if is_missing && !value.is_empty() {
            object.insert(key.to_owned(), value.into());
            changed = true;
        }
    }
    if !changed {
        return Ok(text.into_bytes());
    }
    Ok(Value::Object(object).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(name: &str) -> Digest {
        Digest::sha256_of(name.as_bytes())
    }

    fn manifest(blobs: &[Digest], compatibility: &str) -> Vec<u8> {
        let layers: Vec<_> = blobs.iter().map(|blob| json!({"blobSum": blob})).collect();
        let value = json!({"schemaVersion": 1, "name": "a/b", "tag": "t", "architecture": "arm64", "fsLayers": layers,
            "history": [{"v1Compatibility": compatibility}, {"v1Compatibility": "{\"id\":\"0\"}"}]});
        value.to_string().into_bytes()
    }

    #[test]
    fn layers_come_lowest_first_and_without_the_empty_one() {
        let (top, low) = (digest("top"), digest("low"));
        let text = r#"{"architecture": "amd64","os":"linux","config":{"Cmd":["x"]}}"#;
        let parsed = Schema1::parse(&manifest(&[top.clone(), Schema1::empty_layer(), low.clone()], text)).unwrap();
        let expected = Schema1 { layers: vec![low, top], names_empty_layer: true, config: text.as_bytes().to_vec() };
        assert_eq!(parsed, expected);
        assert_eq!(
            Schema1::empty_layer().to_string(),
            "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"
        );
    }

    #[test]
    fn a_configuration_without_a_platform_gets_the_manifests() {
        let parsed = Schema1::parse(&manifest(&[digest("a")], r#"{"id":"1","architecture":""}"#)).unwrap();
        assert_eq!(
            (parsed.names_empty_layer, parsed.config.as_slice()),
            (false, br#"{"architecture":"arm64","id":"1","os":"linux"}"#.as_slice())
        );
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for (case, bytes, expected) in [
            ("no object", manifest(&[], "[]"), "the manifest cannot be read"),
            ("no JSON", manifest(&[], "{"), "the manifest cannot be read"),
            (
                "no history",
                br#"{"fsLayers":[],"history":[]}"#.to_vec(),
                "the manifest contradicts itself: it is of schema 1 and has no history",
            ),
            ("no digest", br#"{"fsLayers":[{"blobSum":"../x"}],"history":[]}"#.to_vec(), "the manifest cannot be read"),
        ] {
            assert_eq!(Schema1::parse(&bytes).unwrap_err().to_string(), expected, "{case}");
        }
        let many = vec![digest("a"); MAX_LAYERS + 1];
        assert!(matches!(Schema1::parse(&manifest(&many, "{}")), Err(ManifestError::TooManyLayers(_))));
    }
}
