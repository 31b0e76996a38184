//! What this machine can do, each answered once: probes by doing, remembered in the run directory until the next boot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::engine::native::{ProbeError, owner_in_the_way, probe_overlay, probe_user_namespace};
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

/// The least memory limit of this process's control group and those above it: `memory.max` (version 2) or
/// `memory.limit_in_bytes` (version 1).
fn group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (top, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        let above =
            Path::new(path.trim_start_matches('/')).ancestors().map(|group| Path::new(top).join(group).join(file));
        above.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()).min()
    })
}

/// Whether this process could enter a user and a mount namespace; the reason if not. Kept per boot and kernel.
pub fn user_namespaces(directory: Option<&RunDirectory>) -> Result<(), String> {
    remembered(directory, machine_key("namespaces"), probe_user_namespace)
}

/// Whether an overlay with a tmpfs upper can be mounted over `lower`; the reason if not.
///
/// The answer is kept per boot, kernel and file system of `lower`, so that a start does not pay for the probe again.
pub fn overlay_over(lower: &Path, directory: Option<&RunDirectory>) -> Result<(), String> {
    let device = fs::metadata(lower).ok().map(|status| status.dev());
    let key = device.and_then(|device| machine_key(&format!("overlay-{device:x}")));
    match owner_in_the_way(lower) {
        Ok(Some(whose)) => Err(format!("no layer over it can be written: its files are {whose}")),
        // What cannot be looked at is told by the probe.
        _ => remembered(directory, key, || probe_overlay(lower)),
    }
}

/// The answer that is kept under `key`, else that of `probe`.
fn remembered(
    directory: Option<&RunDirectory>,
    key: Option<String>,
    probe: impl FnOnce() -> Result<(), ProbeError>,
) -> Result<(), String> {
    if let (Some(directory), Some(key)) = (directory, &key)
        && let Ok(known) = fs::read_to_string(directory.path().join(key))
    {
        return if known.is_empty() { Ok(()) } else { Err(known) };
    }
    let answer = probe().map_err(|error| error.to_string());
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

/// `WHAT-BOOT-NAMESPACE-KERNEL`: a container that we run in may forbid what its host allows.
fn machine_key(what: &str) -> Option<String> {
    let namespace = fs::metadata("/proc/self/ns/user").ok()?.ino();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel: String = kernel.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
    Some(format!("{what}-{}-{namespace}-{kernel}", boot.trim().get(..8)?))
}
