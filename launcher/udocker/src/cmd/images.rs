//! `udocker images`.

use std::process::ExitCode;

use serde_json::json;
use udocker_core::digest::Digest;
use udocker_core::error::Failure;
use udocker_core::store::{HeldImage, Store, Stores, TagEntry};

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
    /// Tell of each in which store it lies, those without a name as well.
    #[arg(long)]
    pub all_stores: bool,
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
    if args.all_stores {
        return all_stores(args, &stores, context);
    }
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

/// An image as a store holds it.
struct Held<'a> {
    store: &'a Store,
    name: String,
    image: HeldImage,
    /// The store before this one that has an image of the same name, which is found first.
    hidden_by: Option<String>,
}

/// One line for each name, and for each image without one.
fn all_stores(args: &Args, stores: &Stores, context: &Context) -> Outcome {
    let mut rows: Vec<Held<'_>> = Vec::new();
    for store in stores.iter() {
        let before = rows.len();
        for image in store.held_images()? {
            let names: Vec<_> = image.tags.iter().map(TagEntry::display_name).collect();
            // A mark of an image that is gone, or was never here, is no image.
            let unnamed = (names.is_empty() && !image.records.is_empty()).then(|| image.manifest.to_string());
            for name in names.into_iter().chain(unnamed) {
                let first = rows[..before].iter().find(|row| row.name == name);
                let hidden_by = first.map(|row| row.store.settings().name.clone());
                rows.push(Held { store, name, image: image.clone(), hidden_by });
            }
        }
    }
    if args.format == "json" {
        let list: Vec<_> = rows.iter().map(held_as_json).collect();
        context.ui.result(serde_json::to_string_pretty(&list).expect("a JSON value of ours serialises"));
    } else if args.quiet {
        rows.iter().for_each(|row| context.ui.result(&row.name));
    } else {
        let mut table = vec![["STORE", "REPOSITORY", "DIGEST", "SIZE", ""].map(str::to_owned)];
        table.extend(rows.iter().map(|row| {
            [
                row.store.settings().name.clone(),
                row.name.clone(),
                row.image.manifest.to_string(),
                row.bytes().map_or_else(|| "-".to_owned(), crate::ui::bytes),
                row.hidden_by.as_ref().map_or_else(String::new, |store| format!("hidden by {store}")),
            ]
        }));
        crate::ui::aligned(&table).iter().for_each(|line| context.ui.result(line));
    }
    Ok(ExitCode::SUCCESS)
}

impl Held<'_> {
    /// Bytes of its tree; `None` if this store never extracted it.
    fn bytes(&self) -> Option<u64> {
        self.image.records.first().map(|(_, record)| record.tree_bytes)
    }
}

/// See docs/reference/json.md.
fn held_as_json(row: &Held<'_>) -> serde_json::Value {
    json!({
        "store": row.store.settings().name,
        "path": row.store.path().to_string_lossy(),
        "name": row.name,
        "digest": row.image.manifest,
        "bytes": row.bytes(),
        "hidden_by": row.hidden_by,
    })
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
