//! Calls that only look: the tracer, which is the same user, answers them without a second stop.

use rustix::fs::CWD;
use rustix::io::Errno;

use super::paths::{argument, as_c_str, last_link, look};
use super::pending::{AtEnd, Next};
use super::state::Tracer;
use crate::engine::path::LastLink;
use crate::engine::path::table::Call;
use crate::sys::ptrace::{self, Registers};

/// The largest value and list of extended attributes (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const XATTR_BYTES: u64 = 65536;

impl Tracer {
    pub fn stat(&mut self, tid: i32, call: &Call, registers: &mut Registers, extended: bool) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        let into = if extended { 4 } else { path.index + 1 };
        let into = argument(registers, into);
        let flags = match (extended, path.directory) {
            (true, _) => argument(registers, 2) as i32,
            (false, Some(_)) => argument(registers, 3) as i32,
            (false, None) => 0,
        };
        let address = argument(registers, path.index);
        if address == 0 && flags & libc::AT_EMPTY_PATH != 0 {
            self.text.clear();
        } else {
            self.read_path(tid, address)?;
        }
        let last = last_link(registers, &path);
        let as_it_is = self.text.is_empty() || self.may_stay(last);
        if as_it_is {
            return Ok(match self.fake {
                None => Next::Pass,
                Some(_) => Next::Change(AtEnd::Owner { address: into, extended }),
            });
        }
        let directory = self.directory_of(registers, &path);
        self.resolve(tid, directory, LastLink::Keep)?;
        let here = libc::AT_SYMLINK_NOFOLLOW | flags & !libc::AT_EMPTY_PATH;
        let mask = argument(registers, 3) as u32;
        for attempt in [LastLink::Keep, LastLink::Follow] {
            if self.place.is_proc {
                break;
            }
            let mut answer = [0u8; 256];
            if extended {
                as_c_str(&mut self.place.host, |path| {
                    ptrace::statx_bytes(path, here, mask | libc::STATX_TYPE, &mut answer)
                })?;
            } else {
                let part = answer.first_chunk_mut().expect("256 bytes hold 144");
                as_c_str(&mut self.place.host, |path| ptrace::stat_bytes(path, here, part))?;
            }
            let mode = match extended {
                true => u32::from(answer[28]) | u32::from(answer[29]) << 8,
                false => u32::from_le_bytes([answer[24], answer[25], answer[26], answer[27]]),
            };
            if attempt == LastLink::Keep && last == LastLink::Follow && mode & libc::S_IFMT == libc::S_IFLNK {
                self.resolve(tid, directory, LastLink::Follow)?;
                continue;
            }
            let answer = &mut answer[..if extended { 256 } else { 144 }];
            self.correct_owner_in(answer, extended);
            ptrace::write_memory(tid, into, answer)?;
            return Ok(Next::Answer(0));
        }
        // In /proc it matters who asks.
        if last == LastLink::Follow {
            self.resolve(tid, directory, LastLink::Follow)?;
        }
        let before = Box::new(*registers);
        self.pass_place(tid, registers, path.index, false)?;
        Ok(Next::Change(AtEnd::Restore { before, _held: None }))
    }

    pub fn access(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        self.read_path(tid, argument(registers, path.index))?;
        if self.text.is_empty() {
            return Ok(Next::Pass);
        }
        let last = last_link(registers, &path);
        self.resolve(tid, self.directory_of(registers, &path), last)?;
        if self.place.is_proc {
            let before = Box::new(*registers);
            self.pass_place(tid, registers, path.index, false)?;
            return Ok(Next::Change(AtEnd::Restore { before, _held: None }));
        }
        let mode = argument(registers, path.index + 1) as i32;
        // Only faccessat2 (439) has flags.
        let flags = if call.number == 439 { argument(registers, 3) as i32 } else { 0 };
        as_c_str(&mut self.place.host, |path| ptrace::access(path, mode, flags))?;
        if mode & libc::W_OK != 0 && self.place.read_only {
            let kind = look(&mut self.place.host)?;
            if matches!(kind, libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK) {
                return Err(Errno::ROFS);
            }
        }
        Ok(Next::Answer(0))
    }

    pub fn readlink(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        self.read_path(tid, argument(registers, path.index))?;
        if self.text.is_empty() {
            return Ok(Next::Pass);
        }
        self.resolve(tid, self.directory_of(registers, &path), LastLink::Keep)?;
        let target = match self.resolver.read_magic(&self.place, &self.guests)? {
            Some(target) => target,
            None => rustix::fs::readlinkat(CWD, &self.place.host[..], Vec::new())?.into_bytes(),
        };
        let length = target.len().min(argument(registers, path.index + 2) as usize);
        ptrace::write_memory(tid, argument(registers, path.index + 1), &target[..length])?;
        Ok(Next::Answer(length as u64))
    }

    /// Extended attributes by path, which `ls -l` asks for three times per file.
    pub fn xattr(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        self.read_path(tid, registers.rdi)?;
        let last = last_link(registers, &path);
        self.resolve(tid, libc::AT_FDCWD, last)?;
        if self.place.is_proc {
            let before = Box::new(*registers);
            self.pass_place(tid, registers, path.index, false)?;
            return Ok(Next::Change(AtEnd::Restore { before, _held: None }));
        }
        let lists = matches!(i64::from(call.number), libc::SYS_listxattr | libc::SYS_llistxattr);
        let (into, size) = if lists { (registers.rsi, registers.rdx) } else { (registers.rdx, registers.r10) };
        let mut value = vec![0; size.min(XATTR_BYTES) as usize];
        let length = if lists {
            as_c_str(&mut self.place.host, |path| ptrace::xattrs(path, &mut value))?
        } else {
            self.read_path(tid, registers.rsi)
                .map_err(|error| if error == Errno::FAULT { error } else { Errno::RANGE })?;
            let Self { place, text, .. } = self;
            as_c_str(text, |name| as_c_str(&mut place.host, |path| ptrace::xattr(path, name, &mut value)))?
        };
        if size > 0 {
            ptrace::write_memory(tid, into, &value[..length])?;
        }
        Ok(Next::Answer(length as u64))
    }

    pub fn getcwd(&mut self, tid: i32, registers: &Registers) -> Result<Next, Errno> {
        let host = self.link_of(tid, libc::AT_FDCWD)?;
        if host.ends_with(b" (deleted)") {
            return Err(Errno::NOENT);
        }
        let mut guest = self.resolver.mounts().guest_of(&host).ok_or(Errno::NOENT)?;
        if guest.is_empty() {
            guest.push(b'/');
        }
        guest.push(0);
        if registers.rsi < guest.len() as u64 {
            return Err(Errno::RANGE);
        }
        ptrace::write_memory(tid, registers.rdi, &guest)?;
        Ok(Next::Answer(guest.len() as u64))
    }

    /// The root is the only root. Errors come in the kernel's order.
    pub fn chroot(&mut self, tid: i32, call: &Call, registers: &Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        self.read_path(tid, argument(registers, path.index))?;
        self.resolve(tid, libc::AT_FDCWD, LastLink::Follow)?;
        if look(&mut self.place.host)? != libc::S_IFDIR {
            return Err(Errno::NOTDIR);
        }
        as_c_str(&mut self.place.host, |path| ptrace::access(path, libc::X_OK, libc::AT_EACCESS))?;
        if self.place.guest.is_empty() { Ok(Next::Answer(0)) } else { Err(Errno::PERM) }
    }
}
