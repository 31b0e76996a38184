//! A Slurm cluster of two nodes on this machine, by `tests/slurm/cluster.sh`: one per test, gone with the value.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{code, is_root, stderr, stdout};

/// After how long a command is taken for one that hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A release of Slurm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian 12's, of this machine: 22.05.
    Bookworm,
    /// Debian 13's: 24.11.
    Trixie,
    /// That of the Debian after it: 26.05.
    Forky,
}

impl Release {
    /// As Slurm counts.
    pub fn number(self) -> &'static str {
        match self {
            Self::Bookworm => "22.05",
            Self::Trixie => "24.11",
            Self::Forky => "26.05",
        }
    }

    /// The root of its Debian, with its MPIs and a compiler; made on first use, which takes minutes. `/` for this machine's.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn root(self) -> PathBuf {
        let output = script().args(["root", self.number()]).output().expect("bash is there");
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim().into()
    }
}

/// A running cluster.
pub struct Cluster {
    release: Release,
    directory: tempfile::TempDir,
}

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("slurm/cluster.sh"));
    command
}

/// What came of a command: status, standard output and standard error.
pub type Ended = (i32, String, String);

impl Cluster {
    /// Starts one whose hosts see `binds` where they lie here, and this checkout.
    ///
    /// # Panics
    /// If it does not start.
    pub fn up(release: Release, binds: &[&Path]) -> Self {
        Self::up_with(release, binds, &[], "")
    }

    /// Starts one with files of its own below /etc (name there, and text), and lines of its own in slurm.conf.
    ///
    /// # Panics
    /// As [`Self::up`].
    pub fn up_with(release: Release, binds: &[&Path], files: &[(&str, &str)], conf: &str) -> Self {
        // Its own limit: a cluster starts in seconds.
        release.root();
        assert!(is_root(), "a cluster needs root: its daemons are root's, and so are its mounts");
        let cluster = Self { release, directory: tempfile::tempdir().expect("a temporary directory") };
        let mut command = cluster.script("up");
        binds.iter().for_each(|bind| _ = command.arg("--bind").arg(bind));
        let etc = cluster.directory.path().join("etc");
        for (name, text) in files {
            let path = etc.join(name);
            std::fs::create_dir_all(path.parent().expect("a file's directory")).expect("a directory");
            std::fs::write(path, text).expect("a file");
            command.arg("--etc").arg(&etc);
        }
        let lines = cluster.directory.path().join("conf");
        std::fs::write(&lines, conf).expect("a file");
        let output = limited(command.arg("--conf").arg(&lines));
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        cluster
    }

    fn script(&self, action: &str) -> Command {
        let mut command = script();
        command.args([action, self.release.number(), "--state"]).arg(self.state());
        command
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The hosts' /etc, as it lies here.
    pub fn etc(&self) -> PathBuf {
        self.state().join("etc")
    }

    /// The home of the user `tester` on all hosts, as it lies here.
    pub fn home(&self) -> PathBuf {
        self.state().join("home")
    }

    /// Runs `words` as `tester` in `/home/tester` of the host `ctl`, with `variables` (`NAME=VALUE`) and little else.
    ///
    /// # Panics
    /// If it does not end in two minutes.
    pub fn run(&self, variables: &[&str], words: &[&str]) -> Ended {
        let mut command = self.script("run");
        variables.iter().for_each(|variable| _ = command.args(["--env", variable]));
        let output = limited(command.arg("--").args(words));
        (code(&output), stdout(&output), without_waits(&stderr(&output)))
    }

    /// `words`, to be run as by [`Self::run`].
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.script("run");
        command.arg("--").args(words);
        command
    }

    /// Runs `words` on a node.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_on(&self, node: &str, words: &[&str]) -> Ended {
        let output = limited(self.script("run").args(["--on", node, "--"]).args(words));
        (code(&output), stdout(&output), stderr(&output))
    }

    /// Runs `words` on a host as root.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_as_root(&self, host: &str, words: &[&str]) -> Ended {
        let output = limited(self.script("run").args(["--root", "--on", host, "--"]).args(words));
        (code(&output), stdout(&output), stderr(&output))
    }

    /// Waits until the nodes have done with all jobs (a job that has ended leaves its node completing for a while); for how
    /// long they had to.
    ///
    /// # Panics
    /// If they have not after a minute.
    pub fn idle(&self) -> Duration {
        let since = Instant::now();
        loop {
            let (_, states, _) = self.run(&[], &["sinfo", "-N", "-h", "-o", "%N %t"]);
            if states == "n1 idle\nn2 idle\n" {
                return since.elapsed();
            }
            assert!(since.elapsed() < Duration::from_secs(60), "{states}{}", self.run(&[], &["sinfo", "-N", "-R"]).1);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it; returns what still ran when its daemons had ended.
    ///
    /// # Panics
    /// If that fails.
    pub fn down(self) -> String {
        let output = limited(&mut self.script("down"));
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that failed has said why; this is for what it leaves.
        let _ = self.script("down").stdout(Stdio::null()).status();
    }
}

fn limited(command: &mut Command) -> Output {
    // In a file, so that nobody who keeps it open holds the test up.
    let (out, err) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    let share = |file: &std::fs::File| Stdio::from(file.try_clone().expect("a descriptor"));
    let mut child =
        command.stdin(Stdio::null()).stdout(share(&out)).stderr(share(&err)).spawn().expect("bash is there");
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if since.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("{command:?} hangs: {}{}", read(&out), read(&err));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Output { status, stdout: read(&out).into(), stderr: read(&err).into() }
}

fn read(mut file: &std::fs::File) -> String {
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).and_then(|()| std::io::Read::read_to_end(&mut file, &mut bytes)).expect("a file");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `err` without what srun says if the step before still had its processors.
pub fn without_waits(err: &str) -> String {
    let waits = |line: &str| {
        line.starts_with("srun: Step created for ")
            || line.starts_with("srun: Job ") && line.contains(" step creation ")
    };
    err.split_inclusive('\n').filter(|line| !waits(line)).collect()
}
