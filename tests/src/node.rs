//! One node's user with a store and a run directory of his own, and ranks that he starts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{TestEnv, children, code, is_root, run, stderr, stdout};

/// Tells where it is: the mount namespace, what only the image has, what only the host has.
pub const WHERE: &str = "readlink /proc/self/ns/mnt; readlink /bin/sh; [ -e /usr/bin/env ] || echo no host";

/// A user with a store, an image `i`, and a run directory that no other test uses.
pub struct Node {
    /// Its store.
    pub env: TestEnv,
    directory: PathBuf,
}

impl Node {
    /// A new one.
    pub fn new() -> Self {
        let uid = if is_root() { 200_000 + std::process::id() } else { rustix::process::getuid().as_raw() };
        let mut env = TestEnv::new();
        env.set_uid(is_root().then_some(uid));
        for name in ["home", "store", "work"] {
            env.own_directory(name, 0o700);
        }
        env.import_busybox("i");
        Self { env, directory: format!("/dev/shm/udocker-{uid}").into() }
    }

    /// Rank `rank` of the step `step`, not started.
    pub fn rank(&self, step: &str, rank: u64, words: &[&str]) -> Command {
        let mut command = self.env.launch(words);
        command.env("PMIX_NAMESPACE", step).env("PMIX_RANK", rank.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(&self, step: &str, rank: u64, words: &[&str]) -> Child {
        self.rank(step, rank, words).spawn().expect("a rank starts")
    }

    /// What a rank prints that runs [`WHERE`], its namespace aside.
    pub fn inside(&self, output: &Output) -> String {
        assert_eq!((code(output), stderr(output).as_str()), (0, ""));
        let text = stdout(output);
        let (namespace, rest) = text.split_once('\n').expect("lines");
        assert_eq!(rest, "busybox\nno host\n");
        assert_ne!(namespace, fs::read_link("/proc/self/ns/mnt").unwrap().to_str().unwrap());
        namespace.to_owned()
    }

    /// The names that are left after `reap`.
    pub fn left(&self) -> Vec<String> {
        run(&mut self.env.launch(&["reap"]));
        let names =
            children(&self.directory).into_iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        let mut left: Vec<String> =
            names.filter(|name| !name.starts_with("namespaces-") && !["tmp", "xdg"].contains(&name.as_str())).collect();
        left.extend(children(&self.directory.join("tmp")).into_iter().map(|path| path.display().to_string()));
        left
    }

    /// A directory of the user's that nothing else uses.
    pub fn shared(&self) -> PathBuf {
        match self.env.path("shared") {
            path if path.exists() => path,
            _ => self.env.own_directory("shared", 0o755),
        }
    }

    /// The node's run directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `command` behind `words`, as the node's user with the same environment.
    pub fn behind(&self, words: &[&str], command: &Command) -> Command {
        let mut wrapped = Command::new(words[0]);
        wrapped.args(&words[1..]).arg(command.get_program()).args(command.get_args());
        wrapped.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.env.uid().into_iter().for_each(|uid| _ = wrapped.uid(uid).gid(uid));
        wrapped.current_dir("/").stdin(Stdio::null());
        wrapped
    }

    /// Processes of the node's user.
    pub fn processes(&self) -> Vec<String> {
        let uid = self.env.uid().unwrap_or(0).to_string();
        let output = Command::new("ps").args(["-o", "pid=,stat=,args=", "-U", &uid]).output().expect("ps of procps");
        stdout(&output).lines().filter(|line| !line.contains(" Z")).map(str::to_owned).collect()
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if is_root() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Waits until the process of `child` is the program that was started as `name`.
///
/// # Panics
/// If it is not within [`SOON`].
pub fn until_it_is(child: &Child, name: &str) {
    let since = Instant::now();
    let is_it = || {
        let words = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
        words.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    };
    while !is_it() {
        assert!(since.elapsed() < SOON, "process {} is not `{name}`", child.id());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The output of a rank that must end within `limit`.
///
/// # Panics
/// If it does not.
pub fn ended(mut child: Child, limit: Duration) -> Output {
    let since = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if since.elapsed() > limit {
            let processes =
                Command::new("ps").args(["-e", "-o", "pid,ppid,stat,wchan:32,args"]).output().expect("ps of procps");
            let _ = child.kill();
            panic!("rank {} hangs: {:?}\n{}", child.id(), child.wait_with_output(), stdout(&processes));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("output")
}

/// What ends at all ends within this, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// The one text that all are.
///
/// # Panics
/// If they differ.
pub fn one(namespaces: impl IntoIterator<Item = String>) -> String {
    let all: BTreeSet<String> = namespaces.into_iter().collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().expect("one")
}
