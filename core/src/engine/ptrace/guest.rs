//! The guest's processes and threads, and the memory of ours in them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::engine::path::Processes;

use super::credentials::Credentials;
use super::pending::AtEnd;

/// Bytes of one thread's slot: two paths.
pub(super) const SLOT_BYTES: u64 = 8192;
/// The second path in a slot.
pub(super) const SECOND_PATH: u64 = 4096;
/// Threads beyond so many use their own stacks.
const SLOTS: u32 = 1024;
/// After the slots: argument lists of scripts.
pub(super) const LIST_OFFSET: u64 = SLOT_BYTES * SLOTS as u64;
/// How long those may be.
pub(super) const LIST_BYTES: u64 = 4 << 20;
/// After those: the name that the program was executed by, which it may read at any time (AT_EXECFN).
pub(super) const NAME_OFFSET: u64 = LIST_OFFSET + LIST_BYTES;
/// The whole mapping; it takes no memory but where it is written to.
pub(super) const SPACE_BYTES: u64 = NAME_OFFSET + 4096;
/// What the ABI lets a function use below its stack pointer.
const RED_ZONE_BYTES: u64 = 128;

/// The memory of ours in one address space.
#[derive(Debug)]
pub(super) struct Space {
    /// Where it is mapped; 0: nowhere.
    base: u64,
    free: RefCell<Free>,
}

#[derive(Debug, Default)]
struct Free {
    next: u32,
    returned: Vec<u32>,
}

impl Space {
    /// An address space with our mapping at `base`.
    pub fn new(base: u64) -> Rc<Self> {
        Rc::new(Self { base, free: RefCell::default() })
    }

    /// Whether there is a mapping.
    pub fn base(&self) -> u64 {
        self.base
    }
}

/// A thread's part of its address space's memory.
#[derive(Debug)]
pub(super) struct Slot {
    space: Rc<Space>,
    number: u32,
}

impl Slot {
    /// The first slot of a space that nobody else uses, or another.
    pub fn take(space: &Rc<Space>) -> Self {
        let mut free = space.free.borrow_mut();
        let number = free.returned.pop().unwrap_or_else(|| {
            free.next += 1;
            free.next - 1
        });
        drop(free);
        Self { space: Rc::clone(space), number }
    }

    pub fn space(&self) -> &Rc<Space> {
        &self.space
    }

    /// Where a thread with this stack pointer may be written to: [`SLOT_BYTES`] bytes.
    pub fn address(&self, stack_pointer: u64) -> u64 {
        match self.space.base {
            base if base != 0 && self.number < SLOTS => base + u64::from(self.number) * SLOT_BYTES,
            _ => below(stack_pointer, SLOT_BYTES),
        }
    }

    /// Where an argument list of so many bytes may be written, beside what is at [`Self::address`].
    pub fn list_address(&self, stack_pointer: u64, bytes: u64) -> Option<u64> {
        match self.space.base {
            0 => Some(self.address(stack_pointer).saturating_sub(bytes) & !15),
            base => (bytes <= LIST_BYTES).then_some(base + LIST_OFFSET),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.space.free.borrow_mut().returned.push(self.number);
    }
}

fn below(stack_pointer: u64, bytes: u64) -> u64 {
    stack_pointer.saturating_sub(RED_ZONE_BYTES + bytes) & !15
}

/// One thread.
#[derive(Debug)]
pub(super) struct Tracee {
    /// Its process.
    pub pid: i32,
    pub slot: Slot,
    pub at_end: AtEnd,
    /// Without a filter: whether it stops next at the end of a call.
    pub in_call: bool,
    /// Whether SIGSTOP, which no mask holds back, came while calls were made in its name.
    pub was_stopped: bool,
    /// Whether it is in a group-stop.
    pub is_stopped: bool,
}

impl Tracee {
    /// A thread of process `pid` that runs.
    pub fn new(pid: i32, space: &Rc<Space>) -> Self {
        Self {
            pid,
            slot: Slot::take(space),
            at_end: AtEnd::Nothing,
            in_call: false,
            was_stopped: false,
            is_stopped: false,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Guests {
    pub threads: HashMap<i32, Tracee>,
    /// The guest paths of the programs, by process.
    pub programs: HashMap<i32, Vec<u8>>,
    /// Who those believe to be that changed it, by process.
    pub credentials: HashMap<i32, Credentials>,
    /// Whose call is being handled.
    pub caller: (i32, i32),
}

impl Guests {
    /// A new process runs what its maker runs, as whom it runs.
    pub fn inherit(&mut self, maker: i32, born: i32) {
        if let Some(program) = self.programs.get(&maker).cloned() {
            self.programs.insert(born, program);
        }
        if let Some(credentials) = self.credentials.get(&maker).cloned() {
            self.credentials.insert(born, credentials);
        }
    }

    /// Whether a process runs this program: for the kernel, which executes its loader, it is a file like others.
    pub fn is_running(&self, program: &[u8]) -> bool {
        self.programs.values().any(|running| running == program)
    }

    /// Forgets a thread that ended.
    pub fn remove(&mut self, tid: i32) {
        if let Some(tracee) = self.threads.remove(&tid)
            && !self.threads.values().any(|other| other.pid == tracee.pid)
        {
            self.programs.remove(&tracee.pid);
            self.credentials.remove(&tracee.pid);
        }
    }
}

impl Processes for Guests {
    fn caller(&self) -> (i32, i32) {
        self.caller
    }

    fn is_inside(&self, pid: i32) -> bool {
        self.threads.contains_key(&pid) || self.threads.values().any(|tracee| tracee.pid == pid)
    }

    fn program(&self, pid: i32) -> Option<&[u8]> {
        let pid = self.threads.get(&pid).map_or(pid, |tracee| tracee.pid);
        self.programs.get(&pid).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_list_lies_beside_what_is_written_with_it() {
        for (base, top) in [(0, 0x7ffd_0000_0000), (0x7000_0000_0000, 0)] {
            let slot = Slot::take(&Space::new(base));
            for stack_pointer in top..top + 16 {
                for bytes in 1..100 {
                    let (path, list) = (slot.address(stack_pointer), slot.list_address(stack_pointer, bytes).unwrap());
                    assert!(list + bytes <= path || path + SLOT_BYTES <= list, "{stack_pointer:x} {bytes}");
                }
            }
        }
        assert_eq!(Slot::take(&Space::new(1 << 40)).list_address(0, LIST_BYTES + 1), None);
    }
}
