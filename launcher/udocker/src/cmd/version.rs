//! `udocker version`.

use std::process::ExitCode;

use super::Outcome;
use crate::ui::Ui;

/// Print the version.
///
/// Example: udocker version
#[derive(Debug, clap::Args)]
pub struct Args {}

/// udocker also names the tarball of its engines; ours are built in.
pub fn run(ui: Ui) -> Outcome {
    ui.result(format!("version: {}", env!("CARGO_PKG_VERSION")));
    ui.result("tarball: built in");
    ui.result("tarball_release: built in");
    Ok(ExitCode::SUCCESS)
}
