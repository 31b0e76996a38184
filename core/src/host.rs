//! What this machine can do, each answered once: probes by doing, remembered in the run directory until the next boot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::engine::native::{ProbeError, probe_overlay};
use crate::store::RunDirectory;

/// Half of the memory that this process may use, in bytes: of its control group where that has a limit, else of the machine.
pub fn half_of_memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let machine = total.unwrap_or(2 << 20).saturating_mul(1024);
    group_limit().map_or(machine, |limit| limit.min(machine)) / 2
}

/// The memory limit of this process's control group: `memory.max` (version 2) or `memory.limit_in_bytes` (version 1).
fn group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let file = match controllers {
            "" => format!("/sys/fs/cgroup{path}/memory.max"),
            _ if controllers.split(',').any(|c| c == "memory") => {
                format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")
            }
            _ => return None,
        };
        fs::read_to_string(file).ok()?.trim().parse().ok()
    })
}

/// Whether an overlay with a tmpfs upper can be mounted over `lower`; the reason if not.
///
/// The answer is kept per boot, kernel and file system of `lower`, so that a start does not pay for the probe again.
pub fn overlay_over(lower: &Path, directory: Option<&RunDirectory>) -> Result<(), String> {
    let key = probe_key(lower);
    if let (Some(directory), Some(key)) = (directory, &key)
        && let Ok(known) = fs::read_to_string(directory.path().join(key))
    {
        return if known.is_empty() { Ok(()) } else { Err(known) };
    }
    let answer = probe_overlay(lower).map_err(|error: ProbeError| error.to_string());
    if let (Some(directory), Some(key)) = (directory, &key) {
        // A probe that cannot be kept is made again.
        let temporary = directory.path().join(format!("{key}.{}", std::process::id()));
        let text = answer.as_ref().err().map_or("", String::as_str);
        if fs::write(&temporary, text).is_ok() {
            let _ = fs::rename(&temporary, directory.path().join(key));
        }
    }
    answer
}

fn probe_key(lower: &Path) -> Option<String> {
    let device = fs::metadata(lower).ok()?.dev();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel: String = kernel.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
    Some(format!("overlay-{}-{kernel}-{device:x}", boot.trim().get(..8)?))
}
