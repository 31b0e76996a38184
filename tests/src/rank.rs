//! A rank, run bare and in containers, and a batch system's view of it: its wait status, signals to all of its session.
//!
//! ```text
//! How      bare; by `udocker-launch` or `udocker run` in a mode
//! Ranks    a store with an image, and the program `programs/rank.c`, at one path inside and outside
//! Rank     one that runs: what it says, what becomes of it
//! ToWhom   which processes a sender signals
//! ```

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};

use crate::engines::{Mode, members};
use crate::images::cached;
use crate::{TestEnv, run, stdout};

/// How long to wait for what must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// How a rank's program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Without a container.
    Bare,
    /// By `udocker-launch`.
    Launched(Mode),
    /// By `udocker run`, which keeps nothing.
    Ran(Mode),
    /// By `udocker run --rm`, which stays beside its program in every mode.
    RanAndRemoved(Mode),
}

impl How {
    /// Those of a batch system.
    pub const LAUNCHED: [Self; 2] = [Self::Launched(Mode::N1), Self::Launched(Mode::P2)];
    /// All but the bare one.
    pub const CONTAINED: [Self; 5] = [
        Self::Launched(Mode::N1),
        Self::Launched(Mode::P2),
        Self::Ran(Mode::N1),
        Self::Ran(Mode::P2),
        Self::RanAndRemoved(Mode::N1),
    ];
}

/// A store with the image `bb:1`, and the program.
pub struct Ranks {
    /// Where everything lies.
    pub env: TestEnv,
}

impl Default for Ranks {
    fn default() -> Self {
        Self::new()
    }
}

impl Ranks {
    /// Imports the image, as an ordinary user, and compiles the program.
    pub fn new() -> Self {
        Self::of(TestEnv::ordinary())
    }

    /// The same as the user of `env`.
    pub fn of(env: TestEnv) -> Self {
        env.import_busybox("bb:1");
        let source: &[u8] = include_bytes!("../programs/rank.c");
        let compiled = cached("rank", &[source], |directory| {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/rank.c");
            run(Command::new("gcc").args(["-static", "-O1", "-Wall", "-o"]).arg(directory.join("rank")).arg(source));
        });
        fs::create_dir_all(env.path("shared")).expect("mkdir");
        fs::copy(compiled.join("rank"), env.path("shared/rank")).expect("a copy");
        Self { env }
    }

    /// Where the program lies, inside and outside.
    pub fn program(&self) -> PathBuf {
        self.env.path("shared/rank")
    }

    /// The command that runs `argv`, in a fresh environment and in the root directory.
    pub fn command(&self, how: How, argv: &[&str]) -> Command {
        let volume = format!("--volume={}", self.env.path("shared").display());
        let volumes = ["--nosysdirs", "--volume=/dev", "--volume=/proc", &volume];
        match how {
            How::Bare => {
                // As the others, but for the program.
                let like = self.env.launch(&[]);
                let mut command = Command::new(argv[0]);
                command.args(&argv[1..]).env_clear().current_dir("/").stdin(Stdio::null());
                command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
                self.as_user(&mut command);
                command
            }
            How::Launched(mode) => self.env.launch(&[&[&*format!("--mode={mode:?}"), "bb:1", "--"], argv].concat()),
            How::Ran(mode) => {
                let words = ["--quiet", "run", &format!("--mode={mode:?}"), "--write=none"];
                self.env.udocker(&[&words[..], &volumes, &["bb:1"], argv].concat())
            }
            How::RanAndRemoved(mode) => {
                let id = stdout(&run(&mut self.env.udocker(&["create", "bb:1"])));
                let words = ["--quiet", "run", &format!("--mode={mode:?}"), "--rm"];
                self.env.udocker(&[&words[..], &volumes, &[id.trim()], argv].concat())
            }
        }
    }

    fn as_user(&self, command: &mut Command) {
        if let Some(uid) = self.env.uid() {
            command.uid(uid).gid(uid);
        }
    }

    /// `command` behind `words`, as the same user with the same environment.
    pub fn behind(&self, words: &[&str], command: &Command) -> Command {
        let mut wrapped = Command::new(words[0]);
        wrapped.args(&words[1..]).arg(command.get_program()).args(command.get_args());
        wrapped.env_clear().current_dir("/").stdin(Stdio::null());
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.as_user(&mut wrapped);
        wrapped
    }

    /// Starts the program with these words, in a session of its own.
    pub fn start(&self, how: How, words: &[&str]) -> Rank {
        let program = self.program();
        let argv = [&[program.to_str().expect("UTF-8")], words].concat();
        Rank::start(self.behind(&["setsid"], &self.command(how, &argv)))
    }

    /// The same in a group of its own of this session, as a shell with job control starts it.
    pub fn start_in_group(&self, how: How, words: &[&str]) -> Rank {
        let program = self.program();
        let argv = [&[program.to_str().expect("UTF-8")], words].concat();
        let mut command = self.command(how, &argv);
        command.process_group(0);
        Rank::start(command)
    }

    /// The same as [`Self::start`] for a script of the shell, which calls `ready` when it is.
    pub fn start_script(&self, how: How, script: &str) -> Rank {
        let script = format!("ready() {{ echo ready $$; }}; {script}");
        let argv = ["/bin/busybox", "sh", "-c", &script];
        Rank::start(self.behind(&["setsid"], &self.command(how, &argv)))
    }
}

/// Which processes a sender signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToWhom {
    /// The one that was started: an MPI starter to its child, a user.
    Alone,
    /// Its group at once.
    Group,
    /// All of its session, one after the other, as PBS; the oldest first.
    Session,
    /// The same, the youngest first.
    SessionBackwards,
}

impl ToWhom {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alone, Self::Group, Self::Session, Self::SessionBackwards];
}

/// What a parent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing, in the time that it waited.
    Nothing,
    /// It exited.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// A signal stopped it.
    Stopped(i32),
}

/// A rank that runs.
pub struct Rank {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The program's own process, as it sees it.
    pub inner: i32,
    done: bool,
}

impl Rank {
    /// Starts `command` and waits until the program says `ready PID`.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let input = child.stdin.take();
        let mut rank = Self { child, input, output, inner: 0, done: false };
        let line = rank.line();
        let pid = line.strip_prefix("ready ").and_then(|pid| pid.parse().ok());
        rank.inner = pid.unwrap_or_else(|| panic!("{command:?} said {line:?}"));
        rank
    }

    /// The next line of its output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// The rest of its output: it ends when nobody has it open.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut text).expect("text");
        text
    }

    /// Writes a line to it, and returns the answer.
    pub fn ask(&mut self, question: &str) -> String {
        let input = self.input.as_mut().expect("it is open");
        input.write_all(format!("{question}\n").as_bytes()).expect("it reads");
        self.line()
    }

    /// The process that was started.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal by number.
    pub fn signal(&self, signal: i32, to: ToWhom) {
        let pid = self.pid();
        let number = named(signal);
        match to {
            ToWhom::Alone => kill_process(pid, number).expect("it is there"),
            ToWhom::Group => kill_process_group(pid, number).expect("it is there"),
            ToWhom::Session | ToWhom::SessionBackwards => {
                let leader = pid.as_raw_nonzero().get();
                let mut all: Vec<i32> = members(leader as u32).into_iter().map(|(pid, _)| pid).collect();
                all.sort_unstable();
                if to == ToWhom::SessionBackwards {
                    all.reverse();
                }
                for pid in all {
                    // It may end of what another got.
                    let _ = kill_process(Pid::from_raw(pid).expect("a process's number"), number);
                }
            }
        }
    }

    /// What its parent is told next, for so long at most.
    pub fn change_within(&mut self, time: Duration) -> Change {
        let end = Instant::now() + time;
        loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
            if let Some((_, status)) = waitpid(Some(self.pid()), options).expect("a child of ours") {
                if let Some(signal) = status.stopping_signal() {
                    return Change::Stopped(signal);
                }
                self.done = true;
                return match status.terminating_signal() {
                    Some(signal) => Change::Killed(signal),
                    None => Change::Exited(status.exit_status().expect("it ended")),
                };
            }
            if Instant::now() > end {
                return Change::Nothing;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// What its parent is told next; something must be.
    #[track_caller]
    pub fn change(&mut self) -> Change {
        let change = self.change_within(LIMIT);
        assert_ne!(change, Change::Nothing, "nothing happens to process {}", self.child.id());
        change
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.input = None;
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        if !self.done {
            // It may be stopped, or wait for us.
            self.signal(Signal::KILL.as_raw(), ToWhom::Session);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A signal by its number.
///
/// # Panics
/// If there is none.
pub fn named(signal: i32) -> Signal {
    Signal::from_named_raw(signal).expect("a signal with a name")
}

/// A file of `text` that everybody may read.
pub fn file(path: &Path, text: &str) -> File {
    fs::write(path, text).expect("write");
    File::open(path).expect("it was written")
}
