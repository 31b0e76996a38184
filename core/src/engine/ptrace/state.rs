//! What the tracer knows while its program runs.

use std::collections::{HashMap, HashSet, VecDeque};

use rustix::io::Errno;

use super::company::Company;
use super::guest::{Guests, Space, Tracee};
use super::setup::{Child, Failure, FakeIdentity, Prepared};
use crate::engine::path::{Place, Resolver};
use crate::sys::ptrace::Stop;
use crate::sys::supervised::Supervised;
use crate::sys::trace_filter::Verdict;

/// The tracer of one container.
pub(super) struct Tracer {
    pub resolver: Resolver,
    pub guests: Guests,
    pub fake: Option<FakeIdentity>,
    /// What chown said of a file, by device and inode.
    pub owners: HashMap<(u64, u64), (u32, u32)>,
    /// What the guest called the paths that its sockets are bound by.
    pub addresses: HashMap<Vec<u8>, Vec<u8>>,
    /// The last descriptor that a socket's path went through, of those that are taken by turns.
    pub turn: i32,
    /// Buffers that are reused.
    pub text: Vec<u8>,
    pub place: Place,
    pub leader: i32,
    pub company: Company,
    /// What becomes of each call where no filter could be installed: then every call stops, at its begin and its end.
    pub unfiltered: Option<Vec<Verdict>>,
    /// New threads that stopped before their maker told of them.
    pub early: HashSet<i32>,
    /// Ends that were seen while something else was waited for.
    pub queued: VecDeque<(i32, Stop)>,
    /// Whether a thread is in a group-stop, and what stopped the first one last.
    pub any_stopped: bool,
    pub stop_signal: i32,
    pub supervised: Option<Supervised>,
    pub failure: Option<Failure>,
}

impl Tracer {
    pub fn new(prepared: Prepared, child: Child) -> Self {
        let leader = child.supervised.pid();
        let mut guests = Guests::default();
        guests.threads.insert(leader, Tracee::new(leader, &Space::new(0)));
        Self {
            resolver: prepared.resolver,
            guests,
            fake: prepared.fake,
            owners: HashMap::new(),
            addresses: HashMap::new(),
            turn: 0,
            text: Vec::new(),
            place: Place::default(),
            leader,
            company: Company::new(),
            unfiltered: None,
            early: HashSet::new(),
            queued: VecDeque::new(),
            any_stopped: false,
            stop_signal: libc::SIGSTOP,
            supervised: Some(child.supervised),
            failure: Some(child.failure),
        }
    }

    /// What is known of a thread.
    pub fn tracee(&mut self, tid: i32) -> Result<&mut Tracee, Errno> {
        self.guests.threads.get_mut(&tid).ok_or(Errno::SRCH)
    }
}
