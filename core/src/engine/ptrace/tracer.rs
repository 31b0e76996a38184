//! The event loop: which thread stopped, why, and how it goes on.

use std::collections::{HashSet, VecDeque};
use std::io;

use rustix::io::Errno;

use super::error::TraceError;
use super::guest::{Space, Tracee};
use super::pending::{AtEnd, Next, restore};
use super::setup::{self, Failure};
use super::state::Tracer;
use crate::sys::ptrace::{self, Registers, Resume, Stop};
use crate::sys::relay;
use crate::sys::supervised::Ended;
use crate::sys::trace_filter::Verdict;

const CLONE_VM: u64 = libc::CLONE_VM as u64;
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;

impl Tracer {
    /// Follows all threads until the first process ends.
    pub fn run(mut self) -> Result<Ended, TraceError> {
        let ended = loop {
            match self
                .next_event()
                .map_err(|error| TraceError::System { step: "wait for the program", source: error.into() })?
            {
                Some((tid, Stop::Exited(status))) if tid == self.leader => break Ended::Status(status),
                Some((tid, Stop::Killed(signal))) if tid == self.leader => break Ended::Signal(signal),
                // A thread that was killed meanwhile tells of its end next.
                Some((tid, stop)) => match self.handle(tid, stop) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(error) => return Err(TraceError::System { step: "trace the program", source: error.into() }),
                },
                None => {
                    let source = io::Error::from_raw_os_error(libc::ECHILD);
                    return Err(TraceError::System { step: "wait for the program", source });
                }
            }
        };
        if let Some(supervised) = self.supervised.take() {
            supervised.forget();
        }
        self.end_all()?;
        self.failure.take().and_then(Failure::read).map_or(Ok(ended), Err)
    }

    /// The next event in turn. waitpid(2) looks for one from the newest thread on: taken one by one, those of busy
    /// threads would come before an older one's for ever. So all that there are now are taken before the first is handled.
    fn next_event(&mut self) -> Result<Option<(i32, Stop)>, Errno> {
        if let Some(event) = self.queued.pop_front() {
            return Ok(Some(event));
        }
        let first = ptrace::wait(None)?;
        // Two are served in turn anyway. While a thread executes, the kernel kills the others of its process and gives
        // it the first one's number: what that one told before must not wait in the queue.
        let waits = self.guests.threads.len() > 2
            && !self.guests.threads.values().any(|tracee| matches!(tracee.at_end, AtEnd::Exec(_)));
        while waits && let Some(event) = ptrace::poll()? {
            self.queued.push_back(event);
        }
        Ok(first)
    }

    /// Handles what threads of this process have told already: one of them is about to execute.
    fn handle_queued(&mut self, pid: i32) -> Result<(), Errno> {
        let threads = &self.guests.threads;
        let is_of = |(tid, _): &(i32, Stop)| threads.get(tid).is_some_and(|tracee| tracee.pid == pid);
        let (of_it, others): (VecDeque<_>, VecDeque<_>) = self.queued.drain(..).partition(is_of);
        self.queued = others;
        for (tid, stop) in of_it {
            match stop {
                // The first process's end is the end of all.
                Stop::Exited(_) | Stop::Killed(_) => self.queued.push_back((tid, stop)),
                _ => match self.handle(tid, stop) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    error => return error,
                },
            }
        }
        Ok(())
    }

    /// Kills what is left, and waits for it: the caller may remove the tree.
    fn end_all(&mut self) -> Result<(), TraceError> {
        self.company.part();
        let pids: HashSet<i32> = self.guests.threads.values().map(|tracee| tracee.pid).collect();
        for pid in pids.into_iter().chain(self.early.drain()).filter(|pid| *pid != self.leader) {
            // It may have ended by itself.
            let _ = ptrace::signal_process(pid, libc::SIGKILL);
        }
        loop {
            match ptrace::wait(None) {
                Ok(None) => return Ok(()),
                Ok(Some((_, Stop::Exited(_) | Stop::Killed(_)))) => {}
                // Born while we killed.
                Ok(Some((tid, _))) => {
                    let _ = ptrace::signal_process(tid, libc::SIGKILL);
                    let _ = ptrace::resume(tid, Resume::Run, 0);
                }
                Err(error) => {
                    return Err(TraceError::System { step: "wait for the program", source: error.into() });
                }
            }
        }
    }

    fn handle(&mut self, tid: i32, stop: Stop) -> Result<(), Errno> {
        if self.any_stopped && !matches!(stop, Stop::Group(_)) {
            self.no_longer_stopped(tid);
        }
        if matches!(stop, Stop::Filter | Stop::Call) {
            self.company.met(tid);
        }
        match stop {
            Stop::Exited(_) | Stop::Killed(_) => {
                self.guests.remove(tid);
                self.early.remove(&tid);
                self.mirror_stop();
                Ok(())
            }
            Stop::Filter => self.begin(tid),
            Stop::Call if self.unfiltered.is_some() => self.unfiltered_call(tid),
            Stop::Call => self.end(tid),
            Stop::Birth => self.birth(tid),
            Stop::Exec => self.executed(tid),
            Stop::Started if !self.guests.threads.contains_key(&tid) => {
                self.early.insert(tid);
                Ok(())
            }
            Stop::Started => self.go_on(tid, 0),
            Stop::Group(signal) => self.group_stop(tid, signal),
            Stop::Signal(setup::NO_FILTER) if tid == self.leader && self.guests.programs.is_empty() => {
                self.unfiltered = Some(setup::verdicts(self.fake, self.resolver.mounts().all_writable()));
                self.go_on(tid, 0)
            }
            Stop::Signal(signal) => {
                if self.tracee(tid)?.pid == self.leader {
                    relay::got(signal, ptrace::signal_sender(tid)?);
                }
                self.go_on(tid, signal)
            }
        }
    }

    /// Lets a thread go on: to the end of its call if there is something to do.
    fn go_on(&mut self, tid: i32, signal: i32) -> Result<(), Errno> {
        let filtered = self.unfiltered.is_none();
        let how = match self.tracee(tid)?.at_end {
            AtEnd::Nothing if filtered => Resume::Run,
            _ => Resume::Call,
        };
        ptrace::resume(tid, how, signal)
    }

    /// The begin or the end of a call, where the tracer has the filter's part.
    fn unfiltered_call(&mut self, tid: i32) -> Result<(), Errno> {
        let tracee = self.tracee(tid)?;
        tracee.in_call = !tracee.in_call;
        if !tracee.in_call {
            return self.end(tid);
        }
        let registers = ptrace::registers(tid)?;
        let known = usize::try_from(registers.orig_rax).ok();
        let verdict = known.and_then(|number| self.unfiltered.as_ref()?.get(number).copied());
        match verdict {
            Some(Verdict::Allow) => self.go_on(tid, 0),
            Some(Verdict::Trace | Verdict::TraceIf(_)) => self.begin(tid),
            Some(Verdict::Answer(errno)) => {
                answer(tid, registers, -i64::from(errno) as u64)?;
                self.go_on(tid, 0)
            }
            None => {
                answer(tid, registers, -i64::from(libc::ENOSYS) as u64)?;
                self.go_on(tid, 0)
            }
        }
    }

    /// A system call that the filter asks about.
    fn begin(&mut self, tid: i32) -> Result<(), Errno> {
        let mut registers = ptrace::registers(tid)?;
        let pid = self.tracee(tid)?.pid;
        let executes = matches!(registers.orig_rax as i64, libc::SYS_execve | libc::SYS_execveat);
        if executes && !self.queued.is_empty() {
            self.handle_queued(pid)?;
        }
        self.guests.caller = (pid, tid);
        let before = registers;
        match self.call(tid, &mut registers) {
            Ok(Next::Pass) => {}
            Ok(Next::Answer(result)) => answer(tid, before, result)?,
            Ok(Next::Change(at_end)) => {
                ptrace::set_registers(tid, &registers)?;
                self.tracee(tid)?.at_end = at_end;
            }
            Err(error) => answer(tid, before, -i64::from(error.raw_os_error()) as u64)?,
        }
        self.go_on(tid, 0)
    }

    /// The end of a call that something was to follow.
    fn end(&mut self, tid: i32) -> Result<(), Errno> {
        match std::mem::take(&mut self.tracee(tid)?.at_end) {
            AtEnd::Nothing => {}
            AtEnd::Restore { before, .. } => restore(tid, &before)?,
            AtEnd::Created { before, host } => {
                if ptrace::registers(tid)?.rax as i64 >= 0 {
                    self.remember_maker(tid, host);
                }
                restore(tid, &before)?;
            }
            AtEnd::Linked { before, mut link } => Self::end_link(tid, &before, &mut link)?,
            AtEnd::Removed { before, file } => {
                if ptrace::registers(tid)?.rax == 0 {
                    self.owners.remove(&file);
                }
                restore(tid, &before)?;
            }
            AtEnd::Owner { address, extended } => self.correct_owner(tid, address, extended)?,
            AtEnd::Bound(binding) => self.end_bind(tid, *binding)?,
            AtEnd::SocketName { before, room } => self.end_socket_name(tid, &before, room)?,
            AtEnd::Sent { before, .. } => self.end_message(tid, &before)?,
            AtEnd::Exec(pending) => self.end_exec(tid, *pending)?,
        }
        self.go_on(tid, 0)
    }

    fn birth(&mut self, maker: i32) -> Result<(), Errno> {
        let born = ptrace::event_message(maker)?;
        self.company.born(maker, born);
        let registers = ptrace::registers(maker)?;
        let flags = match registers.orig_rax as i64 {
            libc::SYS_clone => registers.rdi,
            libc::SYS_vfork => CLONE_VM,
            libc::SYS_clone3 => {
                let mut word = [0; 8];
                ptrace::read_memory(maker, registers.rdi, &mut word)?;
                u64::from_le_bytes(word)
            }
            _ => 0,
        };
        let tracee = self.tracee(maker)?;
        let (maker_pid, space) = (tracee.pid, tracee.slot.space().clone());
        let space = if flags & CLONE_VM != 0 { space } else { Space::new(space.base()) };
        let pid = if flags & CLONE_THREAD != 0 { maker_pid } else { born };
        self.guests.threads.insert(born, Tracee::new(pid, &space));
        if pid == born {
            self.guests.inherit(maker_pid, born);
        }
        if self.early.remove(&born) {
            self.go_on(born, 0)?;
        }
        self.go_on(maker, 0)
    }

    /// All other threads of the process are gone, and the one that executed has the number of the first.
    fn executed(&mut self, tid: i32) -> Result<(), Errno> {
        let former = ptrace::event_message(tid)?;
        self.company.renumbered(former, tid);
        if former != tid
            && let Some(tracee) = self.guests.threads.remove(&former)
        {
            self.guests.threads.insert(tid, tracee);
        }
        self.go_on(tid, 0)
    }

    /// A group-stop: the thread stays stopped.
    fn group_stop(&mut self, tid: i32, signal: i32) -> Result<(), Errno> {
        ptrace::resume(tid, Resume::Listen, 0)?;
        self.tracee(tid)?.is_stopped = true;
        self.any_stopped = true;
        if tid == self.leader {
            self.stop_signal = signal;
        }
        self.mirror_stop();
        Ok(())
    }

    /// When the program and all that it started is stopped, so are we; while something runs, it needs us.
    fn mirror_stop(&self) {
        let leader = self.guests.threads.get(&self.leader);
        if leader.is_some_and(|leader| leader.is_stopped) && self.guests.threads.values().all(|one| one.is_stopped) {
            relay::stopped(self.stop_signal);
        }
    }

    fn no_longer_stopped(&mut self, tid: i32) {
        relay::goes_on();
        if let Some(tracee) = self.guests.threads.get_mut(&tid)
            && std::mem::take(&mut tracee.is_stopped)
        {
            self.any_stopped = self.guests.threads.values().any(|one| one.is_stopped);
        }
    }
}

/// Skips the call that a thread begins; `result` is what it gets.
fn answer(tid: i32, mut registers: Registers, result: u64) -> Result<(), Errno> {
    registers.orig_rax = u64::MAX;
    registers.rax = result;
    ptrace::set_registers(tid, &registers)
}
