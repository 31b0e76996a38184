//! Socket addresses that are paths.
//!
//! The kernel keeps the address that a socket was bound by and shows it to both ends, so what each socket of the guest was
//! really bound by is remembered beside what the guest called it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::guest::SECOND_PATH;
use super::paths::{argument, look, set_argument};
use super::pending::{AtEnd, Binding, Next, restore};
use super::state::Tracer;
use crate::engine::path::table::Call;
use crate::engine::path::{Ending, LastLink};
use crate::sys::ptrace::{self, Registers};

/// `sizeof(struct sockaddr_un)` and of its family.
const ADDRESS_BYTES: usize = 110;
const FAMILY_BYTES: usize = 2;
/// `sizeof(struct sockaddr_storage)`.
const STORAGE_BYTES: usize = 128;
/// `sizeof(struct msghdr)` and `sizeof(struct mmsghdr)`.
const MESSAGE_BYTES: usize = 56;
const MANY_MESSAGE_BYTES: u64 = 64;
/// UIO_MAXIOV: so many messages at most are sent at once.
const MAX_MESSAGES: u64 = 1024;
/// How many addresses are remembered.
const MAX_ADDRESSES: usize = 4096;
/// Descriptors for long paths begin here and are taken by turns: so their addresses differ for a while.
const FIRST_DESCRIPTOR: i32 = 16;
const DESCRIPTORS: i32 = 256;

/// An address as the kernel is given it.
struct HostAddress {
    bytes: Vec<u8>,
    /// What the path goes through, open until the call is done.
    held: Option<OwnedFd>,
    /// The name that a socket gets after it was bound by another.
    name: Option<Vec<u8>>,
}

fn address_bytes(path: &[u8]) -> Vec<u8> {
    let mut bytes = (libc::AF_UNIX as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(path);
    // One path is so long that its end is the structure's.
    if bytes.len() < ADDRESS_BYTES {
        bytes.push(0);
    }
    bytes
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The path in an address; empty if there is none.
fn path_in(bytes: &[u8]) -> &[u8] {
    match bytes.split_first_chunk() {
        Some((family, path)) if i32::from(u16::from_le_bytes(*family)) == libc::AF_UNIX => {
            path.split(|byte| *byte == 0).next().unwrap_or_default()
        }
        _ => b"",
    }
}

impl Tracer {
    /// bind, connect, sendto.
    pub fn address(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let (index, binds) = match i64::from(call.number) {
            libc::SYS_sendto => (4, false),
            number => (1, number == libc::SYS_bind),
        };
        let (address, length) = (argument(registers, index), argument(registers, index + 1));
        if !self.read_address(tid, address, length)? {
            return Ok(Next::Pass);
        }
        let given = if binds { self.text.clone() } else { Vec::new() };
        let host = if binds { self.binding_address(tid)? } else { self.peer_address(tid)? };
        let before = Box::new(*registers);
        let at = self.slot_address(tid, registers)?;
        ptrace::write_memory(tid, at, &host.bytes)?;
        set_argument(registers, index, at);
        set_argument(registers, index + 1, host.bytes.len() as u64);
        Ok(Next::Change(match binds {
            true => AtEnd::Bound(Box::new(Binding {
                before: *before,
                directory: host.held,
                host: path_in(&host.bytes).to_vec(),
                given,
                name: host.name,
            })),
            false => AtEnd::Restore { before, _held: host.held },
        }))
    }

    /// Reads the path of a socket address into the buffer; whether there is one.
    fn read_address(&mut self, tid: i32, address: u64, length: u64) -> Result<bool, Errno> {
        let length = length as u32 as usize;
        if address == 0 || length <= FAMILY_BYTES || length > ADDRESS_BYTES {
            return Ok(false);
        }
        let mut bytes = [0u8; ADDRESS_BYTES];
        let count = ptrace::read_memory(tid, address, &mut bytes[..length])?;
        self.text.clear();
        self.text.extend_from_slice(path_in(&bytes[..count]));
        // What recvfrom showed of a peer is the host's.
        if !self.addresses.is_empty()
            && let Some(given) = self.addresses.get(&self.text)
        {
            self.text.clone_from(given);
        }
        Ok(!self.text.is_empty())
    }

    /// Where the socket is that the path in the buffer names. A long path goes through a descriptor of the socket.
    fn peer_address(&mut self, tid: i32) -> Result<HostAddress, Errno> {
        self.resolve(tid, libc::AT_FDCWD, LastLink::Follow)?;
        if FAMILY_BYTES + self.place.host.len() <= ADDRESS_BYTES {
            return Ok(HostAddress { bytes: address_bytes(&self.place.host), held: None, name: None });
        }
        let socket = rustix::fs::open(&self.place.host[..], OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), socket.as_raw_fd());
        Ok(HostAddress { bytes: address_bytes(path.as_bytes()), held: Some(socket), name: None })
    }

    /// Where the path in the buffer says that a socket is to be. A long path goes through a descriptor of its directory,
    /// and where the name alone is too long for that, the socket is renamed afterwards.
    fn binding_address(&mut self, tid: i32) -> Result<HostAddress, Errno> {
        self.resolve(tid, libc::AT_FDCWD, LastLink::Name)?;
        if self.place.read_only {
            return Err(match look(&mut self.place.host) {
                Err(Errno::NOENT) if self.place.ending == Ending::Name => Errno::ROFS,
                Err(Errno::NOENT) => Errno::NOENT,
                _ => Errno::ADDRINUSE,
            });
        }
        if FAMILY_BYTES + self.place.host.len() <= ADDRESS_BYTES {
            return Ok(HostAddress { bytes: address_bytes(&self.place.host), held: None, name: None });
        }
        match look(&mut self.place.host) {
            Err(Errno::NOENT) if self.place.ending == Ending::Name => {}
            Err(error) if error != Errno::NOTDIR => return Err(error),
            _ => return Err(Errno::ADDRINUSE),
        }
        let cut = self.place.host.iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = rustix::fs::open(&self.place.host[..cut.max(1)], flags, Mode::empty())?;
        self.turn = (self.turn + 1) % DESCRIPTORS;
        // Where so many descriptors are not allowed, the first one serves.
        if let Ok(other) = rustix::io::fcntl_dupfd_cloexec(&directory, FIRST_DESCRIPTOR + self.turn) {
            directory = other;
        }
        let within = |name: &[u8]| {
            let directory = format!("/proc/{}/fd/{}/", std::process::id(), directory.as_raw_fd());
            [directory.as_bytes(), name].concat()
        };
        let name = &self.place.host[cut + 1..];
        let path = within(name);
        if FAMILY_BYTES + path.len() <= ADDRESS_BYTES {
            return Ok(HostAddress { bytes: address_bytes(&path), held: Some(directory), name: None });
        }
        let path = within(format!(".udocker-{tid}").as_bytes());
        Ok(HostAddress { bytes: address_bytes(&path), held: Some(directory), name: Some(name.to_vec()) })
    }

    /// The socket is bound: gives it its name, and remembers what the guest called it.
    pub fn end_bind(&mut self, tid: i32, binding: Binding) -> Result<(), Errno> {
        let Binding { before, directory, host, given, name } = binding;
        restore(tid, &before)?;
        let mut registers = ptrace::registers(tid)?;
        if registers.rax != 0 {
            return Ok(());
        }
        if let (Some(directory), Some(name)) = (directory, name) {
            let bound = host.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            if let Err(error) = rename_new(&directory, bound, &name) {
                let error = if error == Errno::EXIST { Errno::ADDRINUSE } else { error };
                registers.rax = -i64::from(error.raw_os_error()) as u64;
                // It may be gone already; the failure that is told is the first one.
                let _ = rustix::fs::unlinkat(&directory, bound, AtFlags::empty());
                return ptrace::set_registers(tid, &registers);
            }
        }
        if self.addresses.len() >= MAX_ADDRESSES {
            self.addresses.clear();
        }
        self.addresses.insert(host, given);
        Ok(())
    }

    /// getsockname and getpeername: the kernel answers into memory of ours.
    pub fn socket_name(&mut self, tid: i32, registers: &mut Registers) -> Result<Next, Errno> {
        let before = Box::new(*registers);
        let mut room = [0; 4];
        if ptrace::read_memory(tid, before.rdx, &mut room)? < room.len() || i32::from_le_bytes(room) < 0 {
            return Ok(Next::Pass);
        }
        let at = self.slot_address(tid, registers)?;
        ptrace::write_memory(tid, at + SECOND_PATH, &(STORAGE_BYTES as u32).to_le_bytes())?;
        (registers.rsi, registers.rdx) = (at, at + SECOND_PATH);
        Ok(Next::Change(AtEnd::SocketName { before, room: u32::from_le_bytes(room) as usize }))
    }

    /// Shows the guest's path of the address that the kernel has told.
    pub fn end_socket_name(&mut self, tid: i32, before: &Registers, room: usize) -> Result<(), Errno> {
        let answered = ptrace::registers(tid)?;
        restore(tid, before)?;
        if answered.rax != 0 {
            return Ok(());
        }
        let at = self.slot_address(tid, &answered)?;
        let (mut length, mut bytes) = ([0; 4], [0; STORAGE_BYTES]);
        ptrace::read_memory(tid, at + SECOND_PATH, &mut length)?;
        ptrace::read_memory(tid, at, &mut bytes)?;
        let mut address = bytes[..(u32::from_le_bytes(length) as usize).min(STORAGE_BYTES)].to_vec();
        let host = path_in(&address);
        if !host.is_empty() {
            let shown = match self.addresses.get(host) {
                Some(given) => Some(given.clone()),
                None => self.resolver.mounts().guest_of(host),
            };
            if let Some(shown) = shown {
                address.truncate(FAMILY_BYTES);
                address.extend(shown);
                address.push(0);
            }
        }
        let written = ptrace::write_memory(tid, before.rsi, &address[..address.len().min(room)])
            .and_then(|()| ptrace::write_memory(tid, before.rdx, &(address.len() as u32).to_le_bytes()));
        match written {
            Err(Errno::FAULT) => {
                let mut registers = ptrace::registers(tid)?;
                registers.rax = -i64::from(libc::EFAULT) as u64;
                ptrace::set_registers(tid, &registers)
            }
            done => done,
        }
    }

    /// sendmsg and sendmmsg. Of many messages, those before the first that names a path are sent, or that one alone: the
    /// caller goes on with the others.
    pub fn message(&mut self, tid: i32, registers: &mut Registers) -> Result<Next, Errno> {
        let before = Box::new(*registers);
        let many = before.orig_rax as i64 == libc::SYS_sendmmsg;
        let mut header = [0u8; MANY_MESSAGE_BYTES as usize];
        let header = &mut header[..if many { MANY_MESSAGE_BYTES as usize } else { MESSAGE_BYTES }];
        for index in 0..if many { before.rdx.min(MAX_MESSAGES) } else { 1 } {
            let from = before.rsi.wrapping_add(index * MANY_MESSAGE_BYTES);
            if ptrace::read_memory(tid, from, header)? < header.len() {
                // What was sent before counts.
                return if index > 0 { Ok(Next::Pass) } else { Err(Errno::FAULT) };
            }
            if !self.read_address(tid, word(header, 0), word(header, 8))? {
                continue;
            }
            if index > 0 {
                registers.rdx = index;
                return Ok(Next::Change(AtEnd::Restore { before, _held: None }));
            }
            let host = self.peer_address(tid)?;
            let at = self.slot_address(tid, registers)?;
            header[..8].copy_from_slice(&(at + SECOND_PATH).to_le_bytes());
            header[8..12].copy_from_slice(&(host.bytes.len() as u32).to_le_bytes());
            ptrace::write_memory(tid, at, header)?;
            ptrace::write_memory(tid, at + SECOND_PATH, &host.bytes)?;
            registers.rsi = at;
            if !many {
                return Ok(Next::Change(AtEnd::Restore { before, _held: host.held }));
            }
            registers.rdx = 1;
            return Ok(Next::Change(AtEnd::Sent { before, _held: host.held }));
        }
        Ok(Next::Pass)
    }

    /// One of many messages was sent, in a copy: its length goes to where the caller looks for it.
    pub fn end_message(&mut self, tid: i32, before: &Registers) -> Result<(), Errno> {
        let sent = ptrace::registers(tid)?;
        restore(tid, before)?;
        if sent.rax == 1 {
            let mut length = [0; 4];
            let at = self.slot_address(tid, &sent)? + MESSAGE_BYTES as u64;
            ptrace::read_memory(tid, at, &mut length)?;
            ptrace::write_memory(tid, before.rsi + MESSAGE_BYTES as u64, &length)?;
        }
        Ok(())
    }
}

/// Renames within a directory, unless the new name is taken.
fn rename_new(directory: impl AsFd, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    let directory = directory.as_fd();
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // Some file systems do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?;
            rustix::fs::unlinkat(directory, from, AtFlags::empty())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_paths_up_to_their_last_byte() {
        for length in [1, 107, 108] {
            let path = vec![b'x'; length];
            let bytes = address_bytes(&path);
            assert_eq!(bytes.len(), (FAMILY_BYTES + length + 1).min(ADDRESS_BYTES));
            assert_eq!(path_in(&bytes), path);
        }
        assert_eq!(path_in(&[1, 0, 0, b'a']), b"", "an abstract name");
        assert_eq!(path_in(&[2, 0, b'a']), b"", "another family");
        assert_eq!(path_in(&[1]), b"");
    }
}
