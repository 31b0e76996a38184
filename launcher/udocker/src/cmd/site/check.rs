//! `udocker site check`.

use std::path::PathBuf;
use std::process::ExitCode;

use udocker_core::error::Explain;
use udocker_core::run::{Caller, UserSpec};
use udocker_core::settings::Settings;
use udocker_site_config::{SITE_DIR, Sources, default_run_dirs};

use super::{Outcome, WRONG, node};
use crate::ui::Ui;

/// Tell all that is wrong with the site's files, one line each.
///
/// Without PATH those in /etc/udocker, which must belong to root. A named file or directory may belong to you, as before it
/// is put there; a directory has site.toml and conf.d/*.toml. Ends with 1 if anything is wrong, or if there is no file.
///
/// With `--node` this machine is checked too: modes, run directory, and Slurm's plugin, launcher and TaskProlog. Run it as root on each kind of node. A site that has no file is no mistake then.
///
/// Example: udocker site check ./site.toml
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file, or a directory with site.toml.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Check this machine too.
    #[arg(long)]
    pub node: bool,
}

pub fn run(args: &Args, ui: Ui) -> Outcome {
    let caller = Caller::gather(std::env::vars_os().collect(), &UserSpec::Caller);
    let sources = Sources::of_caller(&caller);
    let found = udocker_site_config::check(&sources, args.path.as_deref())?;
    for problem in &found.problems {
        let hints: String = problem.hints().iter().map(|hint| format!("; hint: {hint}")).collect();
        ui.result(format!("{problem}{hints}"));
    }
    let mut is_good = found.problems.is_empty();
    if is_good && found.files.is_empty() {
        let path = args.path.as_deref().unwrap_or(SITE_DIR.as_ref());
        ui.result(format!("{}: no site.toml and no conf.d/*.toml", path.display()));
        is_good = args.node && args.path.is_none();
    } else if is_good {
        found.files.iter().for_each(|file| ui.result(format!("{}: good", file.display())));
    }
    if args.node {
        // What is wrong with the site's files was told; the machine is checked by what is built in then.
        let settings = match udocker_site_config::load(&sources) {
            Ok(loaded) => loaded.settings,
            Err(error) if found.problems.is_empty() => return Err(error.into()),
            Err(_) => Settings { run_dirs: default_run_dirs(caller.uid), ..Settings::default() },
        };
        is_good &= node::check(&settings, |line| ui.result(line));
    }
    Ok(if is_good { ExitCode::SUCCESS } else { WRONG })
}
