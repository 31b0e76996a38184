//! Getting an image that no store has ready: heavy work, which crosses an exec boundary to `udocker stage`.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use udocker_core::deadline::Deadline;
use udocker_core::error::Failure;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::run::{Defaults, PullPolicy, RunRequest};
use udocker_core::settings::Settings;
use udocker_core::store::Stores;
use udocker_core::sys::process;

use crate::error::LaunchError;

/// Gets what no store has, or what was never extracted.
pub fn stage(
    reference: &ImageReference,
    platform: &Platform,
    deadline: &Deadline,
    request: &RunRequest,
    settings: &Settings,
) -> Result<(), Failure> {
    let registries = &settings.registries;
    registries.access.check(&request.image, reference.registry(&registries.default))?;
    // Without a registry a child can only extract what is here: udocker wrote it, or its store holds blobs alone.
    if request.pull == PullPolicy::Never && Stores::open(settings)?.find_image(reference, platform)?.is_none() {
        return Err(LaunchError::NotHere(reference.clone()).into());
    }
    Ok(run_udocker(reference, platform, request, deadline)?)
}

/// The sibling program does it, with its messages on our stderr. It waits for others no longer than we do; at the deadline it
/// is ended, and what it has of the image by then is the next one's to go on with.
fn run_udocker(
    reference: &ImageReference,
    platform: &Platform,
    request: &RunRequest,
    deadline: &Deadline,
) -> Result<(), LaunchError> {
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name("udocker")).filter(|path| path.is_file());
    let mut command = Command::new(beside.unwrap_or_else(|| "udocker".into()));
    if rustix::process::geteuid().is_root() {
        command.arg("--allow-root");
    }
    // A second more: its own limit never comes before ours, which knows the status of a task that waited too long.
    let wait = deadline.left().as_secs() + 1;
    command.arg("stage").arg(format!("--pull={}", request.pull)).arg(format!("--wait={wait}"));
    if request.is_written(Defaults::Job) {
        command.arg("--own");
    }
    command.arg(format!("--platform={platform}")).arg(reference.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    process::end_with_us(&mut command);
    let ended = command.spawn().and_then(|mut child| process::wait_or_end(&mut child, deadline.left()));
    let status = ended.map_err(|source| LaunchError::NotRun { reference: reference.clone(), source })?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            Err(LaunchError::Failed { reference: reference.clone(), status })
        }
        None => Err(LaunchError::Late { reference: reference.clone(), seconds: deadline.seconds() }),
    }
}
