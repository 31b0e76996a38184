//! What a SPANK plugin meets in each release of Slurm, told by `tests/slurm/trace.c` and kept in `tests/slurm/traces`: our plugin
//! is built on it, and a release that differs is to be noticed here.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use udocker_tests::cluster::{Cluster, Release};
use udocker_tests::run;
use udocker_tests::slurm_site::is;

/// A cluster with the plugin that traces.
struct Traced {
    release: Release,
    /// Holds plugin and log, for all hosts.
    directory: tempfile::TempDir,
    cluster: Cluster,
}

impl Traced {
    fn new(release: Release) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("our directory");
        std::fs::write(path.join("log"), "").expect("a file");
        std::fs::set_permissions(path.join("log"), PermissionsExt::from_mode(0o666)).expect("our file");
        // The release's header and this machine's C library, which is the oldest.
        std::fs::create_dir(path.join("include")).expect("a directory");
        symlink(release.root().join("usr/include/slurm"), path.join("include/slurm")).expect("a link");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("slurm/trace.c");
        let mut compile = Command::new("gcc");
        compile.args(["-Wall", "-Werror", "-shared", "-fPIC", "-I"]).arg(path.join("include"));
        run(compile.arg("-o").arg(path.join("trace.so")).arg(source));
        let line = format!("required {0}/trace.so log={0}/log\n", path.display());
        let cluster = Cluster::up_with(release, &[path], &[("slurm/plugstack.conf", &line)], "");
        Self { release, directory, cluster }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The lines since the last call, when no more come.
    fn lines(&self) -> String {
        let mut text = String::new();
        loop {
            let read = std::fs::read_to_string(self.log()).expect("the log");
            if read == text {
                break;
            }
            text = read;
            std::thread::sleep(Duration::from_millis(700));
        }
        std::fs::write(self.log(), "").expect("the log");
        processes(&text)
    }

    /// What `words` make the plugin tell, in a section named `title`.
    fn section(&self, title: &str, words: &[&str]) -> String {
        let (status, out, err) = self.cluster.run(&["SHELL=/bin/sh"], words);
        assert_eq!(status, 0, "{:?} {title}: {out}{err}", self.release);
        self.cluster.idle();
        format!("## {title}\n{}", self.lines())
    }
}

/// Each process by itself, in the order of what they tell; but tasks of a step end in any order.
fn processes(text: &str) -> String {
    let mut processes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        let (process, rest) = line.split_once(' ').expect("a number and words");
        processes.entry(process).or_default().push(rest);
    }
    for lines in processes.values_mut() {
        let ends = |line: &&str| line.contains(" task_exit ");
        lines.chunk_by_mut(|one, next| ends(one) && ends(next)).for_each(<[_]>::sort_unstable);
    }
    let mut all: Vec<String> = processes.into_values().map(|lines| lines.join("\n") + "\n").collect();
    all.sort();
    all.join("\n") + "\n"
}

/// With `UPDATE_REFERENCE=1` the file becomes what the run showed.
fn same_as_kept(release: Release, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("slurm/traces/{}.txt", release.number()));
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, text).expect("a file of the checkout");
    }
    let kept = std::fs::read_to_string(&file).expect("it is checked in");
    let differs = text.lines().zip(kept.lines()).find(|(now, then)| now != then);
    assert!(text == kept, "{}: {differs:#?}; all that was told:\n{text}", file.display());
}

fn callbacks_are_as_kept(release: Release) {
    let traced = Traced::new(release);
    let mut text = format!("## slurmd starts\n{}", traced.lines());
    let interactive = "(sleep 1; echo exit) | script -qec 'salloc -Q -N1 -n1 --trace=5' /dev/null";
    let pty = "sleep 2 | script -qec 'srun -n1 --pty --trace=6 true' /dev/null";
    let script = "#!/bin/sh\n#SBATCH --trace=1\nsrun -n1 true\n";
    std::fs::write(traced.cluster.home().join("script"), script).expect("a file");
    std::fs::write(traced.cluster.home().join("programs"), "0 true zero\n1 true one\n").expect("a file");
    for (title, words) in [
        ("srun -N2 -n4", &["srun", "-N2", "-n4", "--ntasks-per-node=2", "--trace=0", "true"][..]),
        ("srun, which asks for nothing", &["srun", "-n1", "true"]),
        ("srun --multi-prog", &["srun", "-n2", "-N1", "--trace=7", "--multi-prog", "programs"]),
        ("sbatch, a step in it", &["sbatch", "-W", "-Q", "-n1", "-o", "out", "script"]),
        ("sbatch, the command line says another", &["sbatch", "-W", "-Q", "-n1", "-o", "out", "--trace=2", "script"]),
        ("salloc, a step in it", &["salloc", "-Q", "-n1", "--trace=3", "srun", "-n1", "true"]),
        ("salloc, a step that says another", &["salloc", "-Q", "-n1", "--trace=3", "srun", "-n1", "--trace=4", "true"]),
        ("salloc, interactive", &["sh", "-c", interactive]),
        ("srun --pty", &["sh", "-c", pty]),
    ] {
        text += &traced.section(title, words);
    }
    let Traced { directory, cluster, .. } = traced;
    assert_eq!(cluster.down(), "");
    let ending = std::fs::read_to_string(directory.path().join("log")).expect("the log");
    text += &format!("## slurmd ends\n{}", processes(&ending));
    same_as_kept(release, text.strip_suffix('\n').expect("an empty line after each process"));
}

#[test]
fn callbacks_of_22_05() {
    callbacks_are_as_kept(Release::Bookworm);
}

#[test]
fn callbacks_of_24_11() {
    callbacks_are_as_kept(Release::Trixie);
}

#[test]
fn callbacks_of_26_05() {
    callbacks_are_as_kept(Release::Forky);
}

/// Which callback keeps a task from running, and by what status srun tells it: why ours decides in `task_init`, and ends the
/// task's process there.
#[test]
fn a_failing_callback_is_told_by_one_release_and_not_by_another() {
    for (release, by_status) in [(Release::Bookworm, 0), (Release::Trixie, 1), (Release::Forky, 1)] {
        let traced = Traced::new(release);
        let library = traced.directory.path().join("trace.so");
        let ends = |how: &str, callback: &str| {
            let line = format!("{how} {} fail={callback}\n", library.display());
            std::fs::write(traced.cluster.etc().join("slurm/plugstack.conf"), line).expect("a file");
            let (status, out, _) = traced.cluster.run(&[], &["srun", "-n1", "echo", "ran"]);
            is(status, &out, "")
        };
        for (callback, status, out) in [
            ("init", by_status, ""),
            ("init_post_opt", by_status, ""),
            ("user_init", by_status, ""),
            ("task_post_fork", by_status, ""),
            ("task_init_privileged", 1, ""),
            ("task_init", 1, ""),
            ("task_exit", 0, "ran\n"),
            ("exit", 0, "ran\n"),
        ] {
            assert_eq!(ends("required", callback), is(status, out, ""), "{release:?} {callback}");
            // It ran on the host, whatever failed.
            assert_eq!(ends("optional", callback), is(0, "ran\n", ""), "{release:?} {callback}");
        }
        traced.cluster.idle();
        assert_eq!(traced.cluster.down(), "");
    }
}
