//! `udocker site publish`.

use std::process::ExitCode;

use udocker_core::store::ChangedEntry;
use udocker_core::text::escape;
use udocker_transfer::publish::publish;

use super::Outcome;
use super::store::StoreArg;
use crate::cmd::RegistryArgs;
use crate::cmd::pull::parse_platform;
use crate::context::Context;
use crate::image::parse_reference;
use crate::ui;

/// Pull an image into a central store, ready to run for everybody who reads the store.
///
/// The tag moves last, at once. What runs goes on, and jobs that named the old image by its digest find it until `udocker site gc` deletes it. Whatever ends a publish, it may be repeated. The store is made if it is missing.
///
/// Example: udocker site publish docker.io/library/debian:12
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub store: StoreArg,
    /// Take the image for this platform [default: this machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// NAME[:TAG] or NAME@DIGEST.
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

/// So many paths are named of those that everybody can read now.
const NAMED: usize = 3;

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    args.registry.apply(&mut context.settings)?;
    let reference = parse_reference(args.image.as_deref())?;
    let platform = parse_platform(args.platform.as_deref())?;
    let store = args.store.create(context)?;
    let progress = context.ui.progress();
    let published = publish(&store, &reference, &platform, &context.settings, progress.as_ref())?;
    let record = &published.record;
    if !published.opened.is_empty() {
        context.ui.warning(&told_opened(&published.opened));
    }
    if let Some(old) = &published.replaced {
        context.ui.info(&format!("retired {old}, which had this name"));
    }
    context.ui.info(&format!(
        "published {reference} for {} in {}: {} layers, {} in {} entries",
        record.platform,
        store.path().display(),
        record.layers,
        ui::bytes(record.tree_bytes),
        record.entries,
    ));
    context.ui.result(record.index.as_ref().unwrap_or(&record.manifest).to_string());
    Ok(ExitCode::SUCCESS)
}

fn told_opened(opened: &[ChangedEntry]) -> String {
    let named: Vec<_> = opened.iter().take(NAMED).map(|entry| format!("/{}", escape(&entry.path))).collect();
    let more = if opened.len() > NAMED { ", …" } else { "" };
    format!(
        "{} files and directories that the image keeps private can be read by everybody who reads the store: {}{more}",
        opened.len(),
        named.join(", ")
    )
}
