//! docker-archives: with `manifest.json` (Docker since 1.10, podman, udocker), and the older form without.
//!
//! ```text
//! manifest.json   [{Config, RepoTags, Layers}]          repositories   {NAME: {TAG: ID}}   ID of the top layer
//! HEX.json        the configuration                     ID/json        with `parent`, and the configuration
//! ID/layer.tar    any compression                       ID/layer.tar
//! ```

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, json};
use udocker_core::image_config::MAX_CONFIG_BYTES;
use udocker_core::manifest::{ImageManifest, MAX_LAYERS, MAX_MANIFEST_BYTES, ManifestError};
use udocker_core::reference::ImageReference;

use super::found::{Found, named, platform_of};
use super::members::Members;
use super::{ArchiveError, config_descriptor, manifest_json};
use crate::stage::Incoming;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    /// Absent or null of an image without layers.
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of an archive with `manifest.json`.
pub(super) fn images(members: &Members, name: Option<&ImageReference>) -> Result<Vec<Found>, ArchiveError> {
    let images: Vec<DockerImage> = members.json("manifest.json", MAX_MANIFEST_BYTES)?;
    let image = |image: DockerImage| {
        let config_bytes = members.read(&image.config, MAX_CONFIG_BYTES)?;
        let mut names = Vec::new();
        for tag in image.repo_tags.iter().flatten() {
            let reference: ImageReference = tag.parse()?;
            names.push(if name.is_some() { named(name, reference.tag())? } else { reference });
        }
        if names.is_empty() {
            names.push(named(name, None)?);
        }
        found(members, config_bytes, &image.layers.unwrap_or_default(), names)
    };
    images.into_iter().map(image).collect()
}

/// The images of an archive that has `repositories` only.
pub(super) fn old_images(members: &Members, name: Option<&ImageReference>) -> Result<Vec<Found>, ArchiveError> {
    let repositories: BTreeMap<String, BTreeMap<String, String>> = members.json("repositories", MAX_MANIFEST_BYTES)?;
    let mut images = Vec::new();
    for (repository, tags) in repositories {
        for (tag, top) in tags {
            let reference: ImageReference = format!("{repository}:{tag}").parse()?;
            let names = vec![if name.is_some() { named(name, reference.tag())? } else { reference }];
            let (config_bytes, layers) = old_image(members, &top)?;
            images.push(found(members, config_bytes, &layers, names)?);
        }
    }
    Ok(images)
}

/// The configuration of the top layer as that of an image, and the layers, lowest first.
fn old_image(members: &Members, top: &str) -> Result<(Vec<u8>, Vec<String>), ArchiveError> {
    let config: Value = members.json(&format!("{top}/json"), MAX_CONFIG_BYTES)?;
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    let mut id = Some(top.to_owned());
    while let Some(this) = id {
        if layers.len() == MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(layers.len() + 1).into());
        }
        let layer = format!("{this}/layer.tar");
        diff_ids.push(members.need(&layer)?.diff_id()?);
        layers.push(layer);
        let json: Value = members.json(&format!("{this}/json"), MAX_CONFIG_BYTES)?;
        id = json["parent"].as_str().filter(|parent| !parent.is_empty()).map(str::to_owned);
    }
    layers.reverse();
    diff_ids.reverse();
    Ok((super::save::image_config(config, &json!(diff_ids)), layers))
}

fn found(
    members: &Members,
    config_bytes: Vec<u8>,
    layers: &[String],
    mut names: Vec<ImageReference>,
) -> Result<Found, ArchiveError> {
    let mut blob_names = HashMap::new();
    let mut descriptors = Vec::new();
    for layer in layers {
        let descriptor = members.need(layer)?.layer()?;
        blob_names.insert(descriptor.digest.clone(), layer.clone());
        descriptors.push(descriptor);
    }
    names.dedup();
    let manifest = ImageManifest { config: config_descriptor(&config_bytes), layers: descriptors };
    let incoming = Incoming {
        manifest_bytes: manifest_json(&manifest.config, &manifest.layers),
        platform: platform_of(&config_bytes)?,
        manifest,
        index: None,
        config_bytes,
    };
    Ok(Found { incoming, names, blob_names, chosen: None })
}
