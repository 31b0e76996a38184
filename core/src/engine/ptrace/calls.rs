//! Who handles each call that stops: the rules of [`crate::engine::path::table`] at work.

use rustix::io::Errno;

use super::paths::argument;
use super::pending::Next;
use super::state::Tracer;
use crate::engine::path::table::{self, Action, Emulation};
use crate::sys::ptrace::Registers;

impl Tracer {
    /// Decides about the call that `tid` begins.
    pub fn call(&mut self, tid: i32, registers: &mut Registers) -> Result<Next, Errno> {
        let number = registers.orig_rax;
        if let Some(next) = self.identity(tid, registers)? {
            return Ok(next);
        }
        let Some(call) = table::find(number) else { return Err(Errno::NOSYS) };
        if !table::has_known_flags(number, |index| argument(registers, index)) {
            return Err(Errno::INVAL);
        }
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
                Emulation::Chroot => self.chroot(tid, call, registers),
                Emulation::Descriptor => self.descriptor(tid, call, registers),
                Emulation::Attribute => self.attribute(tid, registers),
            },
        }
    }
}
