//! What the kernel would refuse if binds were mounts: names of a read-only mount, places of mounts, two mounts at once.
//!
//! All binds may lie on one file system of the host, so the kernel that is given host paths knows of none of this. Errors
//! come in the order of the kernel's own checks (`fs/namei.c`).

use rustix::io::Errno;

use super::paths::{argument, as_c_str, look};
use super::state::Tracer;
use crate::engine::path::table::{Call, Effect};
use crate::engine::path::{Ending, Place, parent};
use crate::sys::ptrace::{self, Registers};

const RENAME_NOREPLACE: u32 = libc::RENAME_NOREPLACE;
const RENAME_EXCHANGE: u32 = libc::RENAME_EXCHANGE;
const RENAME_WHITEOUT: u32 = libc::RENAME_WHITEOUT;

/// The first of two paths.
#[derive(Debug)]
pub(super) enum First {
    /// Where it leads.
    Place(Place),
    /// It is empty: a descriptor, in this mount if it is in one.
    Descriptor(Option<u32>),
}

impl Tracer {
    /// Refuses what `call` does to `self.place`, its last path. `first`: its first, if it has two.
    pub fn refuse_change(&mut self, call: &Call, registers: &Registers, first: Option<First>) -> Result<(), Errno> {
        match (call.effect, first) {
            (Effect::Remove, _) => self.refuse_removal(call, registers),
            (Effect::Rename, Some(First::Place(first))) => self.refuse_rename(call, registers, first),
            (Effect::Link, Some(first)) => self.refuse_link(call, first),
            (Effect::Create, _) if self.place.read_only => Err(self.refuse_creation(call)),
            (Effect::Change, _) if self.place.read_only => Err(match look(&mut self.place.host) {
                Ok(libc::S_IFDIR) if i64::from(call.number) == libc::SYS_truncate => Errno::ISDIR,
                Ok(libc::S_IFREG) | Err(Errno::NOENT) if self.place.ending == Ending::Slash => Errno::NOTDIR,
                Ok(_) => Errno::ROFS,
                Err(error) => error,
            }),
            _ => Ok(()),
        }
    }

    /// Why nothing is made in a read-only mount.
    fn refuse_creation(&mut self, call: &Call) -> Errno {
        let makes_directory = matches!(i64::from(call.number), libc::SYS_mkdir | libc::SYS_mkdirat);
        match (look(&mut self.place.host), self.place.ending) {
            (Ok(_), _) | (_, Ending::Root) => Errno::EXIST,
            (Err(error), Ending::Dot | Ending::DotDot) => error,
            (Err(Errno::NOTDIR), Ending::Slash) => Errno::EXIST,
            (Err(Errno::NOENT), Ending::Slash) if !makes_directory => Errno::NOENT,
            (Err(Errno::NOENT), _) => Errno::ROFS,
            (Err(error), _) => error,
        }
    }

    fn refuse_removal(&mut self, call: &Call, registers: &Registers) -> Result<(), Errno> {
        let flags = match i64::from(call.number) {
            libc::SYS_unlinkat => registers.rdx as i32,
            libc::SYS_rmdir => libc::AT_REMOVEDIR,
            _ => 0,
        };
        let removes_directory = flags != 0;
        match self.place.ending {
            Ending::Name | Ending::Slash => {}
            _ if !removes_directory => return Err(Errno::ISDIR),
            Ending::Dot => return Err(Errno::INVAL),
            Ending::DotDot => return Err(Errno::NOTEMPTY),
            Ending::Root => return Err(Errno::BUSY),
        }
        if self.place.read_only {
            return Err(Errno::ROFS);
        }
        if !self.place.is_mount_point {
            return Ok(());
        }
        let is_directory = look(&mut self.place.host) == Ok(libc::S_IFDIR);
        if self.place.ending == Ending::Slash && !removes_directory {
            return Err(if is_directory { Errno::ISDIR } else { Errno::NOTDIR });
        }
        self.may_write_beside(&self.place.guest)?;
        Err(match (removes_directory, is_directory) {
            (true, false) => Errno::NOTDIR,
            (false, true) => Errno::ISDIR,
            _ => Errno::BUSY,
        })
    }

    fn refuse_rename(&mut self, call: &Call, registers: &Registers, mut first: Place) -> Result<(), Errno> {
        let flags = if i64::from(call.number) == libc::SYS_renameat2 { argument(registers, 4) as u32 } else { 0 };
        let has = |flag: u32| flags & flag != 0;
        if has(RENAME_EXCHANGE) && has(RENAME_NOREPLACE | RENAME_WHITEOUT) {
            return Err(Errno::INVAL);
        }
        if first.mount != self.place.mount {
            return Err(Errno::XDEV);
        }
        if !first.ending.is_name() {
            return Err(Errno::BUSY);
        }
        if !self.place.ending.is_name() {
            return Err(if has(RENAME_NOREPLACE) { Errno::EXIST } else { Errno::BUSY });
        }
        if self.place.read_only {
            return Err(Errno::ROFS);
        }
        if !first.is_mount_point && !self.place.is_mount_point || first.guest == self.place.guest {
            return Ok(());
        }
        let (from, to) = (look(&mut first.host)?, look(&mut self.place.host));
        match to {
            Ok(_) if has(RENAME_NOREPLACE) => return Err(Errno::EXIST),
            Err(error) if has(RENAME_EXCHANGE) => return Err(error),
            _ => {}
        }
        self.may_write_beside(&first.guest)?;
        self.may_write_beside(&self.place.guest)?;
        Err(match to {
            Ok(libc::S_IFDIR) if from != libc::S_IFDIR && !has(RENAME_EXCHANGE) => Errno::ISDIR,
            Ok(kind) if from == libc::S_IFDIR && kind != libc::S_IFDIR && !has(RENAME_EXCHANGE) => Errno::NOTDIR,
            _ => Errno::BUSY,
        })
    }

    fn refuse_link(&mut self, call: &Call, first: First) -> Result<(), Errno> {
        let mount = match first {
            First::Place(mut place) => {
                look(&mut place.host)?;
                // The kernel alone knows what a link of /proc leads to.
                (!place.is_proc).then_some(place.mount)
            }
            First::Descriptor(mount) => mount,
        };
        if self.place.read_only {
            return Err(self.refuse_creation(call));
        }
        if mount.is_none_or(|mount| mount == self.place.mount) {
            return Ok(());
        }
        Err(match look(&mut self.place.host) {
            Ok(_) => Errno::EXIST,
            Err(Errno::NOTDIR) if self.place.ending == Ending::Slash => Errno::EXIST,
            Err(Errno::NOENT) if self.place.ending.is_name() && self.place.ending != Ending::Slash => Errno::XDEV,
            Err(error) => error,
        })
    }

    /// Whether the directory that holds this place may be written to.
    fn may_write_beside(&self, guest: &[u8]) -> Result<(), Errno> {
        let (mount, rest) = self.resolver.mounts().find(parent(guest));
        let mut host = [mount.host(), rest, b"/."].concat();
        as_c_str(&mut host, |path| ptrace::access(path, libc::W_OK | libc::X_OK, libc::AT_EACCESS))
    }
}
