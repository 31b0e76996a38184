//! `--profile`: a job's options from files, as far as `udocker run` has them.

use std::ffi::OsString;

use udocker_core::error::Failure;
use udocker_core::run::{Caller, RunRequest, Said, UserSpec, Wish};
use udocker_site_config::Sources;

use crate::{UsageError, usage};

/// Options that only a job has.
const OF_JOBS: [&str; 5] = ["share", "unshare", "batch", "timeout", "verbose"];

/// What the profiles `names` ask for, later ones over earlier ones.
pub fn said(names: &[OsString]) -> Result<Vec<Said>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let caller = Caller::gather(std::env::vars_os().collect(), &UserSpec::Caller);
    let sources = Sources::of_caller(&caller);
    let mut all = Vec::new();
    for name in names {
        all.extend(udocker_site_config::profile(name, &sources)?);
    }
    match all.iter().find(|said| OF_JOBS.contains(&said.option)) {
        None => Ok(all),
        Some(Said { option, origin, .. }) => {
            let hints = vec!["leave it away, or use `udocker-launch`".into()];
            Err(UsageError(format!("{origin}: `{option}` is of jobs, and `udocker run` has it not"), hints).into())
        }
    }
}

/// The request that `said` is; the command line names its image.
pub fn request(said: &[Said]) -> Result<RunRequest, Failure> {
    let mut wish = Wish::over(RunRequest::new(""));
    for said in said {
        said.apply(&mut wish).map_err(usage)?;
    }
    Ok(wish.into_request())
}
