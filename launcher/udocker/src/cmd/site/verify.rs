//! `udocker site verify`.

use std::process::ExitCode;

use serde_json::json;
use udocker_transfer::verify_store::verify_store;

use super::store::StoreArg;
use super::{Outcome, WRONG};
use crate::context::Context;

/// Check a whole central store: hash its blobs, look whether the trees of its images are complete.
///
/// Nothing is changed, and nobody waits for it. Ends with 1 if anything is wrong.
///
/// Example: udocker site verify
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub store: StoreArg,
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let store = args.store.open(context)?;
    let report = verify_store(&store)?;
    let (blobs, trees, tags) = (report.blobs, report.trees, report.tags);
    if args.format == "json" {
        let value = json!({"ok": report.faults.is_empty(), "blobs": blobs, "trees": trees, "tags": tags,
            "errors": report.faults});
        context.ui.result(serde_json::to_string_pretty(&value).expect("a JSON value of ours serialises"));
    } else {
        report.faults.iter().for_each(|fault| context.ui.result(fault));
        context.ui.result(format!("{blobs} blobs, {trees} trees and {tags} tags are good"));
    }
    match report.faults.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(WRONG),
    }
}
