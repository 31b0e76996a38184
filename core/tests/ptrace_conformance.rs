//! Every system call that takes a path does under the ptrace engine what it does in a mount namespace.
//!
//! One program (tests/conformance) makes them all and prints what came of each. It runs in mode N1 and under the tracer, in
//! equal trees, as an ordinary user. On the host lies another tree at the same absolute path, which nobody may see or
//! change.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use udocker_core::engine::path::table::{Action, CALLS, Effect};

/// The user of the tests where the tests may choose.
const USER: u32 = 1234;
/// What the canary's files hold.
const CANARY: &str = "canary!";

/// What differs by design: call, form and path as printed, natively, traced.
const BY_DESIGN: &[(&str, &str, &str)] = &[
    // The root is the only root, and to change to it changes nothing: some programs insist.
    ("chroot ", " errno 1", " = 0"),
];

/// A root, the host directories that are bound into it, and the canary.
struct Trial {
    directory: tempfile::TempDir,
    /// The same absolute path in the guest and, as a canary, on the host.
    top: tempfile::TempDir,
}

fn example(name: &str) -> PathBuf {
    let built = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(built.exists(), "{} is missing: run `cargo build -p udocker-core --examples`", built.display());
    built
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/conformance.c")
}

fn compile(compiler: &str, options: &[&str], to: &Path) {
    let output = Command::new(compiler).args(["-O1", "-o"]).arg(to).args(options).arg(source()).output();
    let output = output.unwrap_or_else(|error| panic!("{compiler} (packages gcc and musl-tools): {error}"));
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
}

fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    visit(path);
    if path.symlink_metadata().unwrap().is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| walk(entry, visit));
    }
}

/// Names, kinds, times and sizes.
fn fingerprint(directory: &Path) -> String {
    let mut text = String::new();
    walk(directory, &mut |path| {
        let meta = path.symlink_metadata().unwrap();
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        text += &format!("{path:?} {:o} {} {} {times:?} {}\n", meta.mode(), meta.uid(), meta.nlink(), meta.len());
    });
    text
}

/// In memory where user attributes work there (Linux 6.6): the trees are made anew some thousand times.
fn make_directory() -> tempfile::TempDir {
    let quick = tempfile::tempdir_in("/dev/shm").unwrap();
    match rustix::fs::setxattr(quick.path(), "user.probe", b"1", rustix::fs::XattrFlags::empty()) {
        Ok(()) => quick,
        Err(_) => tempfile::tempdir().unwrap(),
    }
}

impl Trial {
    /// `fill` puts the program and what it needs into a root.
    fn new(fill: impl Fn(&Path)) -> Self {
        let trial = Self { directory: make_directory(), top: tempfile::tempdir().unwrap() };
        for side in ["native", "traced"] {
            let at = |name: &str| trial.directory.path().join(side).join(name);
            for name in ["root/bin", "root/etc", "root/proc", "root/dev", "root/tmp", "bind", "ro/dir"] {
                fs::create_dir_all(at(name)).unwrap();
            }
            let top = at("root").join(trial.top.path().strip_prefix("/").unwrap());
            fs::create_dir_all(top.join("bind")).unwrap();
            fs::create_dir_all(top.join("ro")).unwrap();
            fs::write(top.join("bindfile"), "").unwrap();
            fs::write(at("ro/file"), "read\n").unwrap();
            fs::write(at("bindfile"), "alone\n").unwrap();
            fs::write(at("root/etc/only-here"), "guest\n").unwrap();
            fill(&at("root"));
        }
        let canary = trial.top.path();
        for name in ["dir", "empty", "bind/dir", "ro/dir"] {
            fs::create_dir_all(canary.join(name)).unwrap();
        }
        for name in ["file", "dir/inner", "bind/file", "ro/file", "bindfile", "script", "socket", "bind/back"] {
            fs::write(canary.join(name), CANARY).unwrap();
            fs::set_permissions(canary.join(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        for (name, to) in [("rel", "dir/inner"), ("abs", "/etc/debian_version"), ("loop", "file")] {
            symlink(to, canary.join(name)).unwrap();
        }
        for directory in [trial.directory.path(), canary] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
            // All of it is the user's: permissions keep nothing from being seen or changed.
            if rustix::process::getuid().is_root() {
                walk(directory, &mut |path| std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap());
            }
        }
        trial
    }

    /// What the program prints on one side.
    fn run(&self, side: &str, below: Option<&Path>, step: u32) -> String {
        let engine = self.directory.path().join(if side == "native" { "enter" } else { "ptrace" });
        if !engine.exists() {
            fs::copy(example(engine.file_name().unwrap().to_str().unwrap()), &engine).unwrap();
        }
        let own = rustix::process::getuid();
        let user = if own.is_root() { USER } else { own.as_raw() };
        let mut command = Command::new(below.unwrap_or(&engine));
        command.args(below.map(|_| &engine)).arg(self.directory.path().join(side).join("root"));
        if side == "native" {
            command.args(["in-place".to_owned(), format!("--id={user}:{user}")]);
        }
        let (top, directory) = (self.top.path().display(), self.directory.path().join(side));
        for (name, target) in [("bind", "bind"), ("ro", "ro:ro"), ("bindfile", "bindfile")] {
            command.arg(format!("--bind={}:{top}/{target}", directory.join(name).display()));
        }
        command.args(["--bind=/proc:/proc", "--bind=/dev:/dev", "--cwd=/", "--", "/bin/conformance"]);
        command.arg(self.top.path()).arg(step.to_string()).current_dir("/").env_clear();
        if own.is_root() {
            command.uid(user).gid(user);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{side}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs both sides and compares.
    #[track_caller]
    fn compare(&self, below: Option<&Path>, step: u32) -> String {
        let before = fingerprint(self.top.path());
        let (native, traced) = (self.run("native", None, step), self.run("traced", below, step));
        let differs = |(native, traced): &(&str, &str)| {
            let is_by_design = BY_DESIGN
                .iter()
                .any(|(call, here, there)| native.starts_with(call) && native.replace(here, there) == *traced);
            native != traced && !is_by_design
        };
        let differences: Vec<_> = native.lines().zip(traced.lines()).filter(differs).take(40).collect();
        assert!(differences.is_empty(), "natively, traced: {differences:#?}");
        assert_eq!(native.lines().count(), traced.lines().count());
        assert!(native.ends_with("\ndone\n"));
        assert!(!traced.contains(CANARY) && !native.contains(CANARY), "the host's files were read");
        assert_eq!(fingerprint(self.top.path()), before, "the host's files were changed");
        traced
    }
}

/// A root of one static program.
fn fill_static(root: &Path) {
    compile("gcc", &["-static"], &root.join("bin/conformance"));
    fs::copy("/bin/busybox", root.join("bin/true")).expect("/bin/busybox of the package busybox-static");
}

#[test]
fn calls_do_what_they_do_in_a_mount_namespace() {
    let trial = Trial::new(fill_static);
    let printed = trial.compare(None, 1);
    let made: BTreeSet<&str> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
    // What the program makes by number, and what is refused before a path is looked at.
    let without_line = ["uselib"];
    for call in CALLS {
        let is_ours = matches!(call.action, Action::Translate | Action::Emulate(_)) || call.effect != Effect::Read;
        assert!(
            !is_ours || made.contains(call.name) || without_line.contains(&call.name),
            "{} has no case in tests/conformance",
            call.name
        );
    }
    assert!(printed.contains("\nio_uring refused\n"));
    for call in ["mount", "umount2", "pivot_root"] {
        let number = CALLS.iter().find(|known| known.name == call).unwrap().number;
        assert!(printed.contains(&format!("\ncall {number} refused\n")), "{call}");
    }
}

#[test]
fn they_do_so_on_an_old_kernel_and_without_filters() {
    let trial = Trial::new(fill_static);
    let old = trial.directory.path().join("enosys");
    fs::copy(example("enosys"), &old).unwrap();
    // The native side needs newer calls; what answers ENOSYS below the tracer does so natively as well, or another answer
    // comes by another way. So natively the calls are made on this kernel, and those that are missing are left out.
    let newer = ["openat2", "faccessat2", "fchmodat2", "setxattrat", "getxattrat", "listxattrat", "removexattrat"];
    let newest = ["file_getattr", "file_setattr"];
    let is_old = |line: &&str| !newer.iter().chain(&newest).any(|name| line.split(' ').next() == Some(name));
    let native = trial.run("native", None, 7);
    let traced = trial.run("traced", Some(&old), 7);
    let differs = |(native, traced): &(&str, &str)| native != traced && !native.starts_with("chroot ");
    let differences: Vec<_> =
        native.lines().filter(is_old).zip(traced.lines().filter(is_old)).filter(differs).take(40).collect();
    assert!(differences.is_empty(), "natively, on an old kernel: {differences:#?}");
    let trial = Trial::new(fill_static);
    let refusing = trial.directory.path().join("refusing");
    let text = trial.directory.path().join("refusing.c");
    fs::write(&text, REFUSING).unwrap();
    let made = Command::new("gcc").arg("-static").arg("-o").arg(&refusing).arg(&text).status().unwrap();
    assert!(made.success());
    trial.compare(Some(&refusing), 7);
}

/// Runs a program that may install no filter of seccomp: prctl(PR_SET_SECCOMP) and seccomp(2) answer EPERM.
const REFUSING: &str = r#"
#include <errno.h>
#include <stddef.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
int main(int argc, char **argv) {
    struct sock_filter code[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 4, 0, 317},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 157},
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args[0])},
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, PR_SET_SECCOMP},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 99;
    execv(argv[1], argv + 1);
    return 98;
}
"#;

/// Copies files of the host, links followed, to the same places of a root.
fn take(root: &Path, files: &[&str]) {
    for file in files {
        let to = root.join(&file[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn a_dynamic_program_of_glibc_does_the_same() {
    let trial = Trial::new(|root| {
        compile("gcc", &[], &root.join("bin/conformance"));
        take(root, &["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"]);
        fs::copy("/bin/busybox", root.join("bin/true")).expect("/bin/busybox of the package busybox-static");
    });
    trial.compare(None, 5);
}

#[test]
fn a_dynamic_program_of_musl_does_the_same() {
    let trial = Trial::new(|root| {
        // Its headers lack those of the kernel, which are the same for every C library.
        let headers = ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"];
        compile("musl-gcc", &headers, &root.join("bin/conformance"));
        take(root, &["/lib/ld-musl-x86_64.so.1"]);
        fs::copy("/bin/busybox", root.join("bin/true")).expect("/bin/busybox of the package busybox-static");
    });
    trial.compare(None, 5);
}
