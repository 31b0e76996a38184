//! `udocker site`: what an administrator asks of the site's files. One file per command of it.

use std::process::ExitCode;

use super::Outcome;
use crate::context::Context;
use crate::ui::Ui;
use crate::usage_text;

mod check;
mod explain;
mod init;
mod node;

/// Check, explain and begin the site's configuration.
///
/// Example: udocker site check
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What there is to do with it.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Check(check::Args),
    Explain(explain::Args),
    Init(init::Args),
}

/// Carries out what needs no settings, as they may be what is wrong; `None`: it needs some.
pub fn run_without_settings(args: &Args, ui: Ui) -> Option<Outcome> {
    match &args.command {
        None => Some(Err(usage_text("must specify a command: `site check`, `site explain KEY` or `site init`").into())),
        Some(Command::Check(args)) => Some(check::run(args, ui)),
        Some(Command::Init(args)) => Some(init::run(args, ui)),
        Some(Command::Explain(_)) => None,
    }
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    match &args.command {
        Some(Command::Explain(args)) => explain::run(args, context),
        Some(Command::Check(_) | Command::Init(_)) | None => unreachable!("answered before settings are read"),
    }
}

/// What [`check`](check::run) ends with where something is wrong: it was told already.
const WRONG: ExitCode = ExitCode::FAILURE;
