//! Who handles each call that stops: the rules of [`crate::engine::path::table`] at work.

use rustix::io::Errno;

use super::paths::argument;
use super::pending::Next;
use super::state::Tracer;
use crate::engine::path::table::{self, Action, Call, Emulation};
use crate::sys::ptrace::Registers;

impl Tracer {
    /// Decides about the call that `tid` begins.
    pub fn call(&mut self, tid: i32, registers: &mut Registers) -> Result<Next, Errno> {
        let number = registers.orig_rax;
        if let Some(next) = self.identity(tid, registers)? {
            return Ok(next);
        }
        let Some(call) = table::find(number) else { return Err(Errno::NOSYS) };
        check_arguments(call, registers)?;
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
                Emulation::SocketName => self.socket_name(tid, registers),
                Emulation::Affinity => {
                    self.company.looked_at();
                    Ok(Next::Pass)
                }
                Emulation::Chroot => self.chroot(tid, call, registers),
                Emulation::Descriptor => self.descriptor(tid, call, registers),
                Emulation::Attribute => self.attribute(tid, registers),
            },
        }
    }
}

/// Refuses what the kernel refuses before it looks at a path.
fn check_arguments(call: &Call, registers: &Registers) -> Result<(), Errno> {
    let is_valid = match i64::from(call.number) {
        libc::SYS_truncate => registers.rsi as i64 >= 0,
        libc::SYS_readlink => registers.rdx as i32 > 0,
        libc::SYS_readlinkat => registers.r10 as i32 > 0,
        libc::SYS_mknod => return check_mode(registers.rsi as u32),
        libc::SYS_mknodat => return check_mode(registers.rdx as u32),
        libc::SYS_renameat2 => {
            let has = |flags: u32| registers.r8 as u32 & flags != 0;
            !has(libc::RENAME_EXCHANGE) || !has(libc::RENAME_NOREPLACE | libc::RENAME_WHITEOUT)
        }
        _ => true,
    };
    let has_known_flags = table::has_known_flags(registers.orig_rax, |index| argument(registers, index));
    if is_valid && has_known_flags { Ok(()) } else { Err(Errno::INVAL) }
}

/// What mknod makes.
fn check_mode(mode: u32) -> Result<(), Errno> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG | libc::S_IFCHR | libc::S_IFBLK | libc::S_IFIFO | libc::S_IFSOCK => Ok(()),
        libc::S_IFDIR => Err(Errno::PERM),
        _ => Err(Errno::INVAL),
    }
}
