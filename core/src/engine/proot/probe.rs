//! Whether a PRoot puts programs into its root, and what it can; found out by doing.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::command::{Abilities, own_variables, pair};
use super::{ProotError, ProotPlan};
use crate::engine::ProgramError;
use crate::sys::exec::{Command, ExecFailure};
use crate::sys::process;

/// How long a probe may take; it is killed then.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the host's cat needs of the host.
const HOST_PARTS: [&str; 5] = ["/usr", "/bin", "/lib", "/lib64", "/lib32"];
const READER: &str = "/bin/cat";

/// Probes `proot` with a root in `scratch`.
pub(super) fn probe(proot: &ProotPlan, scratch: &Path) -> Result<Abilities, ProotError> {
    let help = output(&[proot.program.clone().into(), "--help".into()], own_variables(proot, false, scratch), proot)?;
    let help = String::from_utf8_lossy(&help);
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| ProotError::System { step: "name a file", source: error.into() })?;
    let name = format!("udocker-{}", crate::text::to_hex(&random));
    let root = scratch.join("probe");
    fs::create_dir(&root)
        .and_then(|()| fs::write(root.join(&name), &name))
        .map_err(ProotError::system("make a root to probe PRoot with"))?;
    let mut argv: Vec<OsString> = vec![proot.program.clone().into(), "-r".into(), root.clone().into()];
    for part in HOST_PARTS.iter().map(Path::new).filter(|path| path.exists()) {
        argv.extend(["-b".into(), pair(part, part)?]);
    }
    argv.extend(["-w".into(), "/".into(), READER.into(), format!("/{name}").into()]);
    let attempts: &[bool] = if proot.no_seccomp { &[true] } else { &[false, true] };
    for no_seccomp in attempts {
        let read = output(&argv, own_variables(proot, *no_seccomp, scratch), proot)?;
        if read == name.as_bytes() {
            return Ok(Abilities {
                no_seccomp: *no_seccomp,
                kill_on_exit: help.contains("--kill-on-exit"),
                link2symlink: help.contains("--link2symlink"),
            });
        }
    }
    Err(ProotError::Escapes(proot.program.clone()))
}

/// What `argv` prints on standard output; empty if it does not end in time.
fn output(argv: &[OsString], env: Vec<OsString>, proot: &ProotPlan) -> Result<Vec<u8>, ProotError> {
    let command = Command::new(argv, &env).ok_or(ProgramError::BadCommand)?;
    let done = process::output_of_child(PATIENCE, || {
        if filter_calls().is_err() {
            return 125;
        }
        match command.exec() {
            ExecFailure::NotFound => 127,
            _ => 126,
        }
    });
    let (status, bytes) = done.map_err(ProotError::system("start PRoot"))?;
    let missing =
        |errno| ProotError::Missing { program: proot.program.clone(), source: io::Error::from_raw_os_error(errno) };
    match status {
        Some(127) => Err(missing(libc::ENOENT)),
        Some(126) => Err(missing(libc::EACCES)),
        _ => Ok(bytes),
    }
}

/// Answers ENOSYS to the calls with paths that PRoot lets through untranslated: those newer than renameat2.
///
/// # Errors
/// EINVAL where the kernel has no filters.
#[cfg(target_arch = "x86_64")]
pub(super) fn filter_calls() -> io::Result<()> {
    use crate::engine::path::table::{Action, CALLS};
    use crate::sys::trace_filter::{Verdict, install_trace_filter};

    let last = CALLS.last().map_or(0, |call| call.number) as usize;
    let mut verdicts = vec![Verdict::Answer(libc::ENOSYS); last + 1];
    for call in CALLS {
        let is_known = call.number <= libc::SYS_renameat2 as u32 || call.action == Action::Allow;
        if is_known {
            verdicts[call.number as usize] = Verdict::Allow;
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    install_trace_filter(&verdicts)
}

/// The table of calls is that of x86-64.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn filter_calls() -> io::Result<()> {
    Ok(())
}
