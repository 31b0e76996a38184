//! A command of the scheduler, as a program inside: it has the relay run it, and is for its caller what that would be.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, IoSlice};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, send, sendmsg};
use rustix::process::Signal;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::sys::signal::{Arrived, SignalFd, ignored, stop_by_terminal};
use udocker_core::sys::supervised::Ended;

use super::words::{Answer, Call, to_byte};
use super::{INSIDE, SHIMS};
use crate::status;

/// What is passed on to the command.
const SIGNALS: [Signal; 9] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::CONT,
    Signal::TSTP,
];

/// The command did not run, as far as is known here.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("cannot run {name}: nobody runs the scheduler's commands for this container any more")]
    NoRelay {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot run {0}: its arguments and its environment are larger than a program may get")]
    TooLong(String),
    #[error("cannot run {name}")]
    System {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot tell how {0} ended: who ran it for this container has ended")]
    Lost(String),
}

impl Explain for ShimError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong(_) => ErrorKind::Usage,
            _ => ErrorKind::System,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoRelay { .. } => {
                vec![
                    "they work as long as the job's script does, on its node; of a step with a terminal in task 0"
                        .into(),
                ]
            }
            Self::TooLong(_) => vec!["hand large values over in files".into()],
            Self::Lost(name) => {
                vec![format!("what {name} was to do may be done or go on: `squeue --steps` on a login node tells")]
            }
            Self::System { .. } => Vec::new(),
        }
    }
}

/// Whether this program was started as one of the scheduler's commands.
pub fn is_shim(name: &OsStr) -> bool {
    let name = Path::new(name).file_name().unwrap_or_default();
    name != "udocker-launch" && !name.is_empty() && Path::new(SHIMS).join(name).symlink_metadata().is_ok()
}

/// Runs the command of `words` outside; returns how it ended, or ends by the signal that ended it.
pub fn run(words: Vec<OsString>, env: Vec<(OsString, OsString)>) -> u8 {
    let name = Path::new(&words[0]).file_name().unwrap_or_default().display().to_string();
    let report = match relay(&name, words, env) {
        Ok(Answer::Ended(wait_status)) => return ended(wait_status).mirror(),
        Ok(Answer::Refused(text)) => text,
        Err(error) => Failure::from(error).report(),
    };
    // Nobody is left to tell if stderr is gone.
    let _ = rustix::io::write(io::stderr(), format!("udocker: {report}\n").as_bytes());
    status::USAGE
}

/// What waitpid(2) told of it.
fn ended(status: i32) -> Ended {
    match status & 0x7f {
        0 => Ended::Status((status >> 8) as u8),
        signal => Ended::Signal(signal),
    }
}

fn relay(name: &str, argv: Vec<OsString>, env: Vec<(OsString, OsString)>) -> Result<Answer, ShimError> {
    let system = |source: io::Error| ShimError::System { name: name.into(), source };
    // One that is ignored is read all the same: whether it does anything is the command's to say, which ignores it as well.
    let ignored = ignored();
    let signals = SignalFd::new(&SIGNALS.map(Signal::as_raw)).map_err(system)?;
    let directory = std::env::current_dir().map(Into::into).unwrap_or_default();
    let call = Call { ignored, directory, argv, env };
    let bytes = call.to_bytes().ok_or_else(|| ShimError::TooLong(name.into()))?;
    let no_relay = |source| ShimError::NoRelay { name: name.into(), source };
    let socket = UnixStream::connect(Path::new(INSIDE).join("socket")).map_err(no_relay)?;
    let here = rustix::fs::open(c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    hand_over(&socket, &bytes, &here.map_err(|error| system(error.into()))?).map_err(|error| system(error.into()))?;
    loop {
        let mut polled =
            [PollFd::new(&socket, PollFlags::IN), PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(system(error.into())),
        }
        let has_answer = !polled[0].revents().is_empty();
        let mut is_stopped = false;
        // Where the relay has ended the answer tells.
        let pass_on = |arrived| _ = send(&socket, &[to_byte(arrived)], SendFlags::NOSIGNAL);
        while let Some(arrived) = signals.next() {
            pass_on(arrived);
            if arrived.signal == Signal::TSTP.as_raw() {
                stop_by_terminal();
            }
            is_stopped = match arrived.signal {
                signal if signal == Signal::TSTP.as_raw() => true,
                signal => is_stopped && signal != Signal::CONT.as_raw(),
            };
        }
        if is_stopped {
            // It goes on, and nobody had to tell it: its group is orphaned.
            pass_on(Arrived { signal: Signal::CONT.as_raw(), from_kernel: false });
        }
        if has_answer {
            return answer(&socket).ok_or_else(|| ShimError::Lost(name.into()));
        }
    }
}

/// Sends all of `bytes`, and with the first of them the files.
fn hand_over(socket: &UnixStream, bytes: &[u8], directory: &OwnedFd) -> rustix::io::Result<()> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let files = [directory.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let mut sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    while sent < bytes.len() {
        sent += send(socket, &bytes[sent..], SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// All that the relay says, until it hangs up.
fn answer(socket: &UnixStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        match recv(socket, &mut part, rustix::net::RecvFlags::empty()) {
            Ok((_, 0)) => return Answer::from_bytes(&bytes),
            Ok((_, count)) => bytes.extend(&part[..count]),
            Err(Errno::INTR) => {}
            // It has closed with signals of ours unread.
            Err(_) => return Answer::from_bytes(&bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_waitpid_does() {
        for (status, expected) in
            [(0, Ended::Status(0)), (0x0900, Ended::Status(9)), (15, Ended::Signal(15)), (0x8b, Ended::Signal(11))]
        {
            assert_eq!(ended(status), expected);
        }
    }
}
