//! The general options, which stand before the command and hold for all of them.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use udocker_core::settings::Verbosity;

/// Options before the command.
#[derive(Debug, Args)]
pub struct General {
    /// Print help, of the command if one follows.
    #[arg(short = 'h', long = "help")]
    pub help: bool,
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

impl General {
    /// What the options say about messages, if anything.
    pub fn verbosity(&self) -> Option<Verbosity> {
        match (self.debug, self.quiet) {
            (true, _) => Some(Verbosity::Debug),
            (_, 0) => None,
            (_, 1) => Some(Verbosity::Messages),
            _ => Some(Verbosity::Silent),
        }
    }
}
