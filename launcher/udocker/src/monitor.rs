//! From a plan to its program: this process becomes it, or stays for as long as it runs.
//!
//! A process stays for what must be removed at the end (`--rm`, a private ROOT), and in modes that need one. It passes
//! signals on, stops and continues with the program, and ends as that ended. What is to be removed is the caller's to
//! remove between [`run`] and [`Ended::end`].

use std::path::PathBuf;
use std::process::ExitCode;

use udocker_core::engine::ExecPlan;
use udocker_core::error::Failure;
use udocker_core::rendezvous::Meeting;
use udocker_core::start::start;
use udocker_core::sys::relay::Looks;
use udocker_core::sys::signal::restore_sigpipe;
use udocker_core::sys::supervised::{Ended as Wait, Supervised};

use crate::cmd::run::refusal;
use crate::ui::Ui;

/// How the program ended.
pub struct Ended(Wait);

/// Runs `plan`, in one container with those who meet at `meeting`; returns when its program has ended. Where `stays` is false and the mode allows it, it never returns.
pub fn run(
    ui: Ui,
    plan: &ExecPlan,
    run_dirs: &[PathBuf],
    meeting: Option<&mut Meeting<'_>>,
    stays: bool,
) -> Result<Ended, Failure> {
    let here = || {
        restore_sigpipe();
        start(plan, run_dirs, meeting).unwrap_or_else(|error| {
            let status = error.status();
            ui.error(&refusal::of_start(error).report());
            Wait::Status(status)
        })
    };
    if !(stays && plan.engine.is_in_place()) {
        return Ok(Ended(here()));
    }
    let child = || Ended(here()).status();
    Ok(Ended(Supervised::start(Looks::Witness, child)?.wait()?))
}

impl Ended {
    /// The status of this process: the program's own, 128 + n for signal n.
    pub fn end(self) -> ExitCode {
        ExitCode::from(self.status())
    }

    fn status(self) -> u8 {
        match self.0 {
            Wait::Status(status) => status,
            Wait::Signal(signal) => 128 + signal as u8,
        }
    }
}
