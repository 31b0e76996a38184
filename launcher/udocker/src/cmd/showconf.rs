//! `udocker showconf`.

use super::Outcome;
use crate::context::Context;

/// Print every setting, and where its value came from.
///
/// Example: udocker showconf
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

pub fn run(_args: &Args, _context: &Context) -> Outcome {
    Err(crate::refused("showconf", "another command").into())
}
