//! Programs run by our engines in a root of real ones, compared between the modes.
//!
//! ```text
//! root         the root of `images/programs.sh`, made once; nobody may write to it
//! Mode         which engine
//! Container    where it runs: the root, what is bound, as whom; its own /tmp each time
//! Outcome      what came of it: status and both streams
//! ```

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::images::cached;
use crate::{is_root, tree};

/// The user of root's runs; its the roots are.
pub const USER: u32 = 1234;
/// After how long a run is taken for one that hangs. The longest is a minute under a tracer on a busy machine.
const LIMIT: Duration = Duration::from_secs(400);

/// An engine by the mode that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Native: namespaces.
    N1,
    /// The ptrace engine, as P1.
    P1,
    /// The same.
    P2,
}

impl Mode {
    /// Those that must agree; the first is the reference.
    pub const ALL: [Self; 3] = [Self::N1, Self::P1, Self::P2];
}

/// What is below `target/test-images` for these tests: `root`, `repository`.
///
/// # Panics
/// If it cannot be made.
pub fn made() -> PathBuf {
    let recipe: [&[u8]; 3] = [
        include_bytes!("../images/programs.sh"),
        include_bytes!("../images/packages/build.sh"),
        include_bytes!("../programs/storm.go"),
    ];
    cached("programs", &recipe, |directory| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/programs.sh");
        let output = Command::new(script).arg(directory).arg(user().to_string()).output().expect("bash is there");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "images/programs.sh (package mmdebstrap): {}\n{text}", output.status);
    })
}

/// Who runs the programs.
pub fn user() -> u32 {
    if is_root() { USER } else { rustix::process::geteuid().as_raw() }
}

/// A root and what a program gets beside it.
pub struct Container {
    directory: tempfile::TempDir,
    root: PathBuf,
    writable: bool,
    options: Vec<String>,
    environment: Vec<String>,
    fake_root: bool,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// As a shell tells it.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Outcome {
    /// The lines in which another one differs, twenty of each.
    fn difference(&self, other: &Self) -> String {
        let only = |one: &str, other: &str| {
            let other: std::collections::HashSet<&str> = other.lines().collect();
            one.lines().filter(|line| !other.contains(line)).take(20).collect::<Vec<_>>().join("\n")
        };
        format!(
            "statuses {} and {}\nout:\n{}\nand\n{}\nerr:\n{}\nand\n{}",
            self.status,
            other.status,
            only(&self.out, &other.out),
            only(&other.out, &self.out),
            only(&self.err, &other.err),
            only(&other.err, &self.err),
        )
    }

    /// Asserts that it has each of the lines.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_lines(&self, expected: &[&str]) {
        for line in expected {
            let end = self.out.len().saturating_sub(4000);
            let end = (end..self.out.len()).find(|at| self.out.is_char_boundary(*at)).unwrap_or_default();
            let found = self.out.lines().any(|other| other == *line);
            assert!(found, "no line `{line}` in\n{}{}", &self.out[end..], self.err);
        }
    }
}

impl Container {
    /// The shared root, read-only.
    pub fn shared() -> Self {
        Self::of(made().join("root"), false)
    }

    /// Debian's minbase, a copy that is the user's alone.
    pub fn private() -> Self {
        let mut container = Self::of(PathBuf::new(), true);
        container.root = container.own_directory("root");
        // By the user, for whom files that he may not read or enter are his own.
        let mut unpack = Command::new("tar");
        unpack.arg("-C").arg(&container.root).args([
            "--exclude=dev/*",
            "--no-same-owner",
            "--delay-directory-restore",
            "-xp",
        ]);
        let tar = File::open(&crate::images::debian_tars()[0]).expect("the tar was made");
        unpack.stdin(tar);
        if is_root() {
            unpack.uid(user()).gid(user());
        }
        crate::run(&mut unpack);
        container
    }

    fn of(root: PathBuf, writable: bool) -> Self {
        let directory = tempfile::Builder::new().prefix("udocker-test-").tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let copied = directory.path().join("programs");
        // The checkout may lie where the user cannot go.
        crate::run(
            Command::new("cp").arg("-r").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")).arg(&copied),
        );
        // Owners that a namespace does not know are shown as 65534.
        crate::run(Command::new("chown").args(["-R", &format!("{0}:{0}", user())]).arg(&copied));
        let (program, link) = (crate::program("udocker"), directory.path().join("udocker"));
        fs::hard_link(&program, &link).or_else(|_| fs::copy(&program, &link).map(drop)).expect("a copy");
        let home = directory.path().join("home");
        fs::create_dir(&home).expect("mkdir");
        chown(&home, Some(user()), Some(user())).expect("chown");
        Self { directory, root, writable, options: Vec::new(), environment: Vec::new(), fake_root: false }
    }

    /// Binds `source` at `target`; read-only with `:ro` behind it.
    #[must_use]
    pub fn bind(mut self, source: &Path, target: &str) -> Self {
        self.options.push(format!("--volume={}:{target}", source.display()));
        self
    }

    /// `NAME=VALUE` for the program, which has PATH, HOME and LC_ALL besides.
    #[must_use]
    pub fn env(mut self, variable: &str) -> Self {
        self.environment.push(variable.into());
        self
    }

    /// The program believes to be root.
    #[must_use]
    pub fn as_root(mut self) -> Self {
        self.fake_root = true;
        self
    }

    /// Where the tests' files for this container are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A fresh directory of the user.
    pub fn own_directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        if path.exists() {
            udocker_core::store::remove_tree(&path).expect("the last run's directory goes");
        }
        fs::create_dir(&path).expect("mkdir");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).expect("chmod");
        chown(&path, Some(user()), Some(user())).expect("chown");
        path
    }

    /// The command that runs `argv` in `mode`. [`Container::watch`] runs it as the user, without environment.
    pub fn command(&self, mode: Mode, tmp: &Path, argv: &[&str]) -> Command {
        let id = if self.fake_root { 0 } else { user() };
        let mut command = Command::new("env");
        command.args(["HOME", "UDOCKER_DIR"].map(|name| format!("{name}={}", self.path().join("home").display())));
        command.arg(self.path().join("udocker")).args(["--allow-root", "--quiet", "run"]);
        command.args([format!("--mode={mode:?}"), format!("--location={}", self.root.display())]);
        command.args((!self.writable).then_some("--write=none")).args([&format!("--user={id}:{id}"), "--workdir=/"]);
        command.arg("--nosysdirs").args(["/dev", "/proc", "/sys"].map(|path| format!("--volume={path}")));
        command.arg(format!("--volume={}:/tmp", tmp.display()));
        command.arg(format!("--volume={}:/mnt:ro", self.path().join("programs").display())).args(&self.options);
        // Udocker's own variables name the mode.
        command.args(["location", "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp"]);
        command.arg("LC_ALL=C.UTF-8").args(&self.environment).args(argv);
        command
    }

    /// Runs `argv` with an empty /tmp.
    pub fn run(&self, mode: Mode, argv: &[&str]) -> Outcome {
        let tmp = self.own_directory("tmp");
        self.watch(&format!("{mode:?} {argv:?}"), &self.command(mode, &tmp, argv))
    }

    /// Runs a command until it ends, for at most `LIMIT`.
    ///
    /// # Panics
    /// If it does not end; everything of its session is killed.
    pub fn watch(&self, what: &str, command: &Command) -> Outcome {
        let (out, err) = (self.path().join("out"), self.path().join("err"));
        // In a session of its own: what it leaves can be found, and no terminal of ours is in its way.
        let mut in_session = Command::new("setsid");
        in_session.arg(command.get_program()).args(command.get_args()).current_dir("/").env_clear();
        in_session.stdin(Stdio::null());
        in_session.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
        if is_root() {
            in_session.uid(user()).gid(user());
        }
        let mut child = in_session.spawn().expect("setsid of the package util-linux");
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).expect("it was made")).into_owned();
        let since = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break status;
            }
            if since.elapsed() > LIMIT {
                let state = session(child.id());
                end_session(child.id());
                // It is killed already.
                let _ = child.wait();
                panic!("{what} hangs\n{state}\nout: {}\nerr: {}", text(&out), text(&err));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Outcome { status: code(status), out: text(&out), err: text(&err) }
    }
}

fn code(status: ExitStatus) -> i32 {
    crate::code(&std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() })
}

/// The processes of a session: its leader's number is its own.
pub(crate) fn members(leader: u32) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").expect("/proc is there");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        // It may end while we look.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        (fields[3].parse() == Ok(leader)).then_some((pid, stat))
    })
    .collect()
}

/// What each thread of a session does, for the report of a hang.
fn session(leader: u32) -> String {
    let thread = |pid: i32, tid: &str| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{tid}/{name}")).unwrap_or_default();
        let status = read("status");
        let lines = status.lines().filter(|line| {
            ["Name", "State", "TracerPid", "SigPnd", "ShdPnd", "SigBlk", "SigCgt"]
                .iter()
                .any(|key| line.starts_with(key))
        });
        format!("{pid}/{tid} {} in {} call {}", lines.collect::<Vec<_>>().join(" "), read("wchan"), read("syscall"))
    };
    let lines = members(leader).into_iter().flat_map(|(pid, _)| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        tasks.filter_map(|task| Some(thread(pid, task.ok()?.file_name().to_str()?))).collect::<Vec<_>>()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Kills a session, until nobody of it is left or could be born.
fn end_session(leader: u32) {
    for _ in 0..50 {
        let members = members(leader);
        if members.iter().all(|(pid, _)| pid.unsigned_abs() == leader) {
            break;
        }
        for (pid, _) in members {
            let pid = rustix::process::Pid::from_raw(pid).expect("a process's number");
            // It may have ended.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `argv` in every mode, `times` over, with equal outcomes and an unchanged root.
///
/// # Panics
/// If an outcome is another than the first, or it lacks a line of `expected`, or the root changed.
#[track_caller]
pub fn same_in_each_mode(container: &Container, times: u64, argv: &[&str], expected: &[&str], status: i32) {
    let before = tree::fingerprint(&container.root);
    let mut reference: Option<Outcome> = None;
    for round in 1..=times {
        for mode in Mode::ALL {
            let outcome = container.run(mode, argv);
            let first = reference.get_or_insert(outcome.clone());
            assert!(first == &outcome, "{mode:?} in round {round}: {argv:?}\n{}", first.difference(&outcome));
            if round == 1 && mode == Mode::ALL[0] {
                assert_eq!(outcome.status, status, "{argv:?}: {}{}", outcome.out, outcome.err);
                outcome.assert_lines(expected);
            }
            let after = tree::fingerprint(&container.root);
            assert!(
                before == after,
                "{mode:?} changed the root: {:?}",
                before.iter().find(|line| !after.contains(line))
            );
        }
    }
}
