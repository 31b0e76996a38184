//! Calls that make a descriptor or change something: the guest does them itself on host paths.

use rustix::io::Errno;

use super::paths::{argument, as_c_str, last_link, look};
use super::pending::{AtEnd, Next};
use super::setup::ATTRIBUTE_REQUESTS;
use super::state::Tracer;
use crate::engine::path::table::{Call, Effect};
use crate::engine::path::{LastLink, Place};
use crate::sys::ptrace::{self, Registers};

const O_CREAT: u64 = libc::O_CREAT as u64;
const O_TMPFILE: u64 = libc::O_TMPFILE as u64;

impl Tracer {
    /// Replaces all paths; refuses what would change a read-only mount.
    pub fn translate(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let before = *registers;
        let mut changed = false;
        let mut first: Option<bool> = None;
        for (position, path) in call.paths.iter().flatten().enumerate() {
            let address = argument(&before, path.index);
            // utimensat(FD, NULL) and its like: the descriptor itself.
            if address == 0 && path.directory.is_some() {
                self.text.clear();
            } else {
                self.read_path(tid, address)?;
            }
            let directory = self.directory_of(&before, path);
            if self.text.is_empty() {
                if call.effect != Effect::Read && self.is_descriptor_read_only(tid, directory) {
                    return Err(Errno::ROFS);
                }
                first = Some(false);
                continue;
            }
            let last = last_link(&before, path);
            if call.effect == Effect::Read && self.may_stay(last) {
                continue;
            }
            self.resolve(tid, directory, last)?;
            self.refuse_change(call, position, first)?;
            first = Some(self.place.read_only);
            if let Some(result) = self.fake_file(tid, call, &before)? {
                return Ok(Next::Answer(result));
            }
            self.pass_place(tid, registers, path.index, position == 1)?;
            changed = true;
        }
        Ok(match changed {
            true => Next::Change(self.at_change(tid, call, before)),
            false => Next::Pass,
        })
    }

    /// Refuses what changes `self.place` if that may not be. `first`: whether the first path of two is read-only.
    fn refuse_change(&mut self, call: &Call, position: usize, first: Option<bool>) -> Result<(), Errno> {
        let Place { read_only, is_mount_point, .. } = self.place;
        match call.effect {
            Effect::Read => return Ok(()),
            Effect::Remove | Effect::Rename if is_mount_point && !read_only => return Err(Errno::BUSY),
            Effect::Rename | Effect::Link if position == 0 => {
                // The other path decides; a source that is not there is told first.
                return if read_only { look(&mut self.place.host).map(drop) } else { Ok(()) };
            }
            Effect::Rename | Effect::Link if first != Some(read_only) => return Err(Errno::XDEV),
            _ if !read_only => return Ok(()),
            _ => {}
        }
        match call.effect {
            Effect::Create | Effect::Link if look(&mut self.place.host).is_ok() => Err(Errno::EXIST),
            Effect::Change => Err(look(&mut self.place.host).err().unwrap_or(Errno::ROFS)),
            _ => Err(Errno::ROFS),
        }
    }

    pub fn open(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        let before = *registers;
        let mut confined = false;
        let flags = match i64::from(call.number) {
            libc::SYS_open => before.rsi,
            libc::SYS_creat => (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64,
            libc::SYS_openat2 => {
                let mut how = [0u8; 24];
                if before.r10 < 24 || ptrace::read_memory(tid, before.rdx, &mut how)? < 24 {
                    return Ok(Next::Pass);
                }
                let word = |at: usize| u64::from_le_bytes(how[at..at + 8].try_into().expect("eight bytes"));
                // RESOLVE_BENEATH and RESOLVE_IN_ROOT: the kernel does not leave the guest's directory.
                confined = word(16) & 0x18 != 0;
                word(0)
            }
            _ => before.rdx,
        };
        self.read_path(tid, argument(&before, path.index))?;
        let writes = flags & libc::O_PATH as u64 == 0
            && (flags & libc::O_ACCMODE as u64 != 0
                || flags & (O_CREAT | libc::O_TRUNC as u64) != 0
                || flags & O_TMPFILE == O_TMPFILE);
        let directory = self.directory_of(&before, &path);
        if confined {
            // Files of a read-only mount are reached by a read-only directory.
            let base = self.base(tid, directory)?;
            let read_only = self.resolver.mounts().find(&base).0.is_read_only();
            return if writes && read_only { Err(Errno::ROFS) } else { Ok(Next::Pass) };
        }
        let exclusive = flags & O_CREAT != 0 && flags & libc::O_EXCL as u64 != 0;
        let last = match exclusive || flags & libc::O_NOFOLLOW as u64 != 0 {
            true => LastLink::Keep,
            false => LastLink::Follow,
        };
        if self.text.is_empty() || !writes && self.may_stay(last) {
            return Ok(Next::Pass);
        }
        self.resolve(tid, directory, last)?;
        if writes && self.place.read_only {
            self.refuse_writing(flags)?;
        }
        self.pass_place(tid, registers, path.index, false)?;
        Ok(Next::Change(match flags & O_CREAT {
            0 => AtEnd::Restore { before: Box::new(before), _held: None },
            _ => self.at_creation(tid, before),
        }))
    }

    /// Refuses to open a file of a read-only mount for writing, where the kernel would not refuse it otherwise.
    fn refuse_writing(&mut self, flags: u64) -> Result<(), Errno> {
        let kind = match look(&mut self.place.host) {
            Ok(found) => found,
            Err(Errno::NOENT) if flags & O_CREAT != 0 => return Err(Errno::ROFS),
            Err(error) => return Err(error),
        };
        let changes = flags & libc::O_ACCMODE as u64 != 0 || flags & libc::O_TRUNC as u64 != 0;
        let exclusive = flags & O_CREAT != 0 && flags & libc::O_EXCL as u64 != 0;
        match kind {
            libc::S_IFDIR if flags & O_TMPFILE == O_TMPFILE => Err(Errno::ROFS),
            libc::S_IFREG if changes && !exclusive => {
                as_c_str(&mut self.place.host, |path| ptrace::access(path, libc::W_OK, libc::AT_EACCESS))?;
                Err(Errno::ROFS)
            }
            _ => Ok(()),
        }
    }

    /// fchmod and its like.
    pub fn descriptor(&mut self, tid: i32, call: &Call, registers: &Registers) -> Result<Next, Errno> {
        let descriptor = registers.rdi as i32;
        if self.is_descriptor_read_only(tid, descriptor) {
            return Err(Errno::ROFS);
        }
        if self.fake.is_some() && i64::from(call.number) == libc::SYS_fchown {
            let path = format!("/proc/{tid}/fd/{descriptor}");
            let stat = rustix::fs::stat(path).map_err(|_| Errno::BADF)?;
            self.remember_owner(tid, &stat, registers.rsi, registers.rdx)?;
            return Ok(Next::Answer(0));
        }
        Ok(Next::Pass)
    }

    /// ioctl with a request that changes a file.
    pub fn attribute(&mut self, tid: i32, registers: &Registers) -> Result<Next, Errno> {
        let changes = ATTRIBUTE_REQUESTS.contains(&(registers.rsi as u32));
        match changes && self.is_descriptor_read_only(tid, registers.rdi as i32) {
            true => Err(Errno::ROFS),
            false => Ok(Next::Pass),
        }
    }
}
