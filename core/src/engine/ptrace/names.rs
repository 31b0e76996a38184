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
                Ok(_) => Errno::ROFS,
                Err(error) => error,
            }),
            _ => Ok(()),
        }
    }

    /// Why nothing is made in a read-only mount.
    fn refuse_creation(&mut self, call: &Call) -> Errno {
        let makes_directory = matches!(i64::from(call.number), libc::SYS_mkdir | libc::SYS_mkdirat);
        match (look_name(&mut self.place), self.place.ending) {
            (Ok(_), _) | (_, Ending::Root) => Errno::EXIST,
            (Err(error), Ending::Dot | Ending::DotDot) => error,
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
            // What the dots are in comes first.
            Ending::Dot | Ending::DotDot if look(&mut self.place.host).is_err() => {
                return look(&mut self.place.host).map(drop);
            }
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
        let is_directory = look_name(&mut self.place) == Ok(libc::S_IFDIR);
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
        let (keeps, exchanges) = (flags & libc::RENAME_NOREPLACE != 0, flags & libc::RENAME_EXCHANGE != 0);
        let refusal = match (first.ending.is_name(), self.place.ending.is_name()) {
            _ if first.mount != self.place.mount => Errno::XDEV,
            (false, _) => Errno::BUSY,
            (true, false) => {
                if keeps {
                    Errno::EXIST
                } else {
                    Errno::BUSY
                }
            }
            _ if self.place.read_only => Errno::ROFS,
            _ if !first.is_mount_point && !self.place.is_mount_point || first.guest == self.place.guest => {
                return Ok(());
            }
            _ => Errno::BUSY,
        };
        search_parent(&mut first)?;
        search_parent(&mut self.place)?;
        if refusal != Errno::BUSY || !first.ending.is_name() || !self.place.ending.is_name() {
            return Err(refusal);
        }
        // A mount point.
        let (from, to) = (look_name(&mut first)?, look_name(&mut self.place));
        let is_directory = from == libc::S_IFDIR;
        let has_slash = |place: &Place| place.ending == Ending::Slash;
        match to {
            Ok(_) if keeps => return Err(Errno::EXIST),
            Err(error) if exchanges => return Err(error),
            Ok(kind) if exchanges && kind != libc::S_IFDIR && has_slash(&self.place) => return Err(Errno::NOTDIR),
            _ if !is_directory && (has_slash(&first) || !exchanges && has_slash(&self.place)) => {
                return Err(Errno::NOTDIR);
            }
            _ => {}
        }
        self.may_write_beside(&first.guest)?;
        self.may_write_beside(&self.place.guest)?;
        Err(match to {
            Ok(libc::S_IFDIR) if !is_directory && !exchanges => Errno::ISDIR,
            Ok(kind) if is_directory && kind != libc::S_IFDIR && !exchanges => Errno::NOTDIR,
            _ => Errno::BUSY,
        })
    }

    fn refuse_link(&mut self, call: &Call, first: First) -> Result<(), Errno> {
        let mount = match first {
            First::Place(mut place) => {
                look(&mut place.host)?;
                match place.is_proc {
                    true => self.mount_behind(&place.host),
                    false => Some(place.mount),
                }
            }
            First::Descriptor(mount) => mount,
        };
        if self.place.read_only {
            return Err(self.refuse_creation(call));
        }
        if mount.is_none_or(|mount| mount == self.place.mount) {
            return Ok(());
        }
        Err(match look_name(&mut self.place) {
            Ok(_) => Errno::EXIST,
            Err(Errno::NOENT) if self.place.ending == Ending::Name => Errno::XDEV,
            Err(error) => error,
        })
    }

    /// The mount that a link of /proc leads into, if it says so.
    fn mount_behind(&self, link: &[u8]) -> Option<u32> {
        let target = rustix::fs::readlinkat(rustix::fs::CWD, link, Vec::new()).ok()?.into_bytes();
        let guest = self.resolver.mounts().guest_of(&target)?;
        Some(self.resolver.mounts().find(&guest).0.id())
    }

    /// The second of two paths leads nowhere: the error of the first comes before it.
    pub fn fail_second(&mut self, call: &Call, first: Option<First>, error: Errno) -> Errno {
        let Some(First::Place(mut first)) = first else { return error };
        let earlier = match call.effect {
            Effect::Link => look(&mut first.host).map(drop),
            _ => search_parent(&mut first),
        };
        earlier.err().unwrap_or(error)
    }

    /// Whether the directory that holds this place may be written to.
    fn may_write_beside(&self, guest: &[u8]) -> Result<(), Errno> {
        let (mount, rest) = self.resolver.mounts().find(parent(guest));
        let mut host = [mount.host(), rest, b"/."].concat();
        as_c_str(&mut host, |path| ptrace::access(path, libc::W_OK | libc::X_OK, libc::AT_EACCESS))
    }
}

/// The type (S_IFMT) of what a name is, whatever follows it.
fn look_name(place: &mut Place) -> Result<u32, Errno> {
    if place.ending != Ending::Slash {
        return look(&mut place.host);
    }
    place.host.pop();
    let found = look(&mut place.host);
    place.host.push(b'/');
    found
}

/// Whether names in the directory that a path ends in may be looked at.
fn search_parent(place: &mut Place) -> Result<(), Errno> {
    if !place.ending.is_name() {
        return look(&mut place.host).map(drop);
    }
    let end = place.host.len() - usize::from(place.ending == Ending::Slash);
    let cut = place.host[..end].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let mut host = [&place.host[..cut], b"/."].concat();
    look(&mut host).map(drop)
}
