//! Socket addresses that are paths.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::guest::SECOND_PATH;
use super::paths::{argument, look, set_argument};
use super::pending::{AtEnd, Next};
use super::state::Tracer;
use crate::engine::path::LastLink;
use crate::engine::path::table::Call;
use crate::sys::ptrace::{self, Registers};

/// `sizeof(struct sockaddr_un)` and of its family.
const ADDRESS_BYTES: usize = 110;
const FAMILY_BYTES: usize = 2;
/// `sizeof(struct msghdr)` and `sizeof(struct mmsghdr)`.
const MESSAGE_BYTES: usize = 56;
const MANY_MESSAGE_BYTES: u64 = 64;

/// The bytes of a socket address, and what must stay open until the call is done.
type HostAddress = (Vec<u8>, Option<OwnedFd>);

impl Tracer {
    /// bind, connect, sendto.
    pub fn address(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let (index, binds) = match i64::from(call.number) {
            libc::SYS_sendto => (4, false),
            number => (1, number == libc::SYS_bind),
        };
        let (address, length) = (argument(registers, index), argument(registers, index + 1));
        let Some((bytes, held)) = self.host_address(tid, address, length, binds)? else { return Ok(Next::Pass) };
        let before = Box::new(*registers);
        let at = self.slot_address(tid, registers)?;
        ptrace::write_memory(tid, at, &bytes)?;
        set_argument(registers, index, at);
        set_argument(registers, index + 1, bytes.len() as u64);
        Ok(Next::Change(AtEnd::Restore { before, _held: held }))
    }

    /// A socket address with the host's path; `None` if there is no path in it. A long path goes through a descriptor of
    /// ours, which must live until the call is done.
    fn host_address(&mut self, tid: i32, address: u64, length: u64, binds: bool) -> Result<Option<HostAddress>, Errno> {
        if address == 0 || length <= FAMILY_BYTES as u64 || length > 128 {
            return Ok(None);
        }
        let mut bytes = [0u8; ADDRESS_BYTES];
        let length = (length as usize).min(ADDRESS_BYTES);
        let count = ptrace::read_memory(tid, address, &mut bytes[..length])?;
        let family = u16::from_le_bytes([bytes[0], bytes[1]]);
        let path = bytes[FAMILY_BYTES..count].split(|byte| *byte == 0).next().unwrap_or_default();
        if i32::from(family) != libc::AF_UNIX || path.is_empty() {
            return Ok(None);
        }
        self.text.clear();
        self.text.extend_from_slice(path);
        self.resolve(tid, libc::AT_FDCWD, if binds { LastLink::Keep } else { LastLink::Follow })?;
        if binds && self.place.mount.read_only {
            return Err(if look(&mut self.place.host).is_ok() { Errno::ADDRINUSE } else { Errno::ROFS });
        }
        let mut host = std::mem::take(&mut self.place.host);
        let mut held = None;
        if FAMILY_BYTES + host.len() > ADDRESS_BYTES {
            let cut = host.iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let parent = rustix::fs::open(&host[..cut.max(1)], flags, Mode::empty())?;
            let name = &host[cut..];
            host = [format!("/proc/{}/fd/{}", std::process::id(), parent.as_raw_fd()).as_bytes(), name].concat();
            held = Some(parent);
            // A name of more than some 86 bytes in a directory whose host path is long: no shorter way leads there.
            if FAMILY_BYTES + host.len() > ADDRESS_BYTES {
                return Err(Errno::NAMETOOLONG);
            }
        }
        let mut result = family.to_le_bytes().to_vec();
        result.extend(&host);
        // The longest has no room for it, and needs none (unix(7)).
        if result.len() < ADDRESS_BYTES {
            result.push(0);
        }
        Ok(Some((result, held)))
    }

    /// sendmsg and sendmmsg. The kernel writes into the list of the latter, so its messages cannot be replaced: one that
    /// names a path is refused, and the caller sends it alone.
    pub fn message(&mut self, tid: i32, registers: &mut Registers) -> Result<Next, Errno> {
        let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let mut header = [0u8; MESSAGE_BYTES];
        if registers.orig_rax as i64 == libc::SYS_sendmmsg {
            for index in 0..registers.rdx.min(1024) {
                let at = registers.rsi.wrapping_add(index * MANY_MESSAGE_BYTES);
                ptrace::read_memory(tid, at, &mut header)?;
                if self.host_address(tid, word(&header, 0), word(&header, 8) & 0xffff_ffff, false)?.is_some() {
                    return Err(Errno::NOSYS);
                }
            }
            return Ok(Next::Pass);
        }
        if ptrace::read_memory(tid, registers.rsi, &mut header)? < MESSAGE_BYTES {
            return Err(Errno::FAULT);
        }
        let length = word(&header, 8) & 0xffff_ffff;
        let Some((bytes, held)) = self.host_address(tid, word(&header, 0), length, false)? else {
            return Ok(Next::Pass);
        };
        let before = Box::new(*registers);
        let at = self.slot_address(tid, registers)?;
        header[..8].copy_from_slice(&(at + SECOND_PATH).to_le_bytes());
        header[8..12].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        ptrace::write_memory(tid, at, &header)?;
        ptrace::write_memory(tid, at + SECOND_PATH, &bytes)?;
        registers.rsi = at;
        Ok(Next::Change(AtEnd::Restore { before, _held: held }))
    }
}
