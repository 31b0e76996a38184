//! `udocker images`.

use std::process::ExitCode;

use serde_json::json;

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
        for tag in store.tags()? {
            let platform = store.platform_of(&tag).map(|p| p.to_string()).unwrap_or_default();
            rows.push((store, tag, platform));
        }
    }
    if args.format == "json" {
        let list: Vec<_> = rows
            .iter()
            .map(|(store, tag, platform)| {
                json!({"name": tag.name, "tag": tag.tag, "protected": tag.protected, "platform": platform,
                       "directory": tag.directory.to_string_lossy(), "store": store.settings().name})
            })
            .collect();
        context.ui.result(serde_json::to_string_pretty(&list).expect("a JSON value of ours serialises"));
        return Ok(ExitCode::SUCCESS);
    }
    context.ui.result("REPOSITORY");
    for (store, tag, platform) in rows {
        let mark = if tag.protected { 'P' } else { '.' };
        let name = tag.display_name();
        if args.platform {
            context.ui.result(format!("{platform:<18} {mark} {name}"));
        } else {
            context.ui.result(format!("{name}    {mark}"));
        }
        if args.long {
            context.ui.result(format!(" {}", tag.directory.display()));
            for (blob, size) in store.tag_blobs(&tag)? {
                context.ui.result(format!("    /{blob} ({} MB)", if size > 0 { (size >> 20).max(1) } else { 0 }));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
