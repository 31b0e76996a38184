//! `udocker images`.

use std::process::ExitCode;

use serde_json::json;
use udocker_core::digest::Digest;
use udocker_core::error::Failure;
use udocker_core::store::{Store, TagEntry};

use udocker_core::settings::Verbosity;

use super::Outcome;
use crate::context::Context;

/// List the images of all stores.
///
/// Example: udocker images -l
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Add the directory and the blobs of each.
    #[arg(short = 'l')]
    pub long: bool,
    /// Add the platform of each.
    #[arg(short = 'p')]
    pub platform: bool,
    /// Ignored.
    #[arg(long, hide = true)]
    pub no_trunc: bool,
    /// Ignored.
    #[arg(short = 'a', long, hide = true)]
    pub all: bool,
    /// Names only, one a line.
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

/// Sorted by name within each store; udocker lists as its directories are read.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let stores = context.stores()?;
    if args.quiet {
        for store in stores.iter() {
            store.tags()?.iter().for_each(|tag| context.ui.result(tag.display_name()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for store in stores.iter() {
        rows.extend(store.tags()?.into_iter().map(|tag| (store, tag)));
    }
    if args.format == "json" {
        let list: Result<Vec<_>, Failure> = rows.iter().map(|(store, tag)| as_json(store, tag)).collect();
        context.ui.result(serde_json::to_string_pretty(&list?).expect("a JSON value of ours serialises"));
        return Ok(ExitCode::SUCCESS);
    }
    if context.ui.verbosity >= Verbosity::Info {
        context.ui.result("REPOSITORY");
    }
    for (store, tag) in rows {
        let mark = if tag.protected { 'P' } else { '.' };
        let name = tag.display_name();
        if args.platform {
            let platform = store.claimed_platform(&tag.directory);
            context.ui.result(format!("{platform:<18.18} {mark} {name}"));
        } else {
            context.ui.result(format!("{name}    {mark}"));
        }
        if args.long {
            context.ui.result(format!(" {}", tag.directory.display()));
            for (blob, size) in store.tag_blobs(&tag)? {
                context.ui.result(format!("    /{blob} ({} MB)", size >> 20));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// See docs/reference/json.md.
fn as_json(store: &Store, tag: &TagEntry) -> Result<serde_json::Value, Failure> {
    let digest = std::fs::read(tag.directory.join("manifest")).ok().map(|bytes| Digest::sha256_of(&bytes));
    let blobs: Vec<_> =
        store.tag_blobs(tag)?.into_iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
    Ok(json!({
        "name": tag.name,
        "tag": tag.tag,
        "protected": tag.protected,
        "platform": store.claimed_platform(&tag.directory),
        "digest": digest,
        "directory": tag.directory.to_string_lossy(),
        "store": store.settings().name,
        "blobs": blobs,
    }))
}
