//! `udocker showconf`.

use std::process::ExitCode;

use serde_json::{Map, json};
use udocker_site_config::{Effect, Origin, Row};

use super::Outcome;
use crate::context::Context;

/// Print every setting, and where its value came from.
///
/// `KEY = VALUE`, one a line, with udocker's names; then the site's settings. A line below that begins with `#` says who
/// set the value, and what follows from it if that is less than one expects; a value without one is the default.
/// Passwords in URLs are not shown.
///
/// Example: udocker showconf
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let (udocker, site) = (context.configuration.udocker_rows(), context.configuration.site_rows());
    if args.format == "json" {
        let rows: Map<_, _> = udocker.iter().chain(&site).map(|row| (row.key.clone(), to_json(row))).collect();
        context.ui.result(serde_json::to_string_pretty(&rows).expect("a JSON value of ours serialises"));
        return Ok(ExitCode::SUCCESS);
    }
    let frame = "-".repeat(80);
    context.ui.result(&frame);
    context.ui.result("\t\tConfiguration options");
    for row in udocker.iter().chain(&site) {
        context.ui.result(format!("{} = {}", row.key, row.value));
        if let Some(remark) = remark(row) {
            context.ui.result(format!("    # {remark}"));
        }
    }
    context.ui.result(&frame);
    Ok(ExitCode::SUCCESS)
}

fn remark(row: &Row) -> Option<String> {
    if row.origin == Origin::Default {
        return None;
    }
    Some(match effect(row) {
        None => format!("set by {}", row.origin),
        Some(effect) => format!("set by {}; {effect}", row.origin),
    })
}

/// What follows from a setting, if it is not simply obeyed.
fn effect(row: &Row) -> Option<String> {
    match row.effect {
        Effect::Acts => None,
        Effect::Kept => Some("kept for an engine that is not built yet".into()),
        Effect::None(reason) => Some(format!("no effect: {reason}")),
    }
}

fn to_json(row: &Row) -> serde_json::Value {
    let effect = effect(row).unwrap_or_else(|| "acts".into());
    json!({"value": row.value, "origin": row.origin.to_string(), "effect": effect})
}
