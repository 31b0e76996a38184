//! What is done with each call that stops: the rules of [`crate::engine::path::table`] at work.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::guest::{AtEnd, SECOND_PATH};
use super::setup::ATTRIBUTE_REQUESTS;
use super::tracer::{Next, Tracer};
use crate::engine::path::table::{self, Action, Call, Effect, Emulation, Follow, PathArgument};
use crate::engine::path::{LastLink, Place};
use crate::sys::ptrace::{self, Registers};

/// PATH_MAX, with its NUL.
const PATH_BYTES: usize = 4096;
/// What is read of a path first; most are shorter.
const FIRST_BYTES: usize = 256;
/// The largest value and list of extended attributes (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const XATTR_BYTES: u64 = 65536;
/// `sizeof(struct sockaddr_un)` and of its family.
const ADDRESS_BYTES: usize = 110;
const FAMILY_BYTES: usize = 2;
/// `sizeof(struct msghdr)` and `sizeof(struct mmsghdr)`.
const MESSAGE_BYTES: usize = 56;
const MANY_MESSAGE_BYTES: u64 = 64;

const O_CREAT: u64 = libc::O_CREAT as u64;
const O_TMPFILE: u64 = libc::O_TMPFILE as u64;

/// Argument `index` of the call.
pub(super) fn argument(registers: &Registers, index: u8) -> u64 {
    match index {
        0 => registers.rdi,
        1 => registers.rsi,
        2 => registers.rdx,
        3 => registers.r10,
        4 => registers.r8,
        _ => registers.r9,
    }
}

fn set_argument(registers: &mut Registers, index: u8, value: u64) {
    match index {
        0 => registers.rdi = value,
        1 => registers.rsi = value,
        2 => registers.rdx = value,
        3 => registers.r10 = value,
        4 => registers.r8 = value,
        _ => registers.r9 = value,
    }
}

/// Calls `with` on the path as a C string, without a copy.
pub(super) fn as_c_str<T>(path: &mut Vec<u8>, with: impl FnOnce(&CStr) -> T) -> T {
    path.push(0);
    // Paths are read up to their NUL, and links hold none.
    let result = with(CStr::from_bytes_until_nul(path).unwrap_or_default());
    path.pop();
    result
}

/// Whether `name` is one name below its directory.
fn is_plain_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/')
}

/// The bytes of a socket address, and what must stay open until the call is done.
type HostAddress = (Vec<u8>, Option<OwnedFd>);

/// The type (S_IFMT) of what is at a host path itself.
fn look(host: &mut Vec<u8>) -> Result<u32, Errno> {
    let stat = as_c_str(host, |path| rustix::fs::lstat(path))?;
    Ok(stat.st_mode & libc::S_IFMT)
}

impl Tracer {
    /// Decides about the call that `tid` begins.
    pub fn call(&mut self, tid: i32, registers: &mut Registers) -> Result<Next, Errno> {
        let number = registers.orig_rax;
        if let Some(next) = self.identity(tid, registers)? {
            return Ok(next);
        }
        let Some(call) = table::find(number) else { return Err(Errno::NOSYS) };
        match call.action {
            Action::Allow => Ok(Next::Pass),
            Action::Refuse(errno) => Err(Errno::from_raw_os_error(errno)),
            Action::Translate => self.translate(tid, call, registers),
            Action::Emulate(how) => match how {
                Emulation::Stat | Emulation::Statx => self.stat(tid, call, registers, how == Emulation::Statx),
                Emulation::Access => self.access(tid, call, registers),
                Emulation::Readlink => self.readlink(tid, call, registers),
                Emulation::Xattr => self.xattr(tid, call, registers),
                Emulation::Getcwd => self.getcwd(tid, registers),
                Emulation::Open => self.open(tid, call, registers),
                Emulation::Exec => self.exec(tid, registers),
                Emulation::Address => self.address(tid, call, registers),
                Emulation::Message => self.message(tid, registers),
                Emulation::Chroot => self.chroot(tid, call, registers),
                Emulation::Descriptor => self.descriptor(tid, call, registers),
                Emulation::Attribute => self.attribute(tid, registers),
            },
        }
    }

    /// Reads a path of the guest into the buffer.
    pub fn read_path(&mut self, tid: i32, address: u64) -> Result<(), Errno> {
        let text = &mut self.text;
        text.clear();
        for end in [FIRST_BYTES, PATH_BYTES] {
            let start = text.len();
            text.resize(end, 0);
            let count = ptrace::read_memory(tid, address + start as u64, &mut text[start..])?;
            text.truncate(start + count);
            if let Some(end) = text[start..].iter().position(|byte| *byte == 0) {
                text.truncate(start + end);
                return Ok(());
            }
            if start + count < end {
                return Err(Errno::FAULT);
            }
        }
        Err(Errno::NAMETOOLONG)
    }

    /// The guest's directory that a relative path begins at.
    pub fn base(&self, tid: i32, directory: i32) -> Result<Vec<u8>, Errno> {
        let host = self.link_of(tid, directory)?;
        match self.resolver.mounts().guest_of(&host) {
            Some(guest) => Ok(guest),
            None if host.first() == Some(&b'/') => Err(Errno::ACCESS),
            None => Err(Errno::NOTDIR),
        }
    }

    /// What /proc says of a descriptor, or of the working directory.
    fn link_of(&self, tid: i32, descriptor: i32) -> Result<Vec<u8>, Errno> {
        let path = match descriptor {
            libc::AT_FDCWD => format!("/proc/{tid}/cwd"),
            descriptor => format!("/proc/{tid}/fd/{descriptor}"),
        };
        match rustix::fs::readlinkat(CWD, path, Vec::new()) {
            Ok(link) => Ok(link.into_bytes()),
            Err(Errno::NOENT) => Err(Errno::BADF),
            Err(error) => Err(error),
        }
    }

    /// Whether the file behind a descriptor may not change.
    fn is_descriptor_read_only(&self, tid: i32, descriptor: i32) -> bool {
        let Ok(host) = self.link_of(tid, descriptor) else { return false };
        let guest = self.resolver.mounts().guest_of(&host);
        guest.is_some_and(|guest| self.resolver.mounts().find(&guest).0.is_read_only())
    }

    fn directory_of(&self, registers: &Registers, path: &PathArgument) -> i32 {
        path.directory.map_or(libc::AT_FDCWD, |index| argument(registers, index) as i32)
    }

    /// Resolves the path in the buffer into `self.place`.
    pub fn resolve(&mut self, tid: i32, directory: i32, last: LastLink) -> Result<(), Errno> {
        let base = match self.text.first() {
            Some(b'/') => Vec::new(),
            None => return Err(Errno::NOENT),
            _ => self.base(tid, directory)?,
        };
        self.resolver.resolve(&base, &self.text, last, &self.guests, &mut self.place)
    }

    /// Writes the host path of `self.place` into the guest as its argument.
    fn pass_place(&mut self, tid: i32, registers: &mut Registers, index: u8, second: bool) -> Result<(), Errno> {
        let address = self.slot_address(tid, registers)? + if second { SECOND_PATH } else { 0 };
        self.place.host.push(0);
        let written = ptrace::write_memory(tid, address, &self.place.host);
        self.place.host.pop();
        set_argument(registers, index, address);
        written
    }

    pub fn slot_address(&mut self, tid: i32, registers: &Registers) -> Result<u64, Errno> {
        Ok(self.tracee(tid)?.slot.address(registers.rsp))
    }

    /// Replaces all paths; refuses what would change a read-only mount.
    fn translate(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
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

    /// Whether the path in the buffer means for the kernel what it means for the guest: one name that is no link to
    /// follow and no place of a mount.
    fn may_stay(&self, last: LastLink) -> bool {
        last == LastLink::Keep && is_plain_name(&self.text) && !self.resolver.mounts().is_mount_name(&self.text)
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

    fn stat(&mut self, tid: i32, call: &Call, registers: &mut Registers, extended: bool) -> Result<Next, Errno> {
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

    fn access(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
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

    fn readlink(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        self.read_path(tid, argument(registers, path.index))?;
        if self.text.is_empty() {
            return Ok(Next::Pass);
        }
        let size = argument(registers, path.index + 2) as i32;
        if size <= 0 {
            return Err(Errno::INVAL);
        }
        self.resolve(tid, self.directory_of(registers, &path), LastLink::Keep)?;
        let target = match self.resolver.read_magic(&self.place, &self.guests)? {
            Some(target) => target,
            None => rustix::fs::readlinkat(CWD, &self.place.host[..], Vec::new())?.into_bytes(),
        };
        let length = target.len().min(size as usize);
        ptrace::write_memory(tid, argument(registers, path.index + 1), &target[..length])?;
        Ok(Next::Answer(length as u64))
    }

    /// Extended attributes by path, which `ls -l` asks for three times per file.
    fn xattr(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
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
            as_c_str(&mut self.place.host, |path| rustix::fs::llistxattr(path, &mut value[..]))?
        } else {
            self.read_path(tid, registers.rsi)
                .map_err(|error| if error == Errno::FAULT { error } else { Errno::RANGE })?;
            as_c_str(&mut self.place.host, |path| rustix::fs::lgetxattr(path, &self.text[..], &mut value[..]))?
        };
        if size > 0 {
            ptrace::write_memory(tid, into, &value[..length])?;
        }
        Ok(Next::Answer(length as u64))
    }

    fn getcwd(&mut self, tid: i32, registers: &Registers) -> Result<Next, Errno> {
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

    fn open(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
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

    /// bind, connect, sendto.
    fn address(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
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
        if binds && self.place.read_only {
            return Err(if look(&mut self.place.host).is_ok() { Errno::ADDRINUSE } else { Errno::ROFS });
        }
        let mut host = std::mem::take(&mut self.place.host);
        let mut held = None;
        if FAMILY_BYTES + host.len() >= ADDRESS_BYTES {
            let cut = host.iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let parent = rustix::fs::open(&host[..cut.max(1)], flags, Mode::empty())?;
            let name = &host[cut..];
            host = [format!("/proc/{}/fd/{}", std::process::id(), parent.as_raw_fd()).as_bytes(), name].concat();
            held = Some(parent);
            if FAMILY_BYTES + host.len() >= ADDRESS_BYTES {
                return Err(Errno::NAMETOOLONG);
            }
        }
        let mut result = family.to_le_bytes().to_vec();
        result.extend(&host);
        result.push(0);
        Ok(Some((result, held)))
    }

    /// sendmsg and sendmmsg. The kernel writes into the list of the latter, so its messages cannot be replaced: one that
    /// names a path is refused, and the caller sends it alone.
    fn message(&mut self, tid: i32, registers: &mut Registers) -> Result<Next, Errno> {
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

    /// The root is the only root.
    fn chroot(&mut self, tid: i32, call: &Call, registers: &Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        self.read_path(tid, argument(registers, path.index))?;
        self.resolve(tid, libc::AT_FDCWD, LastLink::Follow)?;
        if self.place.guest.is_empty() { Ok(Next::Answer(0)) } else { Err(Errno::PERM) }
    }

    /// fchmod and its like.
    fn descriptor(&mut self, tid: i32, call: &Call, registers: &Registers) -> Result<Next, Errno> {
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
    fn attribute(&mut self, tid: i32, registers: &Registers) -> Result<Next, Errno> {
        let changes = ATTRIBUTE_REQUESTS.contains(&(registers.rsi as u32));
        match changes && self.is_descriptor_read_only(tid, registers.rdi as i32) {
            true => Err(Errno::ROFS),
            false => Ok(Next::Pass),
        }
    }
}

/// Whether the last name of the path is followed.
fn last_link(registers: &Registers, path: &PathArgument) -> LastLink {
    let has = |index: u8, flag: u32| argument(registers, index) as u32 & flag != 0;
    let follows = match path.follow {
        Follow::Always => true,
        Follow::Never => false,
        Follow::Unless(index, flag) => !has(index, flag),
        Follow::If(index, flag) => has(index, flag),
        Follow::Open(index) => !has(index, libc::O_NOFOLLOW as u32),
    };
    if follows { LastLink::Follow } else { LastLink::Keep }
}
