//! The command line as clap sees it: general options, then one command.
//!
//! Spellings are udocker 1.3's (docs: compatibility). General options end at the command; a command's options end at its
//! first argument where the rest belongs to a program.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cmd;

/// Pulls Docker and OCI images and runs them in user space, without privileges.
#[derive(Debug, Parser)]
#[command(
    name = "udocker",
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_override_self = true,
    subcommand_required = false,
    after_help = "`udocker COMMAND --help` explains a command."
)]
pub struct Cli {
    #[command(flatten)]
    pub general: General,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options before the command.
#[derive(Debug, Args)]
pub struct General {
    /// Print the version.
    #[arg(short = 'V', long = "version")]
    pub version: bool,
    /// Tell what is done, at length.
    #[arg(short = 'D', long, action = ArgAction::SetTrue)]
    pub debug: bool,
    /// Errors only; twice: nothing but the exit status.
    #[arg(short = 'q', long, action = ArgAction::Count)]
    pub quiet: u8,
    /// Use the store in this directory.
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// Read this configuration file as well.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Allow plain http and certificates that do not verify.
    #[arg(long)]
    pub insecure: bool,
    /// Run although the caller is root.
    #[arg(long)]
    pub allow_root: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Search(cmd::search::Args),
    Pull(cmd::pull::Args),
    Create(cmd::create::Args),
    Run(Box<cmd::run::Args>),
    Images(cmd::images::Args),
    Ps(cmd::ps::Args),
    Name(cmd::name::Args),
    Rename(cmd::rename::Args),
    Rmname(cmd::rmname::Args),
    Clone(cmd::clone::Args),
    Rm(cmd::rm::Args),
    Rmi(cmd::rmi::Args),
    Tag(cmd::tag::Args),
    Import(cmd::import::Args),
    Export(cmd::export::Args),
    Load(cmd::load::Args),
    Save(cmd::save::Args),
    Inspect(cmd::inspect::Args),
    Verify(cmd::verify::Args),
    Manifest(cmd::manifest::Args),
    Protect(cmd::protect::Args),
    Unprotect(cmd::unprotect::Args),
    Mkrepo(cmd::mkrepo::Args),
    Setup(cmd::setup::Args),
    Login(cmd::login::Args),
    Logout(cmd::logout::Args),
    Install(cmd::install::Args),
    Showconf(cmd::showconf::Args),
    Version(cmd::version::Args),
    /// Print help, of a command if one is named.
    Help {
        /// The command.
        command: Option<String>,
    },
}
