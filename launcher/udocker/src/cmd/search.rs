//! `udocker search`.

use super::{Outcome, RegistryArgs};
use crate::context::Context;

/// Search a registry for images, or list the tags of one.
///
/// Example: udocker search --list-tags docker.io/library/debian
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Print everything, without asking after each page.
    #[arg(short = 'a')]
    pub all: bool,
    /// Whole lines, however long.
    #[arg(long)]
    pub no_trunc: bool,
    /// List the tags of the repository EXPR instead.
    #[arg(long)]
    pub list_tags: bool,
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// What to search for; a registry's host may stand before it.
    #[arg(value_name = "EXPR")]
    pub expression: Option<String>,
}

pub fn run(_args: &Args, _context: &mut Context) -> Outcome {
    Err(crate::refused("search", "another command").into())
}
