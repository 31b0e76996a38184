//! What the kernel would refuse if the binds were mounts: names in a read-only mount, places of mounts, two mounts at once.
//!
//! The kernel that is given host paths knows none of this, as binds may lie on one file system. Errors come in the order of
//! its own checks (Linux, `fs/namei.c`).

use rustix::io::Errno;

use super::paths::{argument, look};
use super::state::Tracer;
use crate::engine::path::MountFacts;
use crate::engine::path::table::{Call, Effect};
use crate::sys::ptrace::Registers;

/// What the last name of a path is (`last_type` of the kernel's name lookup).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Plain,
    Dot,
    DotDot,
    Root,
}

pub(super) fn last_name(path: &[u8]) -> Name {
    match path.split(|byte| *byte == b'/').rfind(|name| !name.is_empty()) {
        None => Name::Root,
        Some(b".") => Name::Dot,
        Some(b"..") => Name::DotDot,
        Some(_) => Name::Plain,
    }
}

/// The first of two paths.
pub(super) struct First {
    pub host: Vec<u8>,
    pub mount: MountFacts,
    pub parent: MountFacts,
    pub is_mount_point: bool,
    pub name: Name,
    /// Whether it ends with a slash.
    pub is_closed: bool,
}

/// ENOTDIR or another error if what a name is to be in is no directory.
pub(super) fn check_parent(host: &[u8]) -> Result<(), Errno> {
    let end = host.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let cut = host[..end].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    match rustix::fs::stat(&host[..cut.max(1)])?.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Ok(()),
        _ => Err(Errno::NOTDIR),
    }
}

impl Tracer {
    /// Refuses what makes or changes `self.place` in a read-only mount: what is there, or is not, is told first.
    pub fn refuse_change(&mut self, effect: Effect) -> Result<(), Errno> {
        if effect == Effect::Truncate && !self.place.mount.read_only && self.guests.is_running(&self.place.guest) {
            return Err(Errno::TXTBSY);
        }
        if !self.place.mount.read_only {
            return Ok(());
        }
        match (effect, look(&mut self.place.host)) {
            (Effect::Create, Ok(_)) => Err(Errno::EXIST),
            (Effect::Change, Err(error)) => Err(error),
            (Effect::Truncate, Ok(libc::S_IFDIR)) => Err(Errno::ISDIR),
            (Effect::Truncate, Ok(kind)) if kind != libc::S_IFREG => Err(Errno::INVAL),
            (Effect::Truncate, Err(error)) => Err(error),
            _ => Err(Errno::ROFS),
        }
    }

    /// Refuses to remove `self.place`, in the kernel's order (do_unlinkat, do_rmdir): by the name's kind, for a read-only
    /// mount, for a mount's own place.
    pub fn refuse_removal(&mut self, call: &Call, registers: &Registers) -> Result<(), Errno> {
        let is_rmdir = match i64::from(call.number) {
            libc::SYS_unlinkat => argument(registers, 2) as i32 & libc::AT_REMOVEDIR != 0,
            number => number == libc::SYS_rmdir,
        };
        let name = last_name(&self.text);
        if name != Name::Plain {
            look(&mut self.place.host)?;
        }
        match (is_rmdir, name) {
            (_, Name::Plain) => {}
            (false, _) => return Err(Errno::ISDIR),
            (true, Name::Dot) => return Err(Errno::INVAL),
            (true, Name::DotDot) => return Err(Errno::NOTEMPTY),
            (true, Name::Root) => return Err(Errno::BUSY),
        }
        if self.place.parent.read_only {
            return Err(Errno::ROFS);
        }
        if !self.place.is_mount_point {
            return Ok(());
        }
        let is_directory = look(&mut self.place.host)? == libc::S_IFDIR;
        Err(match (is_rmdir, is_directory) {
            (false, true) => Errno::ISDIR,
            (true, false) => Errno::NOTDIR,
            _ => Errno::BUSY,
        })
    }

    /// Refuses to rename `first` to `self.place`, in the kernel's order (do_renameat2).
    pub fn refuse_rename(
        &mut self,
        call: &Call,
        registers: &Registers,
        first: Option<&mut First>,
    ) -> Result<(), Errno> {
        let Some(first) = first else { return Ok(()) };
        if first.parent.number != self.place.parent.number {
            return Err(Errno::XDEV);
        }
        let is_renameat2 = i64::from(call.number) == libc::SYS_renameat2;
        let flags = if is_renameat2 { argument(registers, 4) as u32 } else { 0 };
        if first.name != Name::Plain {
            return Err(Errno::BUSY);
        }
        if last_name(&self.text) != Name::Plain {
            return Err(if flags & libc::RENAME_NOREPLACE != 0 { Errno::EXIST } else { Errno::BUSY });
        }
        if self.place.parent.read_only {
            return Err(Errno::ROFS);
        }
        // What is renamed to itself stays, also a mount's own place.
        if !first.is_mount_point && !self.place.is_mount_point || first.host == self.place.host {
            return Ok(());
        }
        let from = look(&mut first.host)?;
        let to = look(&mut self.place.host);
        let exchanges = flags & libc::RENAME_EXCHANGE != 0;
        let is_directory = |kind: u32| kind == libc::S_IFDIR;
        Err(match to {
            Ok(_) if flags & libc::RENAME_NOREPLACE != 0 => Errno::EXIST,
            Err(error) if exchanges => error,
            _ if !is_directory(from) && (first.is_closed || !exchanges && self.text.ends_with(b"/")) => Errno::NOTDIR,
            Ok(to) if !exchanges && is_directory(from) && !is_directory(to) => Errno::NOTDIR,
            Ok(to) if !exchanges && !is_directory(from) && is_directory(to) => Errno::ISDIR,
            _ => Errno::BUSY,
        })
    }

    /// What we refuse, the kernel refuses after it has looked at the directories of both names.
    pub fn after_parents(&self, refused: Result<(), Errno>, first: Option<&First>) -> Result<(), Errno> {
        if let (Err(_), Some(first)) = (refused, first) {
            check_parent(&first.host)?;
            check_parent(&self.place.host)?;
        }
        refused
    }

    /// Refuses to link `first` to `self.place`, in the kernel's order (do_linkat).
    pub fn refuse_link(&mut self, first: Option<&mut First>) -> Result<(), Errno> {
        let Some(first) = first else { return Ok(()) };
        let is_apart = first.mount.number != self.place.parent.number;
        if !is_apart && !self.place.parent.read_only {
            return Ok(());
        }
        look(&mut first.host)?;
        check_parent(&self.place.host)?;
        if look(&mut self.place.host).is_ok() {
            return Err(Errno::EXIST);
        }
        if self.text.ends_with(b"/") {
            return Err(Errno::NOENT);
        }
        Err(if self.place.parent.read_only { Errno::ROFS } else { Errno::XDEV })
    }
}
