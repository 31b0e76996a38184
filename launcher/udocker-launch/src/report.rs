//! Messages of a rank: one write each, prefixed with node and task where there is a job.

use std::ffi::OsString;
use std::io::Write;

use udocker_core::error::Failure;
use udocker_core::sys::signal::ignore_sigpipe;

/// Variables that hold a task's rank, in the order of trust.
const RANK_VARIABLES: [&str; 5] = ["PMIX_RANK", "SLURM_PROCID", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID"];

/// Prints `text` on stdout; a reader that went away is no failure.
pub fn print(text: &str) -> u8 {
    ignore_sigpipe();
    let printed = std::io::stdout().lock().write_all(text.as_bytes());
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => 1,
        _ => 0,
    }
}

/// Reports `failure` in one write, so that lines of several ranks do not mix, and returns `status`.
pub fn fail(failure: &Failure, env: &[(OsString, OsString)], status: u8) -> u8 {
    ignore_sigpipe();
    let text = format!("udocker: {}{}\n", prefix(env), failure.report());
    // Nobody is left to tell if stderr is gone.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    status
}

fn prefix(env: &[(OsString, OsString)]) -> String {
    let value = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_string_lossy().into_owned());
    match RANK_VARIABLES.iter().find_map(|name| value(name)) {
        Some(rank) => {
            let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
            format!("[{} task {rank}] ", node.split('.').next().unwrap_or(&node))
        }
        None => String::new(),
    }
}
