//! `udocker site check --node`: whether this machine can start containers, and whether its Slurm starts them.

use std::fmt;
use std::path::Path;

use udocker_core::gpu::{Capability, Machine, Registry, driver};
use udocker_core::settings::{GpuSettings, Settings};

use crate::cmd::doctor;

mod files;
mod plugstack;
mod release;
mod slurm;

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    thing: String,
    verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Good(String),
    /// To be known; nothing is wrong with it.
    Note(String),
    /// What is wrong, and what to do.
    Wrong(String, &'static str),
}

impl Finding {
    fn good(thing: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { thing: thing.to_string(), verdict: Verdict::Good(what.into()) }
    }
    fn note(thing: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { thing: thing.to_string(), verdict: Verdict::Note(what.into()) }
    }
    fn wrong(thing: impl fmt::Display, why: impl Into<String>, hint: &'static str) -> Self {
        Self { thing: thing.to_string(), verdict: Verdict::Wrong(why.into(), hint) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thing = &self.thing;
        match &self.verdict {
            Verdict::Good(what) => write!(f, "{thing}: good: {what}"),
            Verdict::Note(what) => write!(f, "{thing}: note: {what}"),
            Verdict::Wrong(why, hint) => write!(f, "{thing}: wrong: {why}; hint: {hint}"),
        }
    }
}

/// Checks it all; `tell` is given a line each. Whether nothing is wrong.
pub fn check(settings: &Settings, mut tell: impl FnMut(String)) -> bool {
    let gpus = gpus(&settings.gpu, Path::new("/"));
    let findings = [modes(settings), vec![run_directory(settings)], gpus, slurm::check(settings.stage.when)].concat();
    findings.iter().for_each(|finding| tell(finding.to_string()));
    !findings.iter().any(|finding| matches!(finding.verdict, Verdict::Wrong(..)))
}

/// What `udocker doctor` tries, and what keeps others than root from it.
fn modes(settings: &Settings) -> Vec<Finding> {
    let trials: Vec<_> = doctor::trials(settings).into_iter().filter(doctor::Trial::is_built).collect();
    let works = trials.iter().any(|trial| trial.failure.is_none());
    let tell = |trial: &doctor::Trial| {
        let thing = format!("mode {}", trial.name);
        match &trial.failure {
            None => Finding::good(thing, trial.what),
            Some(failure) => {
                let report = failure.report();
                let why = report.lines().next().unwrap_or_default().to_owned();
                match works {
                    true => Finding::note(thing, why),
                    false => Finding::wrong(thing, why, "`udocker doctor` tells what helps"),
                }
            }
        }
    };
    let mut found: Vec<_> = trials.iter().map(tell).collect();
    // Root is not held up by these.
    for (path, denies) in [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ] {
        if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == denies) {
            found.push(Finding::wrong(
                path,
                format!("it is {denies}: users get no user namespaces, and no mode N1"),
                "set the other value in /etc/sysctl.d, or let users have P2 (`udocker doctor` as one of them)",
            ));
        }
    }
    found
}

/// The GPUs of the machine whose root is `root`, and what shows their driver; a machine without any is not spoken of.
fn gpus(settings: &GpuSettings, root: &Path) -> Vec<Finding> {
    let machine = Machine::look(root);
    if machine.gpus.is_empty() {
        return Vec::new();
    }
    let numbers: Vec<_> = machine.gpus.iter().map(|gpu| gpu.number.to_string()).collect();
    let mut found = vec![Finding::good("GPUs", numbers.join(", "))];
    let registry = Registry::read(&settings.cdi_dirs, 0);
    found.extend(registry.unread().iter().map(|(path, why)| Finding::note(path.display(), format!("not read: {why}"))));
    if !machine.is_nvidia_s() {
        return found;
    }
    let thing = "NVIDIA's driver";
    let names = registry.names().into_iter().filter(|name| name.starts_with("nvidia.com/gpu=")).collect::<Vec<_>>();
    let files = driver::find(&settings.driver_root, &Capability::DEFAULT, &|_| false).len();
    found.push(match (names.is_empty(), files) {
        (false, _) => Finding::good(thing, format!("by CDI specifications: {}", names.join(", "))),
        (true, 0) => Finding::wrong(
            thing,
            format!("no CDI specification, and no libraries in {}/etc/ld.so.cache", settings.driver_root.display()),
            "`[gpu] driver_root` in site.toml says where it is installed, `cdi_dirs` where specifications lie",
        ),
        (true, files) => Finding::good(thing, format!("{files} files below {}", settings.driver_root.display())),
    });
    found
}

/// The directory that the ranks of a step meet in: the first whose parent is there.
fn run_directory(settings: &Settings) -> Finding {
    let parent = settings.run_dirs.iter().filter_map(|path| path.parent()).find(|parent| parent.is_dir());
    let thing = "run directory";
    let hint = "`[paths] run_dir` in site.toml names one on tmpfs";
    let Some(parent) = parent else { return Finding::wrong(thing, "none of its places is there", hint) };
    match rustix::fs::statfs(parent) {
        // TMPFS_MAGIC and RAMFS_MAGIC of linux/magic.h.
        Ok(status) if matches!(status.f_type, 0x0102_1994 | 0x8584_58f6) => {
            Finding::good(thing, format!("in {}, which is a tmpfs", parent.display()))
        }
        Ok(_) => Finding::wrong(thing, format!("in {}, which is no tmpfs", parent.display()), hint),
        Err(errno) => Finding::wrong(thing, format!("{}: {errno}", parent.display()), hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_told_with_their_driver() {
        let root = tempfile::tempdir().unwrap();
        let settings = GpuSettings {
            cdi_dirs: vec![root.path().join("cdi")],
            driver_root: root.path().to_owned(),
            ..GpuSettings::default()
        };
        let told = || gpus(&settings, root.path()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(), Vec::<String>::new());
        for name in ["dev/nvidia0", "dev/nvidia1", "cdi/old.yaml"] {
            std::fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let path = root.path().display();
        assert_eq!(
            told(),
            [
                "GPUs: good: 0, 1".to_owned(),
                format!("{path}/cdi/old.yaml: note: not read: only JSON is read"),
                format!(
                    "NVIDIA's driver: wrong: no CDI specification, and no libraries in {path}/etc/ld.so.cache; hint: \
                     `[gpu] driver_root` in site.toml says where it is installed, `cdi_dirs` where specifications lie"
                ),
            ]
        );
    }
}
