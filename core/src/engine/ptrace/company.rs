//! Keeps a thread that asks the tracer much on the tracer's CPU.
//!
//! Each call that stops is two switches: to the tracer, and back. Where both are on one CPU a switch costs a microsecond or
//! two; else an idle CPU is woken each time, which costs several, and tens in a virtual machine. The scheduler prefers idle
//! CPUs, so it parts the two unless it is told. They are kept together for a few milliseconds at a time, so that both leave
//! a CPU that others came to.
//!
//! The guest does not see it: before it asks for an affinity or sets one, opens a file like /proc/PID/status, or a thread is
//! born, the thread's own is put back. Who looks from outside sees it.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// After so many stops of one thread in a row it is kept here.
const ROW: i32 = 8;
/// For so many stops.
const STAY: i32 = 256;
/// After a look at it, so many stops go by first: a file that was opened is read.
const LOOK: i32 = 64;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Company {
    /// Where the tracer may run; `None`: on one CPU, or that cannot be told.
    own: Option<CpuSet>,
    /// Whose stop came last, and how many it was in a row.
    last: (i32, i32),
    kept: Option<Kept>,
}

/// A thread that is kept on the tracer's CPU.
#[derive(Debug)]
struct Kept {
    tid: i32,
    /// Where it may run by itself.
    allowed: CpuSet,
    /// That CPU alone.
    here: CpuSet,
    /// How many stops remain.
    left: i32,
}

impl Company {
    pub fn new() -> Self {
        Self { own: sched_getaffinity(None).ok().filter(|own| own.count() > 1), last: (0, 0), kept: None }
    }

    /// A thread stopped for a call.
    pub fn met(&mut self, tid: i32) {
        if self.own.is_none() {
            return;
        }
        if let Some(kept) = &mut self.kept {
            if kept.tid == tid && kept.left > 0 {
                kept.left -= 1;
            } else {
                let again = kept.tid == tid;
                self.part();
                // It comes back at once, wherever the scheduler puts the two meanwhile.
                self.last = (tid, if again { ROW - 2 } else { 1 });
            }
            return;
        }
        let row = if self.last.0 == tid || self.last.1 < 0 { self.last.1 + 1 } else { 1 };
        self.last = (tid, row);
        if self.last.1 >= ROW {
            self.last.1 = 0;
            self.keep(tid);
        }
    }

    fn keep(&mut self, tid: i32) {
        let Some(allowed) = Pid::from_raw(tid).and_then(|tid| sched_getaffinity(Some(tid)).ok()) else { return };
        let cpu = sched_getcpu();
        if !allowed.is_set(cpu) || allowed.count() < 2 {
            return;
        }
        let mut here = CpuSet::new();
        here.set(cpu);
        if sched_setaffinity(None, &here).is_err() {
            return;
        }
        let kept = Kept { tid, allowed, here, left: STAY };
        match sched_setaffinity(Pid::from_raw(tid), &here) {
            Ok(()) => self.kept = Some(kept),
            Err(_) => self.free(),
        }
    }

    /// Puts back where the kept thread and the tracer may run; returns the thread and where that is.
    pub fn part(&mut self) -> Option<(i32, CpuSet)> {
        let kept = self.kept.take()?;
        let tid = Pid::from_raw(kept.tid);
        // Somebody else may have set it meanwhile, or the thread ended.
        if sched_getaffinity(tid) == Ok(kept.here) {
            let _ = sched_setaffinity(tid, &kept.allowed);
        }
        self.free();
        Some((kept.tid, kept.allowed))
    }

    /// The guest looks where a thread may run.
    pub fn looked_at(&mut self) {
        self.part();
        self.last.1 = -LOOK;
    }

    fn free(&self) {
        if let Some(own) = &self.own {
            // It was so before.
            let _ = sched_setaffinity(None, own);
        }
    }

    /// `maker` has made the thread `born`, where it was itself.
    pub fn born(&mut self, maker: i32, born: i32) {
        if let Some((tid, allowed)) = self.part()
            && tid == maker
        {
            // It may have ended already.
            let _ = sched_setaffinity(Pid::from_raw(born), &allowed);
        }
    }

    /// A thread that executes has the number of the first one of its process.
    pub fn renumbered(&mut self, former: i32, tid: i32) {
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.tid == former) {
            kept.tid = tid;
        }
    }
}
