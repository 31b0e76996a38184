//! What the plugin leaves to the toolkit when a job is submitted, across an exec: it reads no configuration itself and asks no
//! registry.
//!
//! ```text
//! udocker resolve --request      rules, digest: the request comes back as it is to be sent, or the job is refused
//! udocker-launch --explain       the plan, of what would be sent
//! ```
//! Both are started by posix_spawn(3), which is what [`Command`] does where nothing runs between fork and exec: srun has threads
//! of its own by then.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use udocker_core::env_vars::{
    PBS_ACCOUNT, PBS_QUEUE, SLURM_JOB_ACCOUNT, SLURM_JOB_PARTITION, SLURM_UDOCKER_REQUEST, SLURM_UDOCKER_SAID,
};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::reference::ImageReference;
use udocker_core::run::{RequestError, RunRequest, Said, for_slurm, is_path};
use udocker_spank_sys::Client;

use crate::line::Line;

/// Who says nothing for so long is ended. A registry has 5 s to answer, and a file system may have to wake.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a silent child is looked at, and what it said so far is told.
const TICK: Duration = Duration::from_millis(50);
/// No longer is what an ended child left in its pipes read, of which each has 64 KiB at most.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// No answer is longer: a request has 32 KiB at most.
const MAX_ANSWER: usize = 64 << 10;

/// The job is not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// In the words of the program that refused it.
    #[error("{0}")]
    Refused(String),
    #[error("cannot send the request to the job")]
    Request(#[source] RequestError),
    #[error("cannot explain the plan: cannot run {program}")]
    Explain {
        program: String,
        #[source]
        source: std::io::Error,
    },
}

impl Explain for SubmitError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(_) => ErrorKind::Forbidden,
            Self::Request(_) => ErrorKind::Usage,
            Self::Explain { .. } => ErrorKind::System,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(_) => Vec::new(),
            Self::Request(error) => error.hints(),
            Self::Explain { .. } => {
                vec!["the site installs it on submit hosts too, or names it by `launcher=` behind the plugin".into()]
            }
        }
    }
}

/// `request` as it is to be sent: with the digest of its image, if the site wants one. What the program remarks goes to `tell`.
///
/// Where it cannot be asked the request stays as it is, and the nodes do what is left: that is told too, if it is more than
/// advice.
///
/// # Errors
/// [`SubmitError::Refused`]
pub fn resolve(
    line: &Line,
    client: Client,
    request: RunRequest,
    tell: &mut dyn FnMut(&str),
) -> Result<RunRequest, SubmitError> {
    let program = line.launcher.with_file_name("udocker");
    let mut command = Command::new(&program);
    if rustix::process::geteuid().is_root() {
        command.arg("--allow-root");
    }
    command.args(["resolve", "--request"]);
    command.env(SLURM_UDOCKER_REQUEST, request.to_json().map_err(SubmitError::Request)?);
    line.configure(&mut command);
    if client == Client::Allocator {
        // They are of the job from which this one is submitted.
        [SLURM_JOB_ACCOUNT, SLURM_JOB_PARTITION, PBS_ACCOUNT, PBS_QUEUE]
            .iter()
            .for_each(|name| _ = command.env_remove(name));
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let why = match child.and_then(|child| listen(child, PATIENCE, tell)) {
        Ok(Some(Heard { status, answer, refusal })) => match (status.code(), RunRequest::from_json(&answer)) {
            (Some(0), Ok(answer)) => return Ok(answer),
            (Some(0), Err(error)) => format!("gave no answer: {error}"),
            (Some(status), _) if refusal.is_empty() => {
                let text = format!("cannot prepare the job: {} resolve ended with status {status}", program.display());
                return Err(SubmitError::Refused(text));
            }
            (Some(_), _) => return Err(SubmitError::Refused(refusal)),
            (None, _) => format!("was ended ({status})"),
        },
        Ok(None) => format!("said nothing for {} s and was ended", PATIENCE.as_secs()),
        Err(error) => format!("cannot be run: {error}"),
    };
    // What is no tag has nothing to lose but advice.
    let is_tag = request.image.parse::<ImageReference>().is_ok_and(|image| image.digest().is_none());
    if is_tag && !is_path(&request.image) {
        let program = program.display();
        tell(&format!(
            "warning: {} is not pinned to a digest when the job is submitted: {program} {why}",
            request.image
        ));
    }
    Ok(request)
}

/// Prints the plan of `request`, of which `said` tells who asked for what, for a job that runs `words`; the status.
///
/// # Errors
/// [`SubmitError::Explain`]
pub fn explain(line: &Line, request: &RunRequest, said: &[Said], words: &[OsString]) -> Result<i32, SubmitError> {
    let mut command = Command::new(&line.launcher);
    command.args(["--explain", "--"]).args(words).stdin(Stdio::null());
    command.env(SLURM_UDOCKER_REQUEST, request.to_json().map_err(SubmitError::Request)?);
    command.env(SLURM_UDOCKER_SAID, Said::to_json(said));
    line.configure(&mut command);
    let failed = |source| SubmitError::Explain { program: line.launcher.display().to_string(), source };
    Ok(command.status().map_err(failed)?.code().unwrap_or(1))
}

/// What a child came to.
#[derive(Debug)]
struct Heard {
    status: ExitStatus,
    /// Its standard output.
    answer: Vec<u8>,
    /// What it says last, if that is an error.
    refusal: String,
}

/// Waits for `child`, which ends or says something within `patience`, again and again; what it remarks goes to `tell` in our form.
/// `None`: it did neither, and was killed.
fn listen(mut child: Child, patience: Duration, tell: &mut dyn FnMut(&str)) -> std::io::Result<Option<Heard>> {
    let out = child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
    let err = child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
    let mut pipes = [(out, Vec::new()), (err, Vec::new())];
    let mut remarks = Remarks::default();
    let mut last_word = Instant::now();
    let mut end = None;
    let status = loop {
        // Asked before the pipes are: all that it said until then is in them.
        if end.is_none() {
            end = child.try_wait()?.map(|status| (status, Instant::now()));
        }
        let is_quiet = pipes.iter().all(|(pipe, _)| pipe.is_none());
        let heard = !is_quiet && hear(&mut pipes)?;
        if heard {
            last_word = Instant::now();
        }
        // Of a message that is being said the rest comes with the next lines; in a pause it is whole.
        if !heard || pipes[1].1.len() > MAX_ANSWER / 2 {
            remarks.tell(&mut pipes[1].1, tell);
        }
        match end {
            // One who left our pipe to a child of its own has ended all the same, also if that talks on.
            Some((status, since)) if !heard || since.elapsed() > LAST_WORDS => break status,
            None if last_word.elapsed() > patience => {
                // It is gone at once, but for what hangs in a file system, which nobody waits for.
                let _ = child.kill();
                std::thread::sleep(Duration::from_millis(20));
                let _ = child.try_wait();
                return Ok(None);
            }
            // It has closed both and is about to end.
            None if is_quiet => std::thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
    };
    let [(_, answer), (_, mut rest)] = pipes;
    remarks.tell(&mut rest, tell);
    Ok(Some(Heard { status, answer, refusal: remarks.refusal }))
}

/// Reads what comes within a [`TICK`]; whether anything did. A pipe that has ended is gone.
fn hear(pipes: &mut [(Option<File>, Vec<u8>); 2]) -> std::io::Result<bool> {
    let open: Vec<usize> = (0..2).filter(|at| pipes[*at].0.is_some()).collect();
    let until = Instant::now() + TICK;
    let ready: Vec<usize> = {
        let mut polled: Vec<PollFd<'_>> =
            pipes.iter().filter_map(|(pipe, _)| Some(PollFd::new(pipe.as_ref()?, PollFlags::IN))).collect();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut polled, Some(&left)) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        open.into_iter().zip(&polled).filter(|(_, fd)| !fd.revents().is_empty()).map(|(at, _)| at).collect()
    };
    for at in &ready {
        let (pipe, text) = &mut pipes[*at];
        let mut part = [0; 4096];
        let length = match pipe.as_mut().map_or(Ok(0), |pipe| pipe.read(&mut part)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if length == 0 || text.len() + length > MAX_ANSWER {
            *pipe = None;
        }
        text.extend_from_slice(&part[..length]);
    }
    Ok(!ready.is_empty())
}

/// A program's messages, each of a line that says what it is and of indented ones.
#[derive(Default)]
struct Remarks {
    refusal: String,
}

impl Remarks {
    /// Tells the whole lines of `text`; what is an error is kept.
    fn tell(&mut self, text: &mut Vec<u8>, tell: &mut dyn FnMut(&str)) {
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return };
        let lines: Vec<u8> = text.drain(..=end).collect();
        let mut messages: Vec<String> = Vec::new();
        for line in for_slurm(&String::from_utf8_lossy(&lines)).lines() {
            match messages.last_mut() {
                Some(message) if line.starts_with("  ") => message.extend(["\n", line]),
                _ => messages.push(line.to_owned()),
            }
        }
        for message in messages {
            if let Some(error) = message.strip_prefix("Error: ") {
                error.clone_into(&mut self.refusal);
            } else if let Some(warning) = message.strip_prefix("Warning: ") {
                tell(&format!("warning: {warning}"));
            } else {
                tell(message.strip_prefix("Info: ").unwrap_or(&message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, answer and refusal.
    type Ended = (Option<i32>, String, String);

    /// What `script` comes to that stands for `udocker`, and what is told.
    fn heard(script: &str, patience: u64) -> (Option<Ended>, Vec<String>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut told = Vec::new();
        let child = command.spawn().expect("a shell");
        let heard = listen(child, Duration::from_millis(patience), &mut |text| told.push(text.to_owned()));
        let heard = heard
            .expect("a child")
            .map(|heard| (heard.status.code(), String::from_utf8(heard.answer).expect("a text"), heard.refusal));
        (heard, told)
    }

    #[test]
    fn a_child_answers_remarks_and_refuses() {
        let script = "echo 'Warning: old' >&2; echo '  hint: new' >&2; echo 'Info: so far' >&2; echo answer";
        let told = vec!["warning: old\n  hint: new".into(), "so far".into()];
        assert_eq!(heard(script, 20_000), (Some((Some(0), "answer\n".into(), String::new())), told));
        let script = "printf 'Error: cannot\n  caused by: it\n' >&2; exit 1";
        let refusal = "cannot\n  caused by: it".to_owned();
        assert_eq!(heard(script, 20_000), (Some((Some(1), String::new(), refusal)), Vec::new()));
    }

    #[test]
    fn silence_ends_a_child_and_words_do_not() {
        let since = Instant::now();
        assert_eq!(heard("exec sleep 100", 300), (None, Vec::new()));
        // Longer in all than it may be silent.
        let script = "for i in 1 2 3 4 5; do sleep 0.2; echo $i >&2; done; echo answer";
        let told = ["1", "2", "3", "4", "5"].map(String::from).to_vec();
        assert_eq!(heard(script, 700), (Some((Some(0), "answer\n".into(), String::new())), told));
        // Whoever keeps the pipes open is not waited for.
        assert_eq!(heard("sleep 100 & echo answer", 20_000).0, Some((Some(0), "answer\n".into(), String::new())));
        // Also if it talks on.
        let chatters = "while sleep 0.01; do echo x >&2; done & echo answer";
        assert_eq!(heard(chatters, 20_000).0, Some((Some(0), "answer\n".into(), String::new())));
        assert!(since.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn much_is_heard_whole_and_too_much_is_cut() {
        // A megabyte of messages, each of which is told, and the error behind them.
        let script = "seq -f 'Info: %010.0f' 60000 >&2; printf 'Error: cannot\n  caused by: it\n' >&2; exit 1";
        let (ended, told) = heard(script, 20_000);
        assert_eq!(ended, Some((Some(1), String::new(), "cannot\n  caused by: it".into())));
        let all: Vec<String> = (1..=60_000).map(|number| format!("{number:010}")).collect();
        assert!(told == all, "{} of {}: {:?}", told.len(), all.len(), told.last());
        // Beyond the limit nobody listens: whoever goes on meets a closed pipe.
        let long = "head -c 1048576 /dev/zero | tr '\\0' x";
        for (script, status) in [
            (format!("exec >&2; {long}"), Some(141)),
            (format!("exec >&2; {long}; exit 1"), Some(1)),
            (long.to_owned(), Some(141)),
        ] {
            let (ended, told) = heard(&script, 20_000);
            let (code, answer, refusal) = ended.expect("it ends");
            assert_eq!((code, refusal.as_str(), told.len()), (status, "", 0), "{script}");
            match script.starts_with("exec") {
                true => assert_eq!(answer, "", "{script}"),
                false => assert!((1..=4096).contains(&(answer.len() - MAX_ANSWER)), "{}", answer.len()),
            }
        }
    }

    /// Runs a test of this file's, `name`, alone in a process that strace disturbs as `options` say, and its children not; how
    /// many calls were.
    fn disturbed(name: &str, options: &[&str]) -> usize {
        let program = std::env::current_exe().expect("a test has a path");
        let log = std::env::temp_dir().join(format!("udocker-{name}-{}", std::process::id()));
        let mut command = Command::new("strace");
        command.args(["-f", "-b", "execve", "-o"]).arg(&log).args(options).arg(program).env(DISTURBED, "1");
        let output = command.args(["--exact", &format!("submit::tests::{name}")]).output();
        let output = output.expect("strace of the package of that name");
        let trace = std::fs::read_to_string(&log).expect("a trace");
        std::fs::remove_file(log).expect("a file of ours");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        trace.lines().filter(|line| line.contains("INJECTED") || line.contains("DELAYED")).count()
    }

    const DISTURBED: &str = "UDOCKER_TEST_IS_DISTURBED";

    /// As by a signal for which srun has a handler.
    #[test]
    fn interrupted_calls_are_made_again() {
        if std::env::var_os(DISTURBED).is_none() {
            let inject = ["-e", "trace=poll,ppoll,read", "-e", "inject=poll,ppoll:error=EINTR:when=2+2"];
            let all = [&inject[..], &["-e", "inject=read:error=EINTR:when=100+2"]].concat();
            let count = disturbed("interrupted_calls_are_made_again", &all);
            assert!(count > 100, "{count}");
            return;
        }
        let (ended, told) = heard("seq 1 100000 >&2; seq 1 10000; exit 3", 20_000);
        let lines = |count| (1..=count).map(|number| number.to_string());
        let answer: String = lines(10_000).map(|line| line + "\n").collect();
        assert!(ended == Some((Some(3), answer, String::new())), "{ended:?}");
        assert!(told.into_iter().eq(lines(100_000)));
        assert_eq!(heard("exec sleep 100", 300), (None, Vec::new()));
    }

    /// Between the look at its pipes and the look whether it still runs.
    #[test]
    fn regression_an_answer_at_the_last_moment_is_lost() {
        if std::env::var_os(DISTURBED).is_none() {
            let options = ["-e", "trace=wait4,waitid", "-e", "inject=wait4,waitid:delay_enter=200000"];
            let count = disturbed("regression_an_answer_at_the_last_moment_is_lost", &options);
            assert!(count > 0, "{count}");
            return;
        }
        // Silent in the first look, and gone before the question that comes 200 ms later.
        for pause in ["0.1", "0.13", "0.17"] {
            let script = format!("sleep {pause}; echo answer");
            assert_eq!(heard(&script, 20_000).0, Some((Some(0), "answer\n".into(), String::new())), "{pause}");
        }
    }
}
