//! `udocker site check`.

use std::path::PathBuf;
use std::process::ExitCode;

use udocker_core::error::Explain;
use udocker_core::run::{Caller, UserSpec};
use udocker_site_config::{SITE_DIR, Sources};

use super::{Outcome, WRONG};
use crate::ui::Ui;

/// Tell all that is wrong with the site's files, one line each.
///
/// Without PATH those in /etc/udocker, which must belong to root. A named file or directory may belong to you, as before it
/// is put there; a directory has site.toml and conf.d/*.toml. Ends with 1 if anything is wrong, or if there is no file.
///
/// Example: udocker site check ./site.toml
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file, or a directory with site.toml.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
}

pub fn run(args: &Args, ui: Ui) -> Outcome {
    let caller = Caller::gather(std::env::vars_os().collect(), &UserSpec::Caller);
    let found = udocker_site_config::check(&Sources::of_caller(&caller), args.path.as_deref())?;
    for problem in &found.problems {
        let hints: String = problem.hints().iter().map(|hint| format!("; hint: {hint}")).collect();
        ui.result(format!("{problem}{hints}"));
    }
    match found.problems.len() {
        0 if found.files.is_empty() => {
            let path = args.path.as_deref().unwrap_or(SITE_DIR.as_ref());
            ui.result(format!("{}: no site.toml and no conf.d/*.toml", path.display()));
            Ok(WRONG)
        }
        0 => {
            found.files.iter().for_each(|file| ui.result(format!("{}: good", file.display())));
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(WRONG),
    }
}
