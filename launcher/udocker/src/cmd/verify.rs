//! `udocker verify`.

use std::path::Path;
use std::process::ExitCode;

use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::image_config::ImageConfig;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::settings::Verbosity;
use udocker_core::store::{Record, StoreError, StoredForm, StoredImage, Stores, TagEntry};
use udocker_transfer::verify::verify_layer;

use super::Outcome;
use crate::context::Context;
use crate::image::parse_reference;

/// Check the layers of an image: against their digests, or, where there are none, as archives.
///
/// Example: udocker verify debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image of a store.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

/// An image is not what it should be; the texts are udocker's.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("selecting image and tag")]
    NotFound(ImageReference),
    #[error("image verification failure")]
    Failed(ImageReference),
}

impl Explain for VerifyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Failed(_) => ErrorKind::Corrupt,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound(reference) => {
                vec!["`udocker images` lists what is here".into(), format!("`udocker pull {reference}` gets it")]
            }
            Self::Failed(reference) => {
                vec![format!("`udocker rmi {reference}` removes it; then `udocker pull`, `load` or `import` it anew")]
            }
        }
    }
}

/// What was found.
#[derive(Default)]
struct Findings {
    layers: Vec<String>,
    warnings: Vec<String>,
    faults: Vec<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let reference = parse_reference(args.image.as_deref())?;
    let stores = context.stores()?;
    context.ui.info(&format!("verifying: {reference}"));
    let absent = || VerifyError::NotFound(reference.clone());
    let (store, tag) = stores.find_tag(&reference).ok_or_else(absent)?;
    let is_table = args.format == "table";
    let told = |text: &str| {
        // The result of this command is what udocker prints as information.
        if is_table && context.ui.verbosity >= Verbosity::Info {
            context.ui.result(format!("Info: {text}"));
        }
    };
    let mut findings = Findings::default();
    match store.read_image(&tag.directory) {
        Ok(Some(image)) => {
            let layers = verify_layers(&image, &mut findings, &told);
            verify_ancestry(&image, &tag.directory, &mut findings);
            if let Some(layers) = layers {
                let key = store.image_key(&tag.directory)?;
                verify_record(&stores, &image, key.as_ref(), &layers, &mut findings)?;
            }
        }
        Ok(None) => findings.faults.push("manifest is empty".into()),
        Err(error @ StoreError::Damaged { .. }) => findings.faults.push(error.to_string()),
        Err(error) => return Err(error.into()),
    }
    warn_of_strangers(&tag, &mut findings)?;
    findings.warnings.iter().for_each(|text| context.ui.warning(text));
    findings.faults.iter().for_each(|text| context.ui.error(text));
    if !is_table {
        let Findings { layers, warnings, faults } = &findings;
        let ok = faults.is_empty();
        let value = serde_json::json!({"image": reference, "ok": ok, "layers": layers, "warnings": warnings,
            "errors": faults});
        context.ui.result(serde_json::to_string_pretty(&value).expect("a JSON value of ours serialises"));
    }
    if findings.faults.is_empty() {
        told("image Ok");
        return Ok(ExitCode::SUCCESS);
    }
    Err(VerifyError::Failed(reference).into())
}

/// Reads every layer; returns the digests of their bytes, lowest first, if all are good.
fn verify_layers(image: &StoredImage, findings: &mut Findings, told: &dyn Fn(&str)) -> Option<Vec<Digest>> {
    let mut digests = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        match verify_layer(layer) {
            Ok(digest) => {
                digests.push(digest);
                if !findings.layers.contains(&layer.name) {
                    told(&format!("layer ok: {}", layer.name));
                    findings.layers.push(layer.name.clone());
                }
            }
            Err(fault) => findings.faults.push(fault.to_string()),
        }
    }
    // The configuration of version 2 is a blob like the others; it was verified when it was read.
    if let StoredForm::Manifest(_) = image.form {
        let config = Digest::sha256_of(&image.config).to_string();
        if image.layers.first().is_none_or(|layer| layer.link.with_file_name(&config).is_symlink()) {
            told(&format!("layer ok: {config}"));
            findings.layers.push(config);
        }
    }
    (digests.len() == image.layers.len()).then_some(digests)
}

/// In version 1 each layer's JSON names the one below it, where there is such a file.
fn verify_ancestry(image: &StoredImage, directory: &Path, findings: &mut Findings) {
    let StoredForm::Ancestry(_) = image.form else { return };
    let parent_of = |id: &str| -> Option<String> {
        let bytes = std::fs::read(directory.join(format!("{id}.json"))).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        Some(value.get("parent").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned())
    };
    let mut below = "";
    for layer in &image.layers {
        if let Some(parent) = parent_of(&layer.name)
            && parent != below
        {
            findings.faults.push(format!("ancestry and layers do not match {below} {parent}"));
        }
        below = &layer.name;
    }
}

/// Where the image was flattened, its tree is there, and made of these layers.
fn verify_record(
    stores: &Stores,
    image: &StoredImage,
    key: Option<&Digest>,
    layers: &[Digest],
    findings: &mut Findings,
) -> Result<(), Failure> {
    let claimed = ImageConfig::parse(&image.config).ok().and_then(|config| config.platform);
    let platform = claimed.unwrap_or_else(Platform::native);
    let mut records: Vec<(&udocker_core::store::Store, Record)> = Vec::new();
    for store in stores.iter() {
        if let Some(key) = key
            && let Some(record) = store.read_record(key, &platform)?
        {
            records.push((store, record));
        }
    }
    for (store, record) in records {
        if record.manifest != Digest::sha256_of(&image.identity(layers)) {
            findings.faults.push(format!("the layers have changed since they were extracted to {}", record.tree.hex()));
        } else if !store.tree(&record.tree).is_dir() {
            findings.warnings.push(format!("the tree {} is missing and will be made anew", record.tree.hex()));
        }
    }
    Ok(())
}

/// udocker's warnings of what it does not know in a tag's directory.
fn warn_of_strangers(tag: &TagEntry, findings: &mut Findings) -> Result<(), Failure> {
    let known = ["TAG", "v1", "v2", "PROTECT", "container.json", "ancestry", "manifest"];
    let list = std::fs::read_dir(&tag.directory).map_err(crate::usage)?;
    let mut names: Vec<_> = list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names.iter().filter(|name| !known.contains(&name.as_str())) {
        let path = tag.directory.join(name);
        let is_layer = [".json", ".layer"].iter().any(|end| name.ends_with(end)) || name.contains(':');
        if name.len() < 64 {
            findings.warnings.push(format!("unknown file in image: {}", path.display()));
        } else if !is_layer {
            findings.warnings.push(format!("unknown file in layer: {}", path.display()));
        }
    }
    Ok(())
}
