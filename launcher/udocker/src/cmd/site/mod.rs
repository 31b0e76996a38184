//! `udocker site`: what an administrator asks of the site's files and does to its stores. One file per command of it.

use std::process::ExitCode;

use super::Outcome;
use crate::context::Context;
use crate::ui::Ui;
use crate::usage_text;

mod check;
mod explain;
mod gc;
mod held;
mod init;
mod list;
mod node;
mod pin;
mod publish;
mod retire;
mod store;
mod verify;

/// Check, explain and begin the site's configuration; keep its central stores.
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
    Publish(publish::Args),
    List(list::Args),
    Pin(pin::Args),
    Retire(retire::Args),
    Gc(gc::Args),
    Verify(verify::Args),
}

/// Carries out what needs no settings, as they may be what is wrong; `None`: it needs some.
pub fn run_without_settings(args: &Args, ui: Ui) -> Option<Outcome> {
    match &args.command {
        None => Some(Err(usage_text(NO_COMMAND).into())),
        Some(Command::Check(args)) => Some(check::run(args, ui)),
        Some(Command::Init(args)) => Some(init::run(args, ui)),
        Some(_) => None,
    }
}

const NO_COMMAND: &str = "must specify a command: `udocker site --help` lists them";

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    match &args.command {
        Some(Command::Explain(args)) => explain::run(args, context),
        Some(Command::Publish(args)) => publish::run(args, context),
        Some(Command::List(args)) => list::run(args, context),
        Some(Command::Pin(args)) => pin::run(args, context),
        Some(Command::Retire(args)) => retire::run(args, context),
        Some(Command::Gc(args)) => gc::run(args, context),
        Some(Command::Verify(args)) => verify::run(args, context),
        Some(Command::Check(_) | Command::Init(_)) | None => unreachable!("answered before settings are read"),
    }
}

/// What [`check`](check::run) ends with where something is wrong: it was told already.
const WRONG: ExitCode = ExitCode::FAILURE;
