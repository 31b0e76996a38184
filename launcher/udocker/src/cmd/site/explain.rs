//! `udocker site explain`.

use std::process::ExitCode;

use udocker_site_config::{Explained, Origin};

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Print the value of a key of site.toml that is in force, and who set it.
///
/// A table stands for all its keys. Where an override gives other jobs another value, that is told too. Variables and options count as for a run by you.
///
/// Example: udocker site explain policy.default
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A key as `table.key`, or a table.
    #[arg(value_name = "KEY")]
    pub key: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let key = args.key.as_deref().ok_or_else(|| usage_text("must specify a key, as `policy.default`, or a table"))?;
    for Explained { row, elsewhere } in context.configuration.explain(key)? {
        context.ui.result(format!("{} = {}", row.key, row.value));
        context.ui.result(match row.origin {
            Origin::Default => "    built in".to_owned(),
            origin => format!("    set by {origin}"),
        });
        for (told, value) in elsewhere {
            context.ui.result(format!("    in {told}: {value}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
