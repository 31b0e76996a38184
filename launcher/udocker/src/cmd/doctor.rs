//! `udocker doctor`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use udocker_core::engine::native::{probe_overlay, probe_user_namespace};
use udocker_core::engine::{ModeNotBuilt, ptrace};
use udocker_core::error::Failure;
use udocker_core::run::ExecMode;
use udocker_core::settings::Settings;

use super::Outcome;
use crate::context::Context;

/// Show which modes work on this machine, and what helps where one does not.
///
/// Each is tried, nothing is read from what earlier runs noted. The status is 1 if no mode works.
///
/// Example: udocker doctor
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

/// One thing that was tried.
pub struct Trial {
    pub name: String,
    pub what: &'static str,
    /// Why it does not work.
    pub failure: Option<Failure>,
}

/// What no version of ours can do yet.
const NOT_BUILT: &str = "not in this version";

impl Trial {
    fn new(name: impl ToString, what: &'static str, tried: Result<(), Failure>) -> Self {
        Self { name: name.to_string(), what, failure: tried.err() }
    }

    /// Whether there is something to try.
    pub fn is_built(&self) -> bool {
        self.what != NOT_BUILT
    }
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let trials = trials(&context.settings);
    if args.format == "json" {
        let rows: Vec<_> = trials.iter().map(as_json).collect();
        context.ui.result(serde_json::to_string_pretty(&rows).expect("a JSON value of ours serialises"));
    } else {
        context.ui.result(format!("{:<11} {:<5} {}", "MODE", "WORKS", "WHAT IT IS"));
        trials.iter().for_each(|trial| context.ui.result(as_text(trial)));
    }
    let works = trials.iter().any(|trial| trial.failure.is_none());
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tries all modes, on the file system of the first store.
pub fn trials(settings: &Settings) -> Vec<Trial> {
    let store = settings.stores.first().map_or_else(|| PathBuf::from("/"), |store| store.path.clone());
    // An empty store need not exist yet; its overlays will lie on the file system of a directory above it.
    let lower = store.ancestors().find(|path| path.is_dir()).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let traced = || ptrace::probe().map_err(Failure::from);
    let mut trials = vec![
        Trial::new(ExecMode::N1, "user namespaces", probe_user_namespace().map_err(Failure::from)),
        Trial::new("N1 overlay", "writable layers over the store", probe_overlay(&lower).map_err(Failure::from)),
        Trial::new(ExecMode::P1, "a tracer", traced()),
        Trial::new(ExecMode::P2, "a tracer", traced()),
    ];
    let rest = ExecMode::ALL.into_iter().filter_map(|mode| Some((mode, ModeNotBuilt::check(mode).err()?)));
    trials.extend(rest.map(|(mode, error)| Trial::new(mode, NOT_BUILT, Err(error.into()))));
    trials
}

fn as_text(trial: &Trial) -> String {
    let works = if trial.failure.is_none() { "yes" } else { "no" };
    let mut text = format!("{:<11} {works:<5} {}", trial.name, trial.what);
    // What cannot be tried needs no second line.
    if let Some(failure) = trial.failure.as_ref().filter(|_| trial.is_built()) {
        failure.report().lines().for_each(|line| text.push_str(&format!("\n  {line}")));
    }
    text
}

fn as_json(trial: &Trial) -> serde_json::Value {
    let why = trial.failure.as_ref().map(|failure| failure.report().lines().next().unwrap_or_default().to_owned());
    let hints = trial.failure.as_ref().map(Failure::hints).unwrap_or_default();
    json!({"mode": trial.name, "what": trial.what, "works": trial.failure.is_none(), "why": why, "hints": hints})
}
