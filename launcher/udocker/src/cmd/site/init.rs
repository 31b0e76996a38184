//! `udocker site init`.

use std::process::ExitCode;

use super::Outcome;
use crate::ui::Ui;

/// Print a site.toml to begin with: every key that is built, with a comment each; nothing is written.
///
/// Example: udocker site init > /etc/udocker/site.toml
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, ui: Ui) -> Outcome {
    ui.result(include_str!("example.toml").trim_end());
    Ok(ExitCode::SUCCESS)
}
