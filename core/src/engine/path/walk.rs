//! The walk: a path followed name by name, as the kernel does it.

use rustix::fs::CWD;
use rustix::io::{Errno, Result};

use super::place::{Base, LastLink, Limits, Place, Processes, Scope, parent};
use super::resolve::Resolver;

/// As many links as the kernel follows.
const MAX_LINKS: u32 = 40;

/// Where the walk goes on after it has looked at a link of /proc.
enum Magic {
    /// It is an ordinary name.
    Plain,
    /// It is an ordinary link, to this canonical guest path.
    Link(Vec<u8>),
    /// At this canonical guest path.
    Jump(Vec<u8>),
    /// Nowhere by text: the kernel alone can follow it, as the last name.
    Opaque,
}

impl Resolver {
    /// Follows `path`. Only the guest path of `place` is filled in.
    pub(super) fn walk(
        &self,
        base: Base<'_>,
        path: &[u8],
        last: LastLink,
        limits: Limits,
        processes: &impl Processes,
        place: &mut Place,
    ) -> Result<()> {
        let mut pending: Vec<Vec<u8>> = Vec::new();
        push_names(&mut pending, path);
        let guest = &mut place.guest;
        guest.clear();
        let top: &[u8] = if limits.scope == Scope::InRoot { base } else { b"" };
        match (path[0] == b'/', limits.scope) {
            (true, Scope::Beneath) => return Err(Errno::XDEV),
            (true, _) => guest.extend_from_slice(top),
            (false, _) => guest.extend_from_slice(base),
        }
        let mount_of = |guest: &[u8]| self.mounts().find(guest).0.id();
        let mut mount = mount_of(guest);
        // The kernel takes a link to the root for a crossing while it has not had to look where the root is.
        let mut knows_root = path[0] == b'/' || limits.scope != Scope::All;
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if limits.no_crossing && mount_of(guest) != mount {
                return Err(Errno::XDEV);
            }
            mount = mount_of(guest);
            if name == b".." {
                self.search(guest)?;
                knows_root = true;
                match limits.scope {
                    Scope::Beneath if guest.len() == base.len() => return Err(Errno::XDEV),
                    Scope::InRoot if guest.len() == base.len() => {}
                    _ => guest.truncate(parent(guest).len()),
                }
                continue;
            }
            if name.len() > 255 {
                self.search(guest)?;
                return Err(Errno::NAMETOOLONG);
            }
            let before = guest.len();
            guest.push(b'/');
            guest.extend_from_slice(&name);
            let is_last = pending.is_empty();
            if is_last && last != LastLink::Follow || self.mounts().find(guest).1.is_empty() {
                continue;
            }
            let magic = self.magic(guest, processes)?;
            let target = match magic {
                Magic::Plain => match self.look(guest, b"") {
                    Ok(target) => target,
                    Err(Errno::INVAL) => continue,
                    Err(Errno::NOENT) if is_last => continue,
                    Err(error) => return Err(error),
                },
                Magic::Link(ref to) | Magic::Jump(ref to) => to.clone(),
                Magic::Opaque => Vec::new(),
            };
            links += 1;
            if links > MAX_LINKS || limits.no_links {
                return Err(Errno::LOOP);
            }
            match magic {
                Magic::Plain if target.first() == Some(&b'/') => {
                    if limits.scope == Scope::Beneath || limits.no_crossing && (!knows_root || mount != mount_of(top)) {
                        return Err(Errno::XDEV);
                    }
                    guest.clear();
                    guest.extend_from_slice(top);
                    push_names(&mut pending, &target);
                    mount = mount_of(guest);
                }
                Magic::Plain => {
                    guest.truncate(before);
                    push_names(&mut pending, &target);
                }
                Magic::Link(_) => *guest = target,
                Magic::Jump(_) | Magic::Opaque if limits.no_magic => return Err(Errno::LOOP),
                Magic::Jump(_) | Magic::Opaque if limits.scope != Scope::All => return Err(Errno::XDEV),
                Magic::Jump(_) => *guest = target,
                Magic::Opaque if limits.no_crossing => return Err(Errno::XDEV),
                Magic::Opaque if is_last => {}
                Magic::Opaque => return Err(Errno::NOTDIR),
            }
        }
        match limits.no_crossing && mount_of(guest) != mount {
            true => Err(Errno::XDEV),
            false => Ok(()),
        }
    }

    /// Whether names in the directory `guest` may be looked at.
    fn search(&self, guest: &[u8]) -> Result<()> {
        match self.look(guest, b"/.") {
            Ok(_) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The target of the link at `guest`; EINVAL if something else is there.
    fn look(&self, guest: &[u8], ending: &[u8]) -> Result<Vec<u8>> {
        let (mount, rest) = self.mounts().find(guest);
        let mut path = Vec::with_capacity(mount.host().len() + rest.len() + ending.len() + 1);
        path.extend_from_slice(mount.host());
        path.extend_from_slice(rest);
        path.extend_from_slice(ending);
        if path.is_empty() {
            return Err(Errno::INVAL);
        }
        Ok(rustix::fs::readlinkat(CWD, path, Vec::new())?.into_bytes())
    }

    /// What the name at `guest` is if it lies in /proc and is a link that its text does not describe.
    fn magic(&self, guest: &[u8], processes: &impl Processes) -> Result<Magic> {
        let (mount, rest) = self.mounts().find(guest);
        if !mount.is_proc() {
            return Ok(Magic::Plain);
        }
        let top = &guest[..guest.len() - rest.len()];
        let names: Vec<&[u8]> = rest[1..].split(|byte| *byte == b'/').collect();
        let (pid, tid) = processes.caller();
        let number = |name: &[u8]| std::str::from_utf8(name).ok().and_then(|text| text.parse::<i32>().ok());
        match names[..] {
            [b"self"] => return Ok(Magic::Link([top, format!("/{pid}").as_bytes()].concat())),
            [b"thread-self"] => return Ok(Magic::Link([top, format!("/{pid}/task/{tid}").as_bytes()].concat())),
            _ => {}
        }
        let (Some(pid), [_, inside @ ..]) = (names.first().and_then(|name| number(name)), &names[..]) else {
            return Ok(Magic::Plain);
        };
        let inside = match inside {
            [b"task", _, rest @ ..] => rest,
            rest => rest,
        };
        let is_magic = matches!(inside, [b"exe" | b"cwd" | b"root"] | [b"fd", _] | [b"map_files" | b"ns", _]);
        if !is_magic {
            return Ok(Magic::Plain);
        }
        match inside {
            [b"root"] if processes.is_inside(pid) => return Ok(Magic::Jump(Vec::new())),
            [b"exe"] => {
                if let Some(program) = processes.program(pid) {
                    return Ok(Magic::Jump(program.to_vec()));
                }
            }
            _ => {}
        }
        let target = self.look(guest, b"")?;
        match self.mounts().guest_of(&target) {
            Some(_) if target.ends_with(b" (deleted)") => Ok(Magic::Opaque),
            Some(to) => Ok(Magic::Jump(to)),
            // A descriptor is open already: following it shows nothing new.
            None if matches!(inside, [b"fd", _]) => Ok(Magic::Opaque),
            None if target.first() != Some(&b'/') => Ok(Magic::Opaque),
            None => Err(Errno::ACCESS),
        }
    }

    /// What readlink(2) of a magic link shows, as a guest path; `None` if the host's answer stands.
    ///
    /// # Errors
    /// Those of readlink(2).
    pub fn read_magic(&self, place: &Place, processes: &impl Processes) -> Result<Option<Vec<u8>>> {
        if !place.is_proc || place.is_mount_point {
            return Ok(None);
        }
        let (pid, tid) = processes.caller();
        match &place.guest[self.mounts().find(&place.guest).0.guest().len()..] {
            b"/self" => return Ok(Some(pid.to_string().into_bytes())),
            b"/thread-self" => return Ok(Some(format!("{pid}/task/{tid}").into_bytes())),
            _ => {}
        }
        Ok(match self.magic(&place.guest, processes)? {
            Magic::Jump(to) if to.is_empty() => Some(b"/".to_vec()),
            Magic::Jump(to) | Magic::Link(to) => Some(to),
            Magic::Plain | Magic::Opaque => None,
        })
    }
}

/// Puts the names of `path` on the stack, the first on top.
fn push_names(pending: &mut Vec<Vec<u8>>, path: &[u8]) {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    pending.extend(names.rev().map(<[u8]>::to_vec));
}
