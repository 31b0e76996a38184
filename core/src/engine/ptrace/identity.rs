//! Fake root: who the guest believes to be, and whose its files are. Nothing of it happens; all of it is remembered.

use rustix::fs::Stat;
use rustix::io::Errno;

use super::credentials::{CALLS, Credentials, UNCHANGED, set, set_one, set_two};
use super::paths::as_c_str;
use super::pending::{AtEnd, Next};
use super::state::Tracer;
use crate::engine::path::table::{Call, Effect};
use crate::sys::ptrace::{self, Registers};

/// NGROUPS_MAX.
const MAX_GROUPS: u64 = 65536;

impl Tracer {
    /// Who the caller believes to be.
    fn credentials(&mut self, tid: i32) -> Result<&mut Credentials, Errno> {
        let pid = self.tracee(tid)?.pid;
        let fake = self.fake.ok_or(Errno::PERM)?;
        Ok(self.guests.credentials.entry(pid).or_insert_with(|| Credentials {
            uid: [fake.uid; 3],
            gid: [fake.gid; 3],
            groups: None,
            keeps_capabilities: false,
        }))
    }

    /// Answers the calls about identity.
    pub fn identity(&mut self, tid: i32, registers: &Registers) -> Result<Option<Next>, Errno> {
        if self.fake.is_none() {
            return Ok(None);
        }
        let number = registers.orig_rax as i64;
        if number == libc::SYS_fstat {
            return Ok(Some(Next::Change(AtEnd::Owner { address: registers.rsi, extended: false })));
        }
        if !CALLS.contains(&(number as usize)) {
            return Ok(None);
        }
        let (first, second, third) = (registers.rdi as u32, registers.rsi as u32, registers.rdx as u32);
        let addresses = [registers.rdi, registers.rsi, registers.rdx];
        let credentials = self.credentials(tid)?;
        let privileged = credentials.is_privileged();
        let Credentials { uid, gid, groups, keeps_capabilities } = credentials;
        let result = match number {
            libc::SYS_getuid => uid[0],
            libc::SYS_geteuid => uid[1],
            libc::SYS_getgid => gid[0],
            libc::SYS_getegid => gid[1],
            libc::SYS_getresuid | libc::SYS_getresgid => {
                let ids = if number == libc::SYS_getresuid { *uid } else { *gid };
                for (address, id) in addresses.into_iter().zip(ids) {
                    ptrace::write_memory(tid, address, &id.to_le_bytes())?;
                }
                0
            }
            libc::SYS_getgroups => match groups {
                None => return Ok(Some(Next::Pass)),
                Some(groups) if first == 0 => groups.len() as u32,
                Some(groups) if (first as usize) < groups.len() => return Err(Errno::INVAL),
                Some(groups) => {
                    let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_le_bytes()).collect();
                    ptrace::write_memory(tid, registers.rsi, &bytes)?;
                    groups.len() as u32
                }
            },
            libc::SYS_setgroups if !privileged => return Err(Errno::PERM),
            libc::SYS_setgroups if registers.rdi > MAX_GROUPS => return Err(Errno::INVAL),
            libc::SYS_setgroups => {
                let mut bytes = vec![0; registers.rdi as usize * 4];
                if !bytes.is_empty() && ptrace::read_memory(tid, registers.rsi, &mut bytes)? < bytes.len() {
                    return Err(Errno::FAULT);
                }
                let word = |word: &[u8]| u32::from_le_bytes(word.try_into().expect("four bytes"));
                *groups = Some(bytes.chunks_exact(4).map(word).collect());
                0
            }
            libc::SYS_setuid => set_one(uid, first, privileged).map(|()| 0)?,
            libc::SYS_setgid => set_one(gid, first, privileged).map(|()| 0)?,
            libc::SYS_setreuid => set_two(uid, first, second, privileged).map(|()| 0)?,
            libc::SYS_setregid => set_two(gid, first, second, privileged).map(|()| 0)?,
            libc::SYS_setresuid => set(uid, [first, second, third], privileged).map(|()| 0)?,
            libc::SYS_setresgid => set(gid, [first, second, third], privileged).map(|()| 0)?,
            // They answer the old ID, which follows the effective one.
            libc::SYS_setfsuid => uid[1],
            libc::SYS_setfsgid => gid[1],
            libc::SYS_prctl => {
                // The kernel's own flag is set too, for PR_GET_KEEPCAPS.
                if first as i32 == libc::PR_SET_KEEPCAPS && privileged {
                    *keeps_capabilities = registers.rsi == 1;
                }
                return Ok(Some(Next::Pass));
            }
            _ => 0,
        };
        Ok(Some(Next::Answer(result.into())))
    }

    /// chown, and mknod of a device, as fake root: they answer success and do not happen.
    pub fn fake_file(&mut self, tid: i32, call: &Call, registers: &Registers) -> Result<Option<u64>, Errno> {
        if self.fake.is_none() {
            return Ok(None);
        }
        let (uid, gid) = match i64::from(call.number) {
            libc::SYS_chown | libc::SYS_lchown => (registers.rsi, registers.rdx),
            libc::SYS_fchownat => (registers.rdx, registers.r10),
            number @ (libc::SYS_mknod | libc::SYS_mknodat) => {
                let mode = if number == libc::SYS_mknod { registers.rsi } else { registers.rdx } as u32;
                let is_device = matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
                return Ok((is_device && self.credentials(tid)?.is_privileged()).then_some(0));
            }
            _ => return Ok(None),
        };
        let stat = as_c_str(&mut self.place.host, |path| rustix::fs::lstat(path))?;
        self.remember_owner(tid, &stat, uid, gid)?;
        Ok(Some(0))
    }

    /// What chown said of a file; `(uid_t) -1` leaves the one that is.
    pub fn remember_owner(&mut self, tid: i32, stat: &Stat, uid: u64, gid: u64) -> Result<(), Errno> {
        let (uid, gid) = (uid as u32, gid as u32);
        let file = (stat.st_dev, stat.st_ino);
        let old = self.owners.get(&file).copied().unwrap_or_else(|| self.shown_owner((stat.st_uid, stat.st_gid)));
        let new = |new: u32, old: u32| if new == UNCHANGED { old } else { new };
        let new = (new(uid, old.0), new(gid, old.1));
        if new != old && !self.credentials(tid)?.is_privileged() {
            return Err(Errno::PERM);
        }
        self.owners.insert(file, new);
        Ok(())
    }

    /// What follows a call that is about to change what is at `self.place`. A file's last name takes along what chown
    /// said: the file system gives its inode number to the next one.
    pub fn at_change(&mut self, tid: i32, call: &Call, before: Registers) -> AtEnd {
        let number = i64::from(call.number);
        let exchanges = number == libc::SYS_renameat2 && before.r8 & u64::from(libc::RENAME_EXCHANGE) != 0;
        match call.effect {
            Effect::Create => return self.at_creation(tid, before),
            Effect::Remove | Effect::Rename if !exchanges && !self.owners.is_empty() => {}
            _ => return AtEnd::Restore { before: Box::new(before), _held: None },
        }
        match as_c_str(&mut self.place.host, |path| rustix::fs::lstat(path)) {
            Ok(stat) if stat.st_nlink == 1 || stat.st_mode & libc::S_IFMT == libc::S_IFDIR => {
                AtEnd::Removed { before: Box::new(before), file: (stat.st_dev, stat.st_ino) }
            }
            _ => AtEnd::Restore { before: Box::new(before), _held: None },
        }
    }

    /// What follows a call that may make `self.place`: files that belong to another than who began the run are remembered.
    pub fn at_creation(&mut self, tid: i32, before: Registers) -> AtEnd {
        let before = Box::new(before);
        if self.maker(tid).is_some()
            && as_c_str(&mut self.place.host, |path| rustix::fs::lstat(path)).err() == Some(Errno::NOENT)
        {
            return AtEnd::Created { before, host: self.place.host.clone() };
        }
        AtEnd::Restore { before, _held: None }
    }

    /// Whose files this thread makes, if that is not who began the run.
    fn maker(&self, tid: i32) -> Option<(u32, u32)> {
        let fake = self.fake?;
        let credentials = self.guests.credentials.get(&self.guests.threads.get(&tid)?.pid)?;
        let ids = (credentials.uid[1], credentials.gid[1]);
        (ids != (fake.uid, fake.gid)).then_some(ids)
    }

    /// The file was made, if it is there.
    pub fn remember_maker(&mut self, tid: i32, mut host: Vec<u8>) {
        let stat = as_c_str(&mut host, |path| rustix::fs::lstat(path));
        if let (Some(ids), Ok(stat)) = (self.maker(tid), stat) {
            self.owners.insert((stat.st_dev, stat.st_ino), ids);
        }
    }

    fn shown_owner(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        match self.fake {
            None => (uid, gid),
            Some(fake) => {
                (if uid == fake.real_uid { fake.uid } else { uid }, if gid == fake.real_gid { fake.gid } else { gid })
            }
        }
    }

    /// Puts the owner that the guest is to see into the bytes of `struct stat` or `struct statx`.
    pub fn correct_owner_in(&self, answer: &mut [u8], extended: bool) {
        if self.fake.is_none() {
            return;
        }
        let word = |answer: &[u8], at: usize| u32::from_le_bytes(answer[at..at + 4].try_into().expect("four bytes"));
        let long = |answer: &[u8], at: usize| u64::from_le_bytes(answer[at..at + 8].try_into().expect("eight bytes"));
        let (device, inode, at) = match extended {
            true => (rustix::fs::makedev(word(answer, 136), word(answer, 140)), long(answer, 32), 20),
            false => (long(answer, 0), long(answer, 8), 28),
        };
        let real = (word(answer, at), word(answer, at + 4));
        let (uid, gid) = self.owners.get(&(device, inode)).copied().unwrap_or_else(|| self.shown_owner(real));
        answer[at..at + 4].copy_from_slice(&uid.to_le_bytes());
        answer[at + 4..at + 8].copy_from_slice(&gid.to_le_bytes());
    }

    /// The same in the guest's memory, after the call.
    pub fn correct_owner(&mut self, tid: i32, address: u64, extended: bool) -> Result<(), Errno> {
        if ptrace::registers(tid)?.rax != 0 {
            return Ok(());
        }
        let mut answer = [0u8; 256];
        let length = if extended { 256 } else { 144 };
        // Another thread may have unmapped what the kernel has just written to.
        if ptrace::read_memory(tid, address, &mut answer[..length]) == Ok(length) {
            self.correct_owner_in(&mut answer, extended);
            let _ = ptrace::write_memory(tid, address, &answer[..length]);
        }
        Ok(())
    }
}
