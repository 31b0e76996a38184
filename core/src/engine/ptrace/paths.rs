//! The guest's paths: read from its memory, resolved, and given back as host paths.

use std::ffi::CStr;

use rustix::fs::CWD;
use rustix::io::Errno;

use super::guest::SECOND_PATH;
use super::state::Tracer;
use crate::engine::path::table::{Follow, PathArgument};
use crate::engine::path::{Ending, LastLink, Limits, Mount, Place, Scope, parent};
use crate::sys::ptrace::{self, Registers};

/// PATH_MAX, with its NUL.
const PATH_BYTES: usize = 4096;
/// What is read of a path first; most are shorter.
const FIRST_BYTES: usize = 256;
/// What the kernel puts behind the path of a file without a name.
const DELETED: &[u8] = b" (deleted)";

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

pub(super) fn set_argument(registers: &mut Registers, index: u8, value: u64) {
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

/// The link to a descriptor, or to the working directory.
fn link_path(tid: i32, descriptor: i32) -> Vec<u8> {
    match descriptor {
        libc::AT_FDCWD => format!("/proc/{tid}/cwd"),
        descriptor => format!("/proc/{tid}/fd/{descriptor}"),
    }
    .into_bytes()
}

/// Whether `name` is one name below its directory.
fn is_plain_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/')
}

/// The type (S_IFMT) of what is at a host path itself.
pub(super) fn look(host: &mut Vec<u8>) -> Result<u32, Errno> {
    let stat = as_c_str(host, |path| rustix::fs::lstat(path))?;
    Ok(stat.st_mode & libc::S_IFMT)
}

/// Whether the last name of the path is followed.
pub(super) fn last_link(registers: &Registers, path: &PathArgument) -> LastLink {
    let has = |index: u8, flag: u32| argument(registers, index) as u32 & flag != 0;
    let follows = match path.follow {
        Follow::Always => true,
        Follow::Never => false,
        Follow::Name => return LastLink::Name,
        Follow::Unless(index, flag) => !has(index, flag),
        Follow::If(index, flag) => has(index, flag),
        Follow::Open(index) => !has(index, libc::O_NOFOLLOW as u32),
    };
    if follows { LastLink::Follow } else { LastLink::Keep }
}

impl Tracer {
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
    pub fn link_of(&self, tid: i32, descriptor: i32) -> Result<Vec<u8>, Errno> {
        match rustix::fs::readlinkat(CWD, link_path(tid, descriptor), Vec::new()) {
            Ok(link) => Ok(link.into_bytes()),
            Err(Errno::NOENT) => Err(Errno::BADF),
            Err(error) => Err(error),
        }
    }

    /// The mount that the file behind a descriptor lies in.
    fn descriptor_mount(&self, tid: i32, descriptor: i32) -> Option<&Mount> {
        let host = self.link_of(tid, descriptor).ok()?;
        let guest = self.resolver.mounts().guest_of(&host)?;
        Some(self.resolver.mounts().find(&guest).0)
    }

    /// The number of the mount that the file behind a descriptor lies in.
    pub fn mount_of(&self, tid: i32, descriptor: i32) -> Option<u32> {
        self.descriptor_mount(tid, descriptor).map(Mount::id)
    }

    /// Whether the file behind a descriptor may not change.
    pub fn is_descriptor_read_only(&self, tid: i32, descriptor: i32) -> bool {
        self.descriptor_mount(tid, descriptor).is_some_and(Mount::is_read_only)
    }

    /// Which directory a relative path begins at.
    pub fn directory_of(&self, registers: &Registers, path: &PathArgument) -> i32 {
        path.directory.map_or(libc::AT_FDCWD, |index| argument(registers, index) as i32)
    }

    /// Resolves the path in the buffer into `self.place`.
    pub fn resolve(&mut self, tid: i32, directory: i32, last: LastLink) -> Result<(), Errno> {
        self.resolve_within(tid, directory, last, Limits::default())
    }

    /// The same, within the limits of openat2.
    pub fn resolve_within(&mut self, tid: i32, directory: i32, last: LastLink, limits: Limits) -> Result<(), Errno> {
        let mut base = match (self.text.first(), limits.scope) {
            (None, _) => return Err(Errno::NOENT),
            (Some(b'/'), Scope::All | Scope::Beneath) => Vec::new(),
            _ => self.base(tid, directory)?,
        };
        if base.ends_with(DELETED) && self.leave_deleted(tid, directory, &mut base)? {
            return Ok(());
        }
        self.resolver.resolve_within(&base, &self.text, last, limits, &self.guests, &mut self.place)
    }

    /// A relative path that begins in a directory without a name: all but `.` and `..` are missing in it. True if the path
    /// ends there.
    fn leave_deleted(&mut self, tid: i32, directory: i32, base: &mut Vec<u8>) -> Result<bool, Errno> {
        let host = link_path(tid, directory);
        match rustix::fs::stat(&host[..]) {
            Ok(stat) if stat.st_nlink > 0 && stat.st_mode & libc::S_IFMT == libc::S_IFDIR => return Ok(false),
            Ok(stat) if stat.st_mode & libc::S_IFMT != libc::S_IFDIR => return Err(Errno::NOTDIR),
            _ => {}
        }
        base.truncate(base.len() - DELETED.len());
        let path = &self.text[..];
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        match names.next() {
            None => {
                let mount = self.resolver.mounts().find(base).0;
                self.place = Place {
                    host: [&host[..], b"/."].concat(),
                    ending: Ending::Dot,
                    mount: mount.id(),
                    read_only: mount.is_read_only(),
                    is_proc: false,
                    is_mount_point: false,
                    guest: std::mem::take(base),
                };
                Ok(true)
            }
            Some(b"..") => {
                base.truncate(parent(base).len());
                let start = path.windows(2).position(|pair| pair == b"..").map_or(0, |at| at + 2);
                let rest = [b".", &path[start..]].concat();
                self.text = rest;
                Ok(false)
            }
            Some(_) => Err(Errno::NOENT),
        }
    }

    /// Writes the host path of `self.place` into the guest as its argument.
    pub fn pass_place(&mut self, tid: i32, registers: &mut Registers, index: u8, second: bool) -> Result<(), Errno> {
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

    /// Whether the path in the buffer means for the kernel what it means for the guest: one name that is no link to
    /// follow and no place of a mount.
    pub fn may_stay(&self, last: LastLink) -> bool {
        last == LastLink::Keep && is_plain_name(&self.text) && !self.resolver.mounts().is_mount_name(&self.text)
    }
}
