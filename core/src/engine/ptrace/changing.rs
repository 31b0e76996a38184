//! Calls that make a descriptor or change something: the guest does them itself on host paths.

use rustix::io::Errno;

use super::guest::SECOND_PATH;
use super::names::First;
use super::paths::{argument, as_c_str, last_link, look};
use super::pending::{AtEnd, Link, Next, restore};
use super::setup::ATTRIBUTE_REQUESTS;
use super::state::Tracer;
use crate::engine::path::table::{Call, Effect};
use crate::engine::path::{Ending, LastLink, Limits, Place, Scope};
use crate::sys::ptrace::{self, Registers};

const O_CREAT: u64 = libc::O_CREAT as u64;
const O_TMPFILE: u64 = libc::O_TMPFILE as u64;
/// `sizeof(struct open_how)`, and how long one of a later kernel may be.
const HOW_BYTES: u64 = 24;
const PAGE_BYTES: u64 = 4096;

/// What link(2) answers for a file of another user, and on a file system without hard links.
const REFUSED_LINK: i32 = -libc::EPERM;
const NO_LINKS: i32 = -libc::EOPNOTSUPP;

impl Tracer {
    /// Replaces all paths; refuses what the kernel would refuse if binds were mounts.
    pub fn translate(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let before = *registers;
        let mut changed = false;
        let mut first: Option<First> = None;
        let mut link = None;
        for (position, path) in call.paths.iter().flatten().enumerate() {
            let address = argument(&before, path.index);
            // utimensat(FD, NULL) and its like: the descriptor itself.
            if address == 0 && path.directory.is_some() {
                self.text.clear();
            } else {
                self.read_path(tid, address)?;
            }
            let directory = self.directory_of(&before, path);
            let is_first_of_two = position == 0 && call.paths[1].is_some();
            if self.text.is_empty() {
                if is_first_of_two {
                    first = Some(First::Descriptor(self.mount_of(tid, directory)));
                } else if call.effect != Effect::Read && self.is_descriptor_read_only(tid, directory) {
                    return Err(Errno::ROFS);
                }
                continue;
            }
            let last = last_link(&before, path);
            if call.effect == Effect::Read && self.may_stay(last) {
                continue;
            }
            if let Err(error) = self.resolve(tid, directory, last) {
                return Err(self.fail_second(call, first, error));
            }
            if is_first_of_two {
                first = Some(First::Place(self.place.clone()));
            } else {
                if call.effect == Effect::Link
                    && let Some(First::Place(Place { guest, host, .. })) = &first
                {
                    let name = self.place.host.clone();
                    link = Some(Box::new(Link { guest: guest.clone(), host: host.clone(), name }));
                }
                self.refuse_change(call, &before, first.take())?;
                let cuts = i64::from(call.number) == libc::SYS_truncate;
                if cuts && self.guests.is_running(&self.place.guest) && self.place.ending == Ending::Name {
                    return Err(Errno::TXTBSY);
                }
            }
            if let Some(result) = self.fake_file(tid, call, &before)? {
                return Ok(Next::Answer(result));
            }
            self.pass_place(tid, registers, path.index, position == 1)?;
            changed = true;
        }
        Ok(match (changed, link) {
            (false, _) => Next::Pass,
            (true, Some(link)) => Next::Change(AtEnd::Linked { before: Box::new(before), link }),
            (true, None) => Next::Change(self.at_change(tid, call, before)),
        })
    }

    /// The end of a link(2): where the kernel refuses one to a file (of another user, or on a file system without hard
    /// links), a symbolic link serves, as in udocker's P modes.
    pub fn end_link(tid: i32, before: &Registers, link: &mut Link) -> Result<(), Errno> {
        let answer = ptrace::registers(tid)?.rax as i64;
        restore(tid, before)?;
        let is_refused = matches!(answer as i32, REFUSED_LINK | NO_LINKS);
        if !is_refused || look(&mut link.host) != Ok(libc::S_IFREG) {
            return Ok(());
        }
        let made = rustix::fs::symlink(&link.guest[..], &link.name[..]);
        let mut registers = ptrace::registers(tid)?;
        registers.rax = made.err().map_or(0, |error| -i64::from(error.raw_os_error()) as u64);
        ptrace::set_registers(tid, &registers)
    }

    pub fn open(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        let before = *registers;
        let mut how = Vec::new();
        let mut limits = Limits::default();
        let flags = match i64::from(call.number) {
            libc::SYS_open => before.rsi,
            libc::SYS_creat => (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64,
            libc::SYS_openat2 => {
                how = read_how(tid, before.rdx, before.r10)?;
                limits = limits_of(&how)?;
                word(&how, 0)
            }
            _ => before.rdx,
        };
        // Kernels differ in whether these go together.
        if how.is_empty() && flags & O_CREAT != 0 && flags & libc::O_DIRECTORY as u64 != 0 {
            ptrace::check_open_flags(flags as i32)?;
        }
        self.read_path(tid, argument(&before, path.index))?;
        if self.text.ends_with(b"status") {
            self.company.looked_at();
        }
        let writes = flags & libc::O_PATH as u64 == 0
            && (flags & libc::O_ACCMODE as u64 != 0
                || flags & (O_CREAT | libc::O_TRUNC as u64) != 0
                || flags & O_TMPFILE == O_TMPFILE);
        let directory = self.directory_of(&before, &path);
        let exclusive = flags & O_CREAT != 0 && flags & libc::O_EXCL as u64 != 0;
        let last = match exclusive || flags & libc::O_NOFOLLOW as u64 != 0 {
            // Whatever that is, a file cannot be made of a name with a slash.
            _ if flags & O_CREAT != 0 && self.text.ends_with(b"/") => LastLink::Name,
            true => LastLink::Keep,
            false => LastLink::Follow,
        };
        if self.text.is_empty() || !writes && how.is_empty() && self.may_stay(last) {
            return Ok(Next::Pass);
        }
        self.resolve_within(tid, directory, last, limits)?;
        if writes && self.place.read_only {
            self.refuse_writing(flags)?;
        }
        // Of a program with a loader the kernel knows the loader alone.
        let writes_content = flags & (libc::O_ACCMODE | libc::O_TRUNC) as u64 != 0 && flags & O_TMPFILE != O_TMPFILE;
        let is_file = self.place.ending == Ending::Name;
        if writes && writes_content && !exclusive && is_file && self.guests.is_running(&self.place.guest) {
            return Err(Errno::TXTBSY);
        }
        self.pass_place(tid, registers, path.index, false)?;
        if limits != Limits::default() {
            // The path is followed already.
            let rest = word(&how, 16) & libc::RESOLVE_CACHED;
            how[16..24].copy_from_slice(&rest.to_le_bytes());
            registers.rdx = self.slot_address(tid, registers)? + SECOND_PATH;
            ptrace::write_memory(tid, registers.rdx, &how)?;
        }
        Ok(Next::Change(match flags & O_CREAT {
            0 => AtEnd::Restore { before: Box::new(before), _held: None },
            _ => self.at_creation(tid, before),
        }))
    }

    /// Refuses to open a file of a read-only mount for writing, where the kernel would not refuse it otherwise.
    fn refuse_writing(&mut self, flags: u64) -> Result<(), Errno> {
        if flags & O_CREAT != 0 && self.place.ending == Ending::Slash {
            return Err(Errno::ISDIR);
        }
        let kind = match look(&mut self.place.host) {
            Ok(found) => found,
            Err(Errno::NOENT) if flags & O_CREAT != 0 => return Err(Errno::ROFS),
            Err(error) => return Err(error),
        };
        let changes = flags & libc::O_ACCMODE as u64 != 0 || flags & libc::O_TRUNC as u64 != 0;
        let exclusive = flags & O_CREAT != 0 && flags & libc::O_EXCL as u64 != 0;
        match kind {
            libc::S_IFDIR if flags & O_TMPFILE == O_TMPFILE => Err(Errno::ROFS),
            _ if flags & O_TMPFILE == O_TMPFILE => Err(Errno::NOTDIR),
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

fn word(how: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(how[at..at + 8].try_into().expect("eight bytes"))
}

/// The `struct open_how` of openat2, if the kernel takes it.
fn read_how(tid: i32, address: u64, size: u64) -> Result<Vec<u8>, Errno> {
    if size < HOW_BYTES {
        return Err(Errno::INVAL);
    }
    if size > PAGE_BYTES {
        return Err(Errno::TOOBIG);
    }
    let mut how = vec![0; size as usize];
    if ptrace::read_memory(tid, address, &mut how)? < how.len() {
        return Err(Errno::FAULT);
    }
    ptrace::check_open_how(&how)?;
    Ok(how)
}

/// What a `struct open_how` forbids. A kernel to come may know more than this engine.
fn limits_of(how: &[u8]) -> Result<Limits, Errno> {
    let resolve = word(how, 16);
    let has = |flag: u64| resolve & flag != 0;
    let (no_crossing, no_magic, no_links) =
        (libc::RESOLVE_NO_XDEV, libc::RESOLVE_NO_MAGICLINKS, libc::RESOLVE_NO_SYMLINKS);
    let (beneath, in_root, cached) = (libc::RESOLVE_BENEATH, libc::RESOLVE_IN_ROOT, libc::RESOLVE_CACHED);
    if has(!(no_crossing | no_magic | no_links | beneath | in_root | cached)) {
        return Err(Errno::INVAL);
    }
    Ok(Limits {
        no_crossing: has(no_crossing),
        no_magic: has(no_magic),
        no_links: has(no_links),
        scope: match (has(beneath), has(in_root)) {
            (true, _) => Scope::Beneath,
            (false, true) => Scope::InRoot,
            (false, false) => Scope::All,
        },
    })
}
