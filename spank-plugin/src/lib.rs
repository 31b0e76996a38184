//! The Slurm SPANK plugin: `--udocker-*` options of srun, sbatch and salloc, and `udocker-launch` before the argv of a task.
//!
//! ```text
//! client    options, variables, an inherited request ──> one request, in SLURM_UDOCKER_REQUEST of the job's environment
//! node      that request names its job from now on   ──> the launcher starts the task; or the task ends with a message
//! ```
//! It is loaded into daemons of root, and does nothing there but register its options and, when a job has ended, have its user
//! clean up: whatever can fail is decided on the client, or in the task's own process after it has become its user's.
#![cfg_attr(test, allow(dead_code, reason = "what Slurm calls, which tests of the parts have none of"))]

mod client;
mod litter;
mod multi_prog;
mod prolog;
mod task;

use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use udocker_core::env_vars::SLURM_UDOCKER_REQUEST;
use udocker_core::error::{Explain, Failure};
use udocker_core::run::{JOB_OPTIONS, JobOption, OptionError, OptionKind, RunRequest, Wish};
use udocker_spank_sys::{
    Client, OptionText, Plugin, Refusal, Spank, can_prepend, process_variables, set_variable, unset_variable,
};

/// What a client was given, in that order: option and value.
static GIVEN: Mutex<Vec<(&JobOption, OsString)>> = Mutex::new(Vec::new());

/// The environment that a client began with: of srun's components each is told as if it were the last.
static BEGAN_WITH: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();

/// A node was told that its step was given options.
static ASKED: AtomicBool = AtomicBool::new(false);
/// One of them is `--udocker-image=none`.
static OPTED_OUT: AtomicBool = AtomicBool::new(false);

/// Slurm's own copies of our options in environments. A request says more than the last value of each.
const SLURM_COPIES: [&str; 2] = ["_SLURM_SPANK_OPTION_udocker_*", "SLURM_SPANK__SLURM_SPANK_OPTION_udocker_*"];

struct Udocker;

#[cfg(not(test))]
udocker_spank_sys::plugin!(b"udocker\0", Udocker);

/// `error` as all of the plugin's messages are.
fn report(error: impl Explain) -> String {
    format!("udocker: {}", Failure::from(error).report())
}

impl Plugin for Udocker {
    fn options() -> Vec<OptionText> {
        let text = |option: &JobOption| OptionText {
            name: format!("udocker-{}", option.name),
            value: (option.kind != OptionKind::Flag).then(|| option.value.to_owned()),
            usage: if option.is_built() {
                option.help.to_owned()
            } else {
                format!("{} (not in this version)", option.help)
            },
        };
        JOB_OPTIONS.iter().map(text).collect()
    }

    fn begin(_: Client) {
        for (name, _) in process_variables() {
            if udocker_core::env_vars::matches_any(&SLURM_COPIES, name.as_encoded_bytes()) {
                unset_variable(&name);
            }
        }
    }

    fn option(index: usize, value: Option<&OsStr>, remote: bool) -> Result<(), String> {
        let option = JOB_OPTIONS.get(index).ok_or_else(|| format!("udocker: there is no option {index}"))?;
        let value = value.unwrap_or_default();
        if remote {
            ASKED.store(true, Ordering::Relaxed);
            if option.name == "image" {
                OPTED_OUT.store(value == "none", Ordering::Relaxed);
            }
            return Ok(());
        }
        option.apply(&mut Wish::over(RunRequest::of_job("")), value).map_err(|error| match error {
            OptionError::NotBuilt(name) => format!("udocker: option --udocker-{name} is not supported by this version"),
            other => report(other),
        })?;
        GIVEN.lock().unwrap_or_else(PoisonError::into_inner).push((option, value.to_owned()));
        Ok(())
    }

    fn options_read(client: Client, spank: &Spank<'_>) -> Result<(), String> {
        let given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        let env = BEGAN_WITH.get_or_init(process_variables);
        let change = client::decide(client, &given, env).map_err(report)?;
        change.unset.iter().for_each(|name| unset_variable(OsStr::new(name)));
        if let Some(request) = change.request {
            set_variable(SLURM_UDOCKER_REQUEST, &request);
            prolog::tell(spank, &request).map_err(|error| format!("udocker: cannot tell the job's prolog: {error}"))?;
        }
        Ok(())
    }

    fn before_step(spank: &Spank<'_>) -> Result<(), String> {
        if can_prepend() || std::env::var_os(SLURM_UDOCKER_REQUEST).is_none() {
            return Ok(());
        }
        let argv = spank.argv().map_err(|error| format!("udocker: cannot tell the step's command: {error}"))?;
        multi_prog::check(&argv).map_err(report)
    }

    fn task_init(spank: &Spank<'_>, words: &[&OsStr]) -> Result<(), Refusal> {
        task::init(spank, words, ASKED.load(Ordering::Relaxed) && !OPTED_OUT.load(Ordering::Relaxed))
    }

    fn job_ended(spank: &Spank<'_>, words: &[&OsStr]) {
        litter::after_job(spank, words);
    }

    fn node_begins(words: &[&OsStr]) {
        litter::at_start(words);
    }
}
