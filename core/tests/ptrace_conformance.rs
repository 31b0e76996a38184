//! Every system call with a path, in every form, under the ptrace engine and in a mount namespace: the answers are the same.
//!
//! The program `conformance/main.c` makes the calls and prints what they answered. It runs in equal trees in mode N1 and
//! under the tracer; its outputs are compared line by line. The directory that it works in exists at the same absolute path
//! on the host, with other contents: a canary, which no output shows and no call changes.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use udocker_core::engine::path::table::{self, Action};

/// The user of the tests where the tests may choose.
const USER: u32 = 1234;
/// What the canary holds.
const SECRET: &str = "canary of the host";

/// What differs by design: the case, what N1 answers and what the engine answers (beginnings), and why.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    ("chroot.0", "EPERM", "0", "chroot to the root that is there already does nothing; native N1 has no capabilities"),
    ("refused.", "", "EPERM", "calls about mounts, swap and modules are refused before their arguments are looked at"),
    (
        "refused.",
        "",
        "ENOSYS",
        "io_uring, statmount and listmount would act on the host: the guest is told that there are none",
    ),
];

fn example(name: &str) -> PathBuf {
    let built = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(built.exists(), "{} is missing: run `cargo build -p udocker-core --examples`", built.display());
    built
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

fn user() -> u32 {
    if is_root() { USER } else { rustix::process::getuid().as_raw() }
}

fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    visit(path);
    if path.symlink_metadata().unwrap().is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| walk(entry, visit));
    }
}

fn give_to_user(path: &Path) {
    if is_root() {
        walk(path, &mut |path| std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap());
    }
}

/// How the program is linked, and what it needs in the root beside itself.
struct Linked {
    compiler: &'static [&'static str],
    package: &'static str,
    files: &'static [&'static str],
}

const STATIC: Linked = Linked { compiler: &["gcc", "-static"], package: "gcc", files: &[] };
const GLIBC: Linked = Linked {
    compiler: &["gcc"],
    package: "gcc",
    files: &["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"],
};
const MUSL: Linked = Linked { compiler: &["musl-gcc"], package: "musl-tools", files: &["/lib/ld-musl-x86_64.so.1"] };

fn compile(linked: &Linked, to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/main.c");
    let (compiler, options) = linked.compiler.split_first().unwrap();
    let output = Command::new(compiler).args(options).args(["-O1", "-w", "-o"]).args([to, &source]).output();
    let output = output.unwrap_or_else(|error| panic!("{compiler}: {error}: install the package {}", linked.package));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The trees of one comparison.
struct Trial {
    directory: tempfile::TempDir,
    /// On the host and inside.
    canary: tempfile::TempDir,
    program: PathBuf,
    linked: Linked,
}

impl Trial {
    fn new(linked: Linked) -> Self {
        // In memory if that is possible: the cases make and remove a hundred thousand files.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let canary = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(canary.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["file", "hard", "script", "dir/inner", "bind/inner", "ro/inner", "closed/x", "private"] {
            let path = canary.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, SECRET).unwrap();
        }
        fs::write(canary.path().join("boundfile"), SECRET).unwrap();
        symlink("file", canary.path().join("rel")).unwrap();
        give_to_user(canary.path());
        let program = directory.path().join("conformance");
        compile(&linked, &program);
        for name in ["enter", "ptrace", "enosys"] {
            // Copies, since the user need not be able to reach the build directory.
            fs::copy(example(name), directory.path().join(name)).unwrap();
        }
        Self { directory, canary, program, linked }
    }

    /// Names, modes, times and contents of the canary.
    fn fingerprint(&self) -> String {
        let mut text = String::new();
        walk(self.canary.path(), &mut |path| {
            let meta = path.symlink_metadata().unwrap();
            text += &format!("{path:?} {:o} {} {}.{} ", meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec());
            text += &format!("{}.{} {}\n", meta.ctime(), meta.ctime_nsec(), meta.nlink());
            if meta.is_file() {
                text += &fs::read_to_string(path).unwrap();
            }
        });
        text
    }

    /// Makes a fresh tree and runs the program in it by one of the examples.
    fn run(&self, engine: &str, below: Option<&Path>, every: usize) -> Vec<String> {
        let work = self.canary.path().to_str().unwrap();
        let tree = tempfile::tempdir_in(self.directory.path()).unwrap();
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| tree.path().join(name);
        let inside = |path: &str| tree.path().join("root").join(path.trim_start_matches('/'));
        for name in ["root/bin", "root/etc", "root/proc", "bind", "ro/sub"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in ["bind", "ro"] {
            fs::create_dir_all(inside(work).join(name)).unwrap();
        }
        fs::write(inside(work).join("boundfile"), "").unwrap();
        fs::write(inside("etc/hostname"), "guest\n").unwrap();
        fs::write(at("boundfile"), "bound file\n").unwrap();
        fs::write(at("ro/inner"), "read only").unwrap();
        fs::set_permissions(at("ro/inner"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("inner", at("ro/link")).unwrap();
        fs::copy(&self.program, inside("bin/conformance")).unwrap();
        for file in self.linked.files {
            fs::create_dir_all(inside(file).parent().unwrap()).unwrap();
            fs::copy(file, inside(file))
                .unwrap_or_else(|error| panic!("{file}: {error}: install the package {}", self.linked.package));
        }
        give_to_user(tree.path());

        let engine_path = self.directory.path().join(engine);
        let mut command = Command::new(below.unwrap_or(&engine_path));
        command.args(below.map(|_| &engine_path)).arg(at("root")).current_dir("/");
        if engine == "enter" {
            command.args(["in-place", &format!("--id={}:{}", user(), if is_root() { USER } else { group() })]);
        }
        for (name, options) in [("bind", ""), ("ro", ":ro"), ("boundfile", "")] {
            command.arg(format!("--bind={}:{work}/{name}{options}", at(name).display()));
        }
        command.args(["--bind=/proc:/proc", "--", "/bin/conformance", work, &every.to_string()]);
        if is_root() {
            command.uid(USER).gid(USER);
        }
        let output = command.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), complaint.as_str()), (Some(0), ""), "{engine}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains(SECRET), "{engine} shows the host's files");
        // A tree holds directories that nobody may enter.
        walk_open(tree.path());
        cases(&text)
    }

    /// Compares, with each of these programs before the engines in turn.
    fn compare(&self, below: [Option<&Path>; 2], every: usize) {
        let before = self.fingerprint();
        let native = self.run("enter", below[0], every);
        let traced = self.run("ptrace", below[1], every);
        assert_eq!(before, self.fingerprint(), "the canary has changed");
        let least = 45_000 / every;
        assert!(native.len() > least, "{} cases, {least} expected", native.len());
        let differing: Vec<String> = native
            .iter()
            .zip(&traced)
            .filter(|(native, traced)| native != traced && !is_by_design(native, traced))
            .map(|(native, traced)| format!("N1 {native}\nP2 {traced}\n"))
            .collect();
        assert!(
            differing.is_empty(),
            "{} cases differ:\n{}",
            differing.len(),
            differing[..differing.len().min(40)].concat()
        );
        assert_eq!(native.len(), traced.len());
    }
}

fn group() -> u32 {
    rustix::process::getgid().as_raw()
}

/// Lets the tree be removed by who may not enter all of it.
fn walk_open(path: &Path) {
    let meta = path.symlink_metadata().unwrap();
    if meta.is_dir() {
        if !is_root() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        fs::read_dir(path).unwrap().for_each(|entry| walk_open(&entry.unwrap().path()));
    }
}

/// One line per case; what a program that was executed has printed belongs to the line behind it.
fn cases(text: &str) -> Vec<String> {
    let mut cases = Vec::new();
    let mut printed = String::new();
    for line in text.lines() {
        if line.starts_with("  ") {
            printed += line;
        } else {
            cases.push(format!("{line}{}", std::mem::take(&mut printed)));
        }
    }
    cases
}

fn is_by_design(native: &str, traced: &str) -> bool {
    let (Some((case, native)), Some((same, traced))) = (native.split_once(" -> "), traced.split_once(" -> ")) else {
        return false;
    };
    case == same
        && DIFFERENCES.iter().any(|(name, first, second, _)| {
            case.starts_with(name) && native.starts_with(first) && traced.starts_with(second)
        })
}

#[test]
fn calls_answer_as_in_a_mount_namespace() {
    Trial::new(STATIC).compare([None, None], 1);
}

#[test]
fn programs_of_glibc_get_the_same_answers() {
    Trial::new(GLIBC).compare([None, None], 4);
}

#[test]
fn programs_of_musl_get_the_same_answers() {
    Trial::new(MUSL).compare([None, None], 4);
}

#[test]
fn an_old_kernel_gives_the_same_answers() {
    let trial = Trial::new(STATIC);
    let old = trial.directory.path().join("enosys");
    trial.compare([Some(&old), Some(&old)], 3);
}

#[test]
fn calls_answer_the_same_where_filters_are_refused() {
    let trial = Trial::new(STATIC);
    let refusing = trial.directory.path().join("refusing");
    let source = refusing.with_extension("c");
    // prctl(PR_SET_SECCOMP, …)
    fs::write(&source, REFUSING.replace("CALL", "157").replace("FIRST", "22")).unwrap();
    let status = Command::new("gcc").args(["-static", "-w", "-o"]).args([&refusing, &source]).status();
    assert!(status.expect("gcc is installed").success());
    trial.compare([None, Some(&refusing)], 5);
}

/// Runs a program to which one call, with this first argument, is refused.
const REFUSING: &str = include_str!("conformance/refuse.c");

#[test]
fn every_translated_call_has_a_case() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("conformance");
    compile(&STATIC, &program);
    let output = Command::new(&program).arg("--calls").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let covered: BTreeSet<&str> = text.lines().collect();
    let handled = |action: &Action| matches!(action, Action::Translate | Action::Emulate(_));
    let needed: BTreeSet<&str> =
        table::CALLS.iter().filter(|call| handled(&call.action)).map(|call| call.name).collect();
    let missing: Vec<&&str> = needed.difference(&covered).collect();
    assert!(missing.is_empty(), "calls without a case in tests/conformance/main.c: {missing:?}");
    let unknown: Vec<&&str> = covered.difference(&needed).collect();
    assert!(unknown.is_empty(), "cases of calls that the table lets through: {unknown:?}");
}
