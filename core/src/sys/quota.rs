//! quotactl(2): what a user or a group may still put on a file system. Who asks needs no privilege for himself and his groups.
//!
//! A project's quota is told to privileged callers alone, but ext4 and XFS answer statvfs(2) by it in a directory of the project. NFS,
//! Lustre and GPFS have quotas that this call knows nothing of.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{major, minor};

/// Whose quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A user's, by number.
    User(u32),
    /// A group's.
    Group(u32),
}

/// Of bytes or of files: what may be there and what is. 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Never to be exceeded.
    pub hard: u64,
    /// Not to be exceeded for long.
    pub soft: u64,
    /// What is there.
    pub used: u64,
    /// When `soft` becomes a hard one, in seconds since 1970; 0: it is not exceeded.
    pub grace_ends: u64,
}

impl Limit {
    /// How much more there may be, `now` in seconds since 1970, and of how much; `None` without a limit.
    pub fn left(&self, now: u64) -> Option<(u64, u64)> {
        let is_over = self.soft != 0 && self.used > self.soft && self.grace_ends != 0 && self.grace_ends <= now;
        match (is_over, self.hard) {
            (true, _) => Some((0, self.soft)),
            (false, 0) => None,
            (false, hard) => Some((hard.saturating_sub(self.used), hard)),
        }
    }
}

/// A quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// In bytes.
    pub bytes: Limit,
    /// In files of all types.
    pub files: Limit,
}

/// The unit of the limits of bytes (QIF_DQBLKSIZE of linux/quota.h).
const BLOCK: u64 = 1024;

/// `whose` quota on the file system that `fd` is open on; `None` where there is none, or none is told.
pub fn quota(fd: impl AsFd, whose: Whose) -> Option<Quota> {
    let fd = fd.as_fd();
    let (kind, id) = match whose {
        Whose::User(id) => (libc::USRQUOTA, id),
        Whose::Group(id) => (libc::GRPQUOTA, id),
    };
    let command = libc::QCMD(libc::Q_GETQUOTA, kind);
    let mut block = MaybeUninit::<libc::dqblk>::zeroed();
    let place = block.as_mut_ptr().cast::<c_void>();
    // Since Linux 5.14.
    // SAFETY: for this command the kernel writes one dqblk to `place`, which is as large.
    let by_fd = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_raw_fd(), command, id, place) };
    let is_told = by_fd == 0 || {
        let is_unknown = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS);
        is_unknown && by_device(fd, command, id, place) == Some(0)
    };
    // SAFETY: of zeroes, which the kernel wrote over: a structure of numbers.
    is_told.then(|| of_block(unsafe { block.assume_init_ref() }))
}

/// The same by the device that is mounted there.
fn by_device(fd: BorrowedFd<'_>, command: c_int, id: u32, place: *mut c_void) -> Option<c_long> {
    let device = rustix::fs::fstat(fd).ok()?.st_dev;
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let source = source_of(&mounts, &format!("{}:{}", major(device), minor(device)))?;
    let source = CString::new(source).ok()?;
    // SAFETY: as above; the device is a string, which the kernel copies.
    Some(unsafe { libc::syscall(libc::SYS_quotactl, command, source.as_ptr(), id, place) })
}

/// The device of the mount whose number is `device`, as proc_pid_mountinfo(5) tells it.
fn source_of(mounts: &[u8], device: &str) -> Option<Vec<u8>> {
    let of_line = |line: &[u8]| {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let end = words.iter().position(|word| *word == b"-")?;
        (words.get(2) == Some(&device.as_bytes())).then(|| words.get(end + 2).map(|source| unescaped(source)))?
    };
    mounts.split(|byte| *byte == b'\n').find_map(of_line)
}

/// `\040` is a blank.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let number = after.get(..3).and_then(|octal| u8::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok());
        match number.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn of_block(block: &libc::dqblk) -> Quota {
    Quota {
        bytes: Limit {
            hard: block.dqb_bhardlimit.saturating_mul(BLOCK),
            soft: block.dqb_bsoftlimit.saturating_mul(BLOCK),
            used: block.dqb_curspace,
            grace_ends: block.dqb_btime,
        },
        files: Limit {
            hard: block.dqb_ihardlimit,
            soft: block.dqb_isoftlimit,
            used: block.dqb_curinodes,
            grace_ends: block.dqb_itime,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_limit() {
        let (hard, soft, used) = (1000, 800, 900);
        for (limit, expected) in [
            (Limit::default(), None),
            (Limit { used, ..Limit::default() }, None),
            (Limit { hard, used, ..Limit::default() }, Some((100, 1000))),
            (Limit { hard, used: 2000, ..Limit::default() }, Some((0, 1000))),
            // Beyond the soft limit until its time is over.
            (Limit { hard, soft, used, grace_ends: 51 }, Some((100, 1000))),
            (Limit { hard, soft, used, grace_ends: 50 }, Some((0, 800))),
            (Limit { hard: 0, soft, used, grace_ends: 50 }, Some((0, 800))),
            (Limit { hard: 0, soft, used, grace_ends: 51 }, None),
            (Limit { hard: 0, soft, used: 700, grace_ends: 0 }, None),
            (Limit { hard, soft, used: 800, grace_ends: 0 }, Some((200, 1000))),
        ] {
            assert_eq!(limit.left(50), expected, "{limit:?}");
        }
    }

    #[test]
    fn limits_of_bytes_are_in_blocks() {
        // SAFETY: a structure of numbers.
        let mut block: libc::dqblk = unsafe { std::mem::zeroed() };
        (block.dqb_bhardlimit, block.dqb_bsoftlimit, block.dqb_curspace, block.dqb_btime) = (4, 3, 2, 1);
        (block.dqb_ihardlimit, block.dqb_isoftlimit, block.dqb_curinodes, block.dqb_itime) = (8, 7, 6, 5);
        let bytes = Limit { hard: 4096, soft: 3072, used: 2, grace_ends: 1 };
        assert_eq!(of_block(&block), Quota { bytes, files: Limit { hard: 8, soft: 7, used: 6, grace_ends: 5 } });
    }

    #[test]
    fn a_device_is_found_by_its_number() {
        let mounts = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                       23 22 8:17 / /home rw,nosuid shared:3 master:1 - xfs /dev/mapper/a\\040b rw\n";
        assert_eq!(source_of(mounts, "8:17"), Some(b"/dev/mapper/a b".to_vec()));
        assert_eq!(source_of(mounts, "8:1"), Some(b"/dev/sda1".to_vec()));
        assert_eq!(source_of(mounts, "8:2"), None);
    }

    #[test]
    fn a_file_system_without_quotas_tells_none() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!((quota(&proc, Whose::User(0)), quota(&proc, Whose::Group(0))), (None, None));
    }
}
