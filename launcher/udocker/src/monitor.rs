//! The one process in the middle: for runs that leave something to remove (`--rm`, a private ROOT).
//!
//! The parent stays, passes signals on, stops and continues with its child, and ends as the child ended. What is to be
//! removed is the caller's to remove between [`supervise`] and [`Ended::end`].

use std::process::ExitCode;

use udocker_core::engine::native::EnterError;
use udocker_core::engine::{ExecPlan, execute};
use udocker_core::error::Failure;
use udocker_core::sys::signal::restore_sigpipe;
use udocker_core::sys::supervised::{Ended as Wait, Supervised};

use crate::ui::Ui;

/// How the program ended.
pub struct Ended(Wait);

/// Becomes the program of `plan`; returns only with what went wrong.
pub fn enter(plan: &ExecPlan) -> EnterError {
    restore_sigpipe();
    execute(plan)
}

/// Runs `plan` in a child and waits for it.
pub fn supervise(ui: Ui, plan: &ExecPlan) -> Result<Ended, Failure> {
    let child = || {
        let error = enter(plan);
        let status = error.status();
        ui.error(&crate::cmd::run::refusal::of_enter(error).report());
        status
    };
    Ok(Ended(Supervised::start(child)?.wait()?))
}

impl Ended {
    /// The status of this process: the program's own, 128 + n for signal n.
    pub fn end(self) -> ExitCode {
        match self.0 {
            Wait::Status(status) => ExitCode::from(status),
            Wait::Signal(signal) => ExitCode::from(128 + signal as u8),
        }
    }
}
