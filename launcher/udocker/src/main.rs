//! The command line that replaces udocker.
//!
//! `main` parses and reports; each command is a file in `cmd`. Results go to stdout, all else to stderr. A run ends in
//! [`udocker_core::engine::execute`], in this process: phase one (fetch, extract, threads) is over before phase two begins.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "comments on options are their help texts, with `[default: …]` and the like"
)]

mod cli;
mod cmd;
mod context;
mod general;
mod image;
mod json;
mod monitor;
mod submission;
mod syntax;
mod terminal;
mod ui;
mod words;

use std::process::ExitCode;

use clap::FromArgMatches;
use udocker_core::error::{ErrorKind, Explain};

use cli::{Cli, Command};
use context::Context;
use ui::Ui;

/// The command line is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String, Vec<String>);

impl Explain for UsageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hints(&self) -> Vec<String> {
        self.1.clone()
    }
}

/// An error of a parser as one of usage.
pub fn usage(error: impl std::fmt::Display) -> UsageError {
    UsageError(error.to_string(), Vec::new())
}

/// A usage error in words.
pub fn usage_text(text: &str) -> UsageError {
    UsageError(text.to_owned(), Vec::new())
}

/// A part that is not built.
#[derive(Debug, thiserror::Error)]
#[error("{option} is not supported by this version")]
pub struct Unsupported {
    option: String,
    instead: String,
}

impl Explain for Unsupported {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
    fn hints(&self) -> Vec<String> {
        vec![format!("use {}", self.instead)]
    }
}

/// An option whose part is not built: refused by name, never accepted.
pub fn refused(option: &str, instead: &str) -> Unsupported {
    Unsupported { option: option.to_owned(), instead: instead.to_owned() }
}

fn main() -> ExitCode {
    let whole = cli::command();
    let words = words::without_empty(&whole, std::env::args_os().collect());
    let parsed = whole.try_get_matches_from(&words).and_then(|matches| {
        let named = matches.subcommand_name().map(str::to_owned);
        Cli::from_arg_matches(&matches).map(|cli| (cli, named))
    });
    let (mut cli, named) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return syntax::report(&error, &words),
    };
    // Docker's `pull -q` is our `-q pull`.
    if let Some(Command::Pull(args)) = &cli.command {
        cli.general.quiet += u8::from(args.quiet);
    }
    let ui = Ui { verbosity: cli.general.verbosity().unwrap_or_default() };
    if cli.general.version {
        return version(ui);
    }
    let command = match cli.command {
        None => return help(ui, None),
        Some(_) if cli.general.help => return help(ui, named.as_deref()),
        Some(Command::Help { command }) => return help(ui, command.as_deref()),
        Some(Command::Version(_)) => return version(ui),
        Some(command) => command,
    };
    let site = if let Command::Site(args) = &command { Some(args) } else { None };
    // The site's files are root's.
    if rustix::process::geteuid().is_root() && !cli.general.allow_root && site.is_none() {
        ui.error("do not run as root !\n  hint: `udocker --allow-root …` runs all the same");
        return ExitCode::FAILURE;
    }
    // A run fails with Docker's statuses, a wrong command line with 1 as every command.
    let is_run = matches!(command, Command::Run(_));
    let without = site.and_then(|args| cmd::site::run_without_settings(args, ui));
    let outcome = without.unwrap_or_else(|| {
        let mut context = Context::load(&cli.general)?;
        dispatch(command, &mut context)
    });
    match outcome {
        Ok(status) => status,
        Err(failure) => {
            let started = !is_run || failure.kind() == ErrorKind::Usage;
            ui.failed(&failure, if started { 1 } else { cmd::run::NOT_STARTED })
        }
    }
}

fn dispatch(command: Command, context: &mut Context) -> cmd::Outcome {
    match command {
        Command::Search(args) => cmd::search::run(&args, context),
        Command::Pull(args) => cmd::pull::run(&args, context),
        Command::Create(args) => cmd::create::run(&args, context),
        Command::Doctor(args) => cmd::doctor::run(&args, context),
        Command::Exec(args) => cmd::exec::run(&args, context),
        Command::Run(args) => cmd::run::run(&args, context),
        Command::Images(args) => cmd::images::run(&args, context),
        Command::Ps(args) => cmd::ps::run(&args, context),
        Command::Name(args) => cmd::name::run(&args, context),
        Command::Rename(args) => cmd::rename::run(&args, context),
        Command::Rmname(args) => cmd::rmname::run(&args, context),
        Command::Clone(args) => cmd::clone::run(&args, context),
        Command::Rm(args) => cmd::rm::run(&args, context),
        Command::Rmi(args) => cmd::rmi::run(&args, context),
        Command::Tag(args) => cmd::tag::run(&args, context),
        Command::Import(args) => cmd::import::run(&args, context),
        Command::Export(args) => cmd::export::run(&args, context),
        Command::Load(args) => cmd::load::run(&args, context),
        Command::Save(args) => cmd::save::run(&args, context),
        Command::Inspect(args) => cmd::inspect::run(&args, context),
        Command::Verify(args) => cmd::verify::run(&args, context),
        Command::Manifest(args) => cmd::manifest::run(&args, context),
        Command::Protect(args) => cmd::protect::run(&args, context),
        Command::Unprotect(args) => cmd::unprotect::run(&args, context),
        Command::Mkrepo(args) => cmd::mkrepo::run(&args, context),
        Command::Setup(args) => cmd::setup::run(&args, context),
        Command::Login(args) => cmd::login::run(&args, context),
        Command::Logout(args) => cmd::logout::run(&args, context),
        Command::Install(args) => cmd::install::run(&args, context),
        Command::Showconf(args) => cmd::showconf::run(&args, context),
        Command::Site(args) => cmd::site::run(&args, context),
        Command::Resolve(args) => cmd::resolve::run(&args, context),
        Command::Stage(args) => cmd::stage::run(&args, context),
        Command::Version(_) | Command::Help { .. } => unreachable!("answered before settings are read"),
    }
}

fn version(ui: Ui) -> ExitCode {
    cmd::version::run(ui).unwrap_or(ExitCode::FAILURE)
}

fn help(ui: Ui, command: Option<&str>) -> ExitCode {
    let mut whole = cli::command();
    // Else the usage of a command would not begin with our name.
    whole.build();
    let text = match command {
        None => whole.render_long_help(),
        Some(name) => match whole.find_subcommand_mut(name) {
            Some(found) => found.render_long_help(),
            None => {
                ui.error(&format!("invalid command: {name}"));
                return ExitCode::FAILURE;
            }
        },
    };
    ui.result(text.to_string().trim_end());
    ExitCode::SUCCESS
}
