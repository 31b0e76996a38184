//! The Slurm SPANK plugin: `--udocker-*` options of srun, sbatch and salloc, and `udocker-launch` before the argv of a task.
//!
//! ```text
//! client    options, variables, profiles, an inherited request ──> one request, with the digest of its image if the site
//!           wants that, in SLURM_UDOCKER_REQUEST of the job's environment
//! node      that request names its job from now on   ──> the launcher starts the task; or the task ends with a message
//! ```
//! It is loaded into daemons of root, and does nothing there but register its options and, when a job has ended, have its user
//! clean up: whatever can fail is decided on the client, or in the task's own process after it has become its user's.
#![cfg_attr(test, allow(dead_code, reason = "what Slurm calls, which tests of the parts have none of"))]

mod client;
mod line;
mod litter;
mod multi_prog;
mod prolog;
mod store;
mod submit;
mod task;

use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use udocker_core::env_vars::{SLURM_UDOCKER_CONFIG, SLURM_UDOCKER_REQUEST};
use udocker_core::error::{Explain, Failure};
use udocker_core::run::{Caller, JOB_OPTIONS, JobOption, OptionError, OptionKind, RunRequest, Said, UserSpec, Wish};
use udocker_site_config::{ConfigError, Sources};
use udocker_spank_sys::{
    Client, OptionText, Plugin, Refusal, Spank, can_prepend, command_words, end_client, has_option, info,
    process_variables, program_name, set_variable, unset_variable,
};

use client::{ClientError, Lost};
use line::Line;
use multi_prog::MultiProgError;

/// What a client was given, in that order: option and value.
static GIVEN: Mutex<Vec<(&JobOption, OsString)>> = Mutex::new(Vec::new());

/// The environment that a client began with: of srun's components each is told as if it were the last.
static BEGAN_WITH: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();

/// What was asked of the toolkit last, and its answer: of a heterogeneous job all components have one image, and one digest.
static ANSWERED: Mutex<Option<(RunRequest, RunRequest)>> = Mutex::new(None);

/// How many of [`GIVEN`] belong to components of the job that were told already; `None`: none was.
static TOLD: Mutex<Option<usize>> = Mutex::new(None);

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

/// What the profile `name` asks for: of the user's, else of the site's, as the plugin's line says where that is.
fn profile(name: &OsStr, env: &[(OsString, OsString)], words: &[&OsStr]) -> Result<Vec<Said>, ConfigError> {
    let mut env = env.to_vec();
    env.retain(|(name, _)| name != SLURM_UDOCKER_CONFIG);
    // A word that says nothing is told when the request is sent.
    if let Some(path) = Line::of(words).ok().and_then(|line| line.config) {
        env.push((SLURM_UDOCKER_CONFIG.into(), path.into()));
    }
    udocker_site_config::profile(name, &Sources::of_caller(&Caller::gather(env, &UserSpec::Caller)))
}

/// `request` as the toolkit answers it.
fn answered(line: &Line, client: Client, request: RunRequest) -> Result<RunRequest, String> {
    let mut last = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((asked, answer)) = last.as_ref()
        && *asked == request
    {
        return Ok(answer.clone());
    }
    let mut tell = |text: &str| info(&format!("udocker: {text}"));
    let answer = submit::resolve(line, client, request.clone(), &mut tell).map_err(report)?;
    Ok(last.insert((request, answer)).1.clone())
}

impl Plugin for Udocker {
    fn options() -> Vec<OptionText> {
        let text = |option: &JobOption| OptionText {
            name: format!("udocker-{}", option.name),
            value: (option.kind != OptionKind::Flag).then(|| option.value.to_owned()),
            usage: if option.is_built() || option.is_of_reader() {
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
        if let Some(lost) = Lost::of(&program_name(), |_| false) {
            return Err(report(ClientError::Lost(lost)));
        }
        // A profile is read once all options are known.
        let mut wish = Wish::over(RunRequest::of_job(""));
        let applied = if option.is_of_reader() { Ok(()) } else { option.apply(&mut wish, value) };
        applied.map_err(|error| match error {
            OptionError::NotBuilt(name) => format!("udocker: option --udocker-{name} is not supported by this version"),
            other => report(other),
        })?;
        GIVEN.lock().unwrap_or_else(PoisonError::into_inner).push((option, value.to_owned()));
        Ok(())
    }

    fn options_read(client: Client, spank: &Spank<'_>, words: &[&OsStr]) -> Result<(), String> {
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        let program = program_name();
        {
            let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
            let own = given.split_off(told.unwrap_or(0));
            // What sbatch sends is the environment as it was after the first.
            let is_sent = told.is_some() && program == "sbatch";
            let news = client::news_of(&given, own, is_sent).map_err(report)?;
            given.extend(news);
            *told = Some(given.len());
        }
        let env = BEGAN_WITH.get_or_init(process_variables);
        let change = client::decide(client, &given, env, &|name| profile(name, env, words)).map_err(report)?;
        change.unset.iter().for_each(|name| unset_variable(OsStr::new(name)));
        let Some(request) = change.request else { return Ok(()) };
        // The steps of an allocation without a shell have the variables of whoever starts them.
        let is_lost = |lost: &Lost| *lost != Lost::NoShell || !given.is_empty();
        if let Some(lost) = Lost::of(&program, has_option).filter(is_lost) {
            return Err(report(ClientError::Lost(lost)));
        }
        if client == Client::Starter && !can_prepend() && has_option(c"multi-prog") {
            // Before there is a step, which srun would leave behind.
            return Err(report(MultiProgError::of(&command_words())));
        }
        let line = Line::of(words).map_err(report)?;
        store::carry(client);
        let request = if change.asks { answered(&line, client, *request)? } else { *request };
        if let Some(said) = change.explain {
            let mut words = command_words();
            if words.is_empty() {
                // As salloc does.
                words.push(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
            }
            end_client(submit::explain(&line, &request, &said, &words).map_err(report)?);
        }
        let text = request.to_json().map_err(|error| report(ClientError::Request(error)))?;
        set_variable(SLURM_UDOCKER_REQUEST, &text);
        prolog::tell(spank, &request).map_err(|error| format!("udocker: cannot tell the job's prolog: {error}"))
    }

    fn before_step(spank: &Spank<'_>) -> Result<(), String> {
        if can_prepend() || std::env::var_os(SLURM_UDOCKER_REQUEST).is_none() {
            return Ok(());
        }
        // Where Slurm has not told that it was given this option (`has_option`).
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
