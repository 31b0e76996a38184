//! udocker's words for a run that cannot begin: scripts look for them, and the cause below says more.

use udocker_core::error::Failure;
use udocker_core::run::{MountProblem, SpecError, WishError};
use udocker_core::start::{StartError, Subject};

/// A volume, user or variable that cannot be read.
pub fn of_wish(error: WishError) -> Failure {
    let words = match &error {
        WishError::Mount { text, problem: MountProblem::RelativeSource } => {
            Some(format!("invalid host volume path: {text}"))
        }
        WishError::Mount { text, problem: MountProblem::RelativeTarget | MountProblem::RootTarget } => {
            Some(format!("invalid container volume path: {text}"))
        }
        WishError::User(text) => Some(format!("invalid syntax for user {text}")),
        _ => None,
    };
    in_words(error.into(), words)
}

/// A run that cannot be decided.
pub fn of_spec(error: SpecError) -> Failure {
    let words = match &error {
        SpecError::UnknownUser(user) => Some(format!("invalid syntax for user {user}")),
        SpecError::NoAccount { .. } => Some("user not found".into()),
        SpecError::BadTarget(path) => Some(format!("invalid container volume path: {}", path.display())),
        SpecError::BadSource(path) => Some(format!("invalid host volume path: {}", path.display())),
        _ => None,
    };
    in_words(error.into(), words)
}

/// A container that cannot be entered, or whose program cannot be started.
pub fn of_start(error: StartError) -> Failure {
    let words = error.subject().map(|subject| match subject {
        Subject::Source(path) => format!("invalid host volume path: {}", path.display()),
        Subject::Target(path) => format!("creating mountpoint: {}", path.display()),
        Subject::WorkingDirectory(path) => format!("invalid working directory: {}", path.display()),
        Subject::Program(path) => format!("command not found or has no execute bit set: {}", path.display()),
    });
    in_words(error.into(), words)
}

fn in_words(failure: Failure, words: Option<String>) -> Failure {
    match words {
        Some(words) => failure.under(words),
        None => failure,
    }
}
