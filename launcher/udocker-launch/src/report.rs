//! Messages of a rank: one write each, prefixed with node and task where there is a job. What all ranks of a node have to
//! say is said by one of them.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use udocker_core::env_vars::{SLURM_UDOCKER_PROGRAM, SLURM_UDOCKER_REQUEST};
use udocker_core::error::Failure;
use udocker_core::reference::ImageReference;
use udocker_core::rendezvous::{Notice, Step, speaks_first};
use udocker_core::run::for_slurm;
use udocker_core::store::RunDirectory;
use udocker_core::sys::signal::without_sigpipe;

/// Prints `text` on stdout; a reader that went away is no failure.
pub fn print(text: &str) -> u8 {
    let printed = without_sigpipe(|| std::io::stdout().lock().write_all(text.as_bytes()));
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => 1,
        _ => 0,
    }
}

/// Prints `text` on stderr, as it is. Nobody is left to tell if that is gone.
pub fn tell(text: &str) {
    let _ = without_sigpipe(|| std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Whether Slurm's plugin has put us before the program (spank-plugin/src/task.rs), of what its user asked of Slurm's commands.
fn is_for_plugin() -> bool {
    let has = |name| std::env::var_os(name).is_some();
    let is_before_words = || std::env::args_os().nth(1).is_some_and(|word| word == "--");
    has(SLURM_UDOCKER_REQUEST) && (has(SLURM_UDOCKER_PROGRAM) || is_before_words())
}

/// This rank on stderr.
pub struct Voice<'a> {
    pub step: &'a Step,
    /// Candidates of the directory where the ranks agree who speaks.
    pub run_dirs: Vec<PathBuf>,
    /// 0: failures and long waits alone; 1: phases as well.
    pub verbose: u8,
    /// When the rank began.
    pub since: Instant,
}

impl Voice<'_> {
    /// Reports `failure` and returns `status`.
    pub fn fail(&self, failure: &Failure, status: u8) -> u8 {
        let text = failure.report();
        self.say(&if is_for_plugin() { for_slurm(&text) } else { text });
        status
    }

    /// Tells what a rank meets on its way into a shared container.
    pub fn notice(&self, notice: Notice) {
        self.say(&notice.to_string());
    }

    /// Tells that another rank of this node gets the image.
    pub fn waits_for_image(&self, reference: &ImageReference) {
        self.say(&format!("waiting for the task of this node that gets {reference}"));
    }

    /// Tells how far this rank is, and since when.
    pub fn phase(&self, what: &str) {
        if self.verbose > 0 {
            self.say_as(what, &format!("{what} after {:.3} s", self.since.elapsed().as_secs_f64()));
        }
    }

    /// Says `text`, unless another rank of this node has.
    pub fn say(&self, text: &str) {
        self.say_as(text, text);
    }

    /// Says `text`, unless another rank of this node has said what `key` names.
    fn say_as(&self, key: &str, text: &str) {
        if !self.speaks(key) {
            return;
        }
        let line = format!("udocker: {}{text}\n", self.prefix());
        // One write, so that lines of several ranks do not mix.
        tell(&line);
    }

    /// Whether this rank is the one of its node that says what `key` names.
    pub fn speaks(&self, key: &str) -> bool {
        let run = self.step.rank.as_ref().and_then(|_| RunDirectory::open(&self.run_dirs));
        run.is_none_or(|run| speaks_first(&run, self.step, key))
    }

    fn prefix(&self) -> String {
        if self.step.rank.is_none() && self.step.job.is_empty() {
            return String::new();
        }
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let node = node.split('.').next().unwrap_or(&node);
        self.step.rank.as_ref().map_or_else(|| format!("[{node}] "), |rank| format!("[{node} task {rank}] "))
    }
}
