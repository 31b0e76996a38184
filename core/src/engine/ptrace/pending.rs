//! What becomes of a call: at once, and when the kernel is done with it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::image::Elf;
use crate::sys::ptrace::{self, Registers};

/// What a call that begins comes to.
pub(super) enum Next {
    /// The kernel does it as it is.
    Pass,
    /// It does not happen; this is its result.
    Answer(u64),
    /// The kernel does it with the changed registers, and then this follows.
    Change(AtEnd),
}

/// What is to be done when the call that a thread is in ends.
#[derive(Debug, Default)]
pub(super) enum AtEnd {
    /// Nothing; it does not stop there.
    #[default]
    Nothing,
    /// The arguments become what they were. A descriptor that a path went through is closed.
    Restore { before: Box<Registers>, _held: Option<OwnedFd> },
    /// The same; and if it succeeded, the file at this host path is new.
    Created { before: Box<Registers>, host: Vec<u8> },
    /// The same; and if it succeeded, the file of this device and inode is gone.
    Removed { before: Box<Registers>, file: (u64, u64) },
    /// A socket is bound.
    Bound(Box<Binding>),
    /// The address of a socket is shown; the guest has so much room for it.
    SocketName { before: Box<Registers>, room: usize },
    /// One of many messages is sent. A descriptor that its address went through is closed.
    Sent { before: Box<Registers>, _held: Option<OwnedFd> },
    /// The same; and if a hard link was refused, a symbolic link takes its place.
    Linked { before: Box<Registers>, link: Box<Link> },
    /// The program is mapped.
    Exec(Box<Pending>),
    /// The owner in the answer of stat or statx, at this address, becomes the guest's.
    Owner { address: u64, extended: bool },
}

/// A hard link that the kernel is making.
#[derive(Debug)]
pub(super) struct Link {
    /// The canonical guest path of the file.
    pub guest: Vec<u8>,
    /// Its host path.
    pub host: Vec<u8>,
    /// The host path of the new name.
    pub name: Vec<u8>,
}

/// An exec that the kernel is doing.
#[derive(Debug)]
pub(super) struct Pending {
    pub before: Registers,
    /// The canonical guest path of what runs.
    pub guest: Vec<u8>,
    /// What the caller called it.
    pub name: Vec<u8>,
    /// The program, on the host, that is to be mapped beside its loader.
    pub program: Option<(Vec<u8>, Elf)>,
    /// What the kernel executes: the loader, or a program without one.
    pub executed: Elf,
}

/// A bind that the kernel is doing.
#[derive(Debug)]
pub(super) struct Binding {
    pub before: Registers,
    /// The directory that the path goes through.
    pub directory: Option<OwnedFd>,
    /// The path as the kernel knows it, and as the guest gave it.
    pub host: Vec<u8>,
    pub given: Vec<u8>,
    /// The name that the socket is to have in the directory, if that is not the path's.
    pub name: Option<Vec<u8>>,
}

/// Gives a thread back its arguments; the result stays.
pub(super) fn restore(tid: i32, before: &Registers) -> Result<(), Errno> {
    let mut registers = ptrace::registers(tid)?;
    // A call that a signal interrupted begins anew, and must be seen anew.
    registers.rdi = before.rdi;
    registers.rsi = before.rsi;
    registers.rdx = before.rdx;
    registers.r10 = before.r10;
    registers.r8 = before.r8;
    registers.r9 = before.r9;
    registers.orig_rax = before.orig_rax;
    ptrace::set_registers(tid, &registers)
}
