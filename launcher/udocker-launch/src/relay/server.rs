//! The relay: a process beside a script, that runs commands for it and ends with it.
//!
//! It is no child of the script and holds none of its files, so nothing waits for it that waits for the script's children or
//! for the end of its output.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, accept_with, recvmsg, send,
    sockopt::socket_peercred,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open};
use udocker_core::error::Failure;
use udocker_core::sys::process::{fork_child, start_time, wait};
use udocker_core::sys::signal::SignalFd;
use udocker_core::sys::{fds, signal};

use super::Host;
use super::command::{CommandError, Running};
use super::directory::Directory;
use super::words::{Answer, Call, from_byte};

/// For so long commands may go on once their script has ended and they were asked to end.
const GRACE: Duration = Duration::from_secs(1);
/// Where the kernel does not tell of the end of a process, it is looked for so often.
const LOOK: Duration = Duration::from_secs(1);
/// The files of a call.
const FILES: usize = 4;
/// So many shims are served at once, each by a descriptor and those of its call; more wait until they are accepted.
const MOST: usize = 150;

/// Starts the relay. When this returns it listens.
pub fn start(directory: &Directory, host: &Host) -> io::Result<()> {
    let Some((listener, lock)) = directory.listen()? else { return Ok(()) };
    let script = Script::own()?;
    let children = [listener.as_raw_fd(), lock.as_raw_fd()].into_iter().chain(script.descriptor());
    let kept: Vec<i32> = children.collect();
    let middle = fork_child(|| {
        let born = fork_child(|| {
            signal::block_all();
            // A session of its own: a terminal's signals are the script's.
            let _leads_none = rustix::process::setsid();
            fds::close(&[0, 1, 2]);
            // Without /proc some may stay: they are nobody's who waits for their end.
            let _all_it_can = fds::close_inherited_except(&kept);
            let set_up = fds::hold_standard_streams().map_err(io::Error::from);
            let set_up = set_up.and_then(|()| Ok(rustix::process::chdir("/")?));
            let _shown_as = rustix::thread::set_name(c"udocker-relay");
            let children = set_up.and_then(|()| SignalFd::new(&[Signal::CHILD.as_raw()]));
            let Ok(children) = children else { return 1 };
            let mut server =
                Server { host, listener: &listener, _lock: &lock, script, children, calls: Vec::new(), until: None };
            server.serve();
            directory.remove();
            0
        });
        u8::from(born.is_err())
    })?;
    // The middle one ends, so that the relay is no child of the program which this process becomes.
    match wait(middle)?.exit_status() {
        Some(0) => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

/// The process that is served.
enum Script {
    /// It can be waited for (pidfd_open(2), Linux 5.3).
    Descriptor(OwnedFd),
    /// Its number, and when it started.
    Number(u32, u64),
}

impl Script {
    /// This process.
    fn own() -> io::Result<Self> {
        match pidfd_open(rustix::process::getpid(), PidfdFlags::empty()) {
            Ok(fd) => Ok(Self::Descriptor(fd)),
            Err(_) => Ok(Self::Number(std::process::id(), start_time(std::process::id())?)),
        }
    }

    fn descriptor(&self) -> Option<i32> {
        match self {
            Self::Descriptor(fd) => Some(fd.as_raw_fd()),
            Self::Number(..) => None,
        }
    }
}

/// One shim.
struct Connection {
    socket: OwnedFd,
    state: State,
}

enum State {
    /// Its call is on the way.
    Arriving { bytes: Vec<u8>, files: Vec<OwnedFd> },
    /// Its command runs.
    Runs(Running),
    /// Its command runs, and nobody waits for it.
    Left(Running),
    /// Nothing is left to do for it.
    Done,
}

struct Server<'a> {
    host: &'a Host,
    listener: &'a UnixListener,
    /// It is known to live by this.
    _lock: &'a File,
    script: Script,
    children: SignalFd,
    calls: Vec<Connection>,
    /// Once the script has ended: when what still runs is killed.
    until: Option<Instant>,
}

impl Server<'_> {
    /// Serves until the script and what it started here have ended.
    fn serve(&mut self) {
        loop {
            let ready = self.wait();
            if self.until.is_none() && self.has_ended(&ready) {
                self.until = Some(Instant::now() + GRACE);
                // Nobody is there to start more.
                for call in self.calls.iter_mut().filter(|call| matches!(call.state, State::Arriving { .. })) {
                    call.state = State::Done;
                }
                self.each_running(|running| running.signal(Signal::TERM));
            }
            while self.children.next().is_some() {}
            self.reap();
            for (call, _) in self.calls.iter_mut().zip(&ready.calls).filter(|(_, ready)| **ready) {
                call.hear(self.host);
            }
            self.calls.retain(|call| !matches!(call.state, State::Done));
            match self.until {
                None if ready.listener => self.accept(),
                Some(_) if self.calls.is_empty() => return,
                Some(until) if until <= Instant::now() => {
                    self.each_running(|running| running.signal_all(Signal::KILL));
                    return;
                }
                _ => {}
            }
        }
    }

    fn wait(&self) -> Ready {
        let watched = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let takes_more = self.until.is_none() && self.calls.len() < MOST;
        let listener = if takes_more { self.listener.as_fd() } else { self.children.as_fd() };
        let mut polled = vec![watched(listener), watched(self.children.as_fd())];
        // What nobody waits for any more is only reaped.
        let silent = |call: &Connection| matches!(call.state, State::Left(_));
        polled.extend(self.calls.iter().map(|call| match silent(call) {
            true => PollFd::from_borrowed_fd(self.children.as_fd(), PollFlags::IN),
            false => watched(call.socket.as_fd()),
        }));
        // Once it has ended its descriptor is ready for ever.
        if let (Script::Descriptor(fd), None) = (&self.script, self.until) {
            polled.push(watched(fd.as_fd()));
        }
        let left = match (&self.script, self.until) {
            (_, Some(until)) => Some(until.saturating_duration_since(Instant::now())),
            (Script::Number(..), None) => Some(LOOK),
            (Script::Descriptor(_), None) => None,
        };
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        // Interrupted, nothing is ready.
        let _ = poll(&mut polled, left.as_ref());
        let is_ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (calls, script) = is_ready[2..].split_at(self.calls.len());
        let calls = calls.iter().zip(&self.calls).map(|(ready, call)| *ready && !silent(call)).collect();
        Ready { listener: takes_more && is_ready[0], calls, script: script.first().is_some_and(|ready| *ready) }
    }

    fn has_ended(&self, ready: &Ready) -> bool {
        match self.script {
            Script::Descriptor(_) => ready.script,
            Script::Number(pid, start) => start_time(pid).ok() != Some(start),
        }
    }

    fn each_running(&self, act: impl Fn(&Running)) {
        for call in &self.calls {
            if let State::Runs(running) | State::Left(running) = &call.state {
                act(running);
            }
        }
    }

    fn accept(&mut self) {
        while self.calls.len() < MOST
            && let Ok(socket) = accept_with(self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            let mut call = Connection { socket, state: State::Arriving { bytes: Vec::new(), files: Vec::new() } };
            let own = rustix::process::geteuid();
            match socket_peercred(&call.socket) {
                Ok(peer) if peer.uid == own => self.calls.push(call),
                Ok(peer) => call.refuse(CommandError::Stranger(peer.uid.as_raw())),
                Err(_) => {}
            }
        }
    }

    /// Tells of commands that have ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if let Some(call) = self.calls.iter_mut().find(|call| call.pid() == Some(pid)) {
                call.answer(&Answer::Ended(status.as_raw()));
            }
        }
    }
}

/// What has something to say.
struct Ready {
    listener: bool,
    calls: Vec<bool>,
    script: bool,
}

impl Connection {
    fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Runs(running) | State::Left(running) => Some(running.pid()),
            State::Arriving { .. } | State::Done => None,
        }
    }

    /// The last word to the shim. It is short, and the only one: the socket takes it at once.
    fn answer(&mut self, answer: &Answer) {
        // A shim that is gone needs none.
        let _ = send(&self.socket, &answer.to_bytes(), SendFlags::NOSIGNAL);
        self.state = State::Done;
    }

    fn refuse(&mut self, error: CommandError) {
        self.answer(&Answer::Refused(Failure::from(error).report()));
    }

    /// Takes what the shim has sent.
    fn hear(&mut self, host: &Host) {
        let mut buffer = [0; 1 << 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let count = match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => 0,
        };
        let came = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let came: Vec<OwnedFd> = came.flatten().collect();
        match &mut self.state {
            State::Runs(running) if count > 0 => {
                buffer[..count].iter().for_each(|byte| running.pass_on(from_byte(*byte)));
            }
            State::Runs(running) => {
                running.signal_all(Signal::CONT);
                running.signal(Signal::TERM);
                let State::Runs(running) = std::mem::replace(&mut self.state, State::Done) else { return };
                self.state = State::Left(running);
            }
            State::Arriving { .. } if count == 0 => self.state = State::Done,
            State::Arriving { bytes, files } => {
                bytes.extend(&buffer[..count]);
                files.extend(came);
                match Call::from_bytes(bytes) {
                    Ok(None) => {}
                    Ok(Some((call, length))) => {
                        let signals = bytes.split_off(length);
                        let files = std::mem::take(files);
                        self.run(call, files, &signals, host);
                    }
                    Err(()) => self.refuse(CommandError::Nonsense),
                }
            }
            State::Left(_) | State::Done => {}
        }
    }

    fn run(&mut self, call: Call, files: Vec<OwnedFd>, signals: &[u8], host: &Host) {
        let started = <[OwnedFd; FILES]>::try_from(files).map_err(|_| CommandError::Nonsense);
        match started.and_then(|files| Running::start(call, files, host)) {
            Ok(running) => {
                signals.iter().for_each(|byte| running.pass_on(from_byte(*byte)));
                self.state = State::Runs(running);
            }
            Err(error) => self.refuse(error),
        }
    }
}
