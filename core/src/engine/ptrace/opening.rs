//! open and its kin: the guest opens host paths itself, by the rules of openat2(2) where it asks for some.

use rustix::io::Errno;

use super::guest::SECOND_PATH;
use super::paths::{argument, as_c_str, look};
use super::pending::{AtEnd, Next};
use super::state::Tracer;
use crate::engine::path::table::Call;
use crate::engine::path::{Confined, LastLink, Rules};
use crate::sys::ptrace::{self, Registers};

/// `sizeof(struct open_how)` as openat2(2) began with; more that is not zero is more than we know.
const HOW_BYTES: usize = 24;
/// Of its flags, the one that says nothing about the path.
const RESOLVE_CACHED: u64 = 0x20;

const O_CREAT: u64 = libc::O_CREAT as u64;
const O_TMPFILE: u64 = libc::O_TMPFILE as u64;

impl Tracer {
    pub fn open(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let Some(path) = call.paths[0] else { return Ok(Next::Pass) };
        let before = *registers;
        let mut how = None;
        let flags = match i64::from(call.number) {
            libc::SYS_open => before.rsi,
            libc::SYS_creat => (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64,
            libc::SYS_openat2 => {
                let mut bytes = [0u8; HOW_BYTES];
                if before.r10 < HOW_BYTES as u64 || ptrace::read_memory(tid, before.rdx, &mut bytes)? < HOW_BYTES {
                    return Ok(Next::Pass);
                }
                let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
                how = Some((bytes, word(16)));
                word(0)
            }
            _ => before.rdx,
        };
        self.read_path(tid, argument(&before, path.index))?;
        let writes = flags & libc::O_PATH as u64 == 0
            && (flags & libc::O_ACCMODE as u64 != 0
                || flags & (O_CREAT | libc::O_TRUNC as u64) != 0
                || flags & O_TMPFILE == O_TMPFILE);
        let directory = self.directory_of(&before, &path);
        let exclusive = flags & O_CREAT != 0 && flags & libc::O_EXCL as u64 != 0;
        let last = match exclusive || flags & libc::O_NOFOLLOW as u64 != 0 {
            true => LastLink::Keep,
            false => LastLink::Follow,
        };
        let rules = how.map(|(_, resolve)| rules(resolve)).unwrap_or_default();
        if self.text.is_empty() || !writes && rules == Rules::default() && self.may_stay(last) {
            return Ok(Next::Pass);
        }
        if rules == Rules::default() {
            self.resolve(tid, directory, last)?;
        } else {
            let base = match self.text[0] {
                b'/' if rules.confined != Confined::InRoot => Vec::new(),
                _ => self.base(tid, directory)?,
            };
            self.resolver.resolve_by_rules(&base, &self.text, last, rules, &self.guests, &mut self.place)?;
        }
        if writes && self.place.mount.read_only {
            self.refuse_writing(flags)?;
        }
        let writes_content = flags & (libc::O_ACCMODE | libc::O_TRUNC) as u64 != 0 && flags & O_TMPFILE != O_TMPFILE;
        if writes && writes_content && !exclusive && self.guests.is_running(&self.place.guest) {
            return Err(Errno::TXTBSY);
        }
        self.pass_place(tid, registers, path.index, false)?;
        if let Some((mut bytes, resolve)) = how {
            // The rules were followed in the guest; the host's path is another, and holds no link.
            let address = self.slot_address(tid, registers)? + SECOND_PATH;
            bytes[16..].copy_from_slice(&(resolve & RESOLVE_CACHED).to_le_bytes());
            ptrace::write_memory(tid, address, &bytes)?;
            (registers.rdx, registers.r10) = (address, HOW_BYTES as u64);
        }
        Ok(Next::Change(match flags & O_CREAT {
            0 => AtEnd::Restore { before: Box::new(before), _held: None },
            _ => self.at_creation(tid, before),
        }))
    }

    /// Refuses to open a file of a read-only mount for writing, where the kernel would not refuse it otherwise.
    fn refuse_writing(&mut self, flags: u64) -> Result<(), Errno> {
        let kind = match look(&mut self.place.host) {
            Ok(found) => found,
            Err(Errno::NOENT) if flags & O_CREAT != 0 => return Err(Errno::ROFS),
            Err(error) => return Err(error),
        };
        let changes = flags & libc::O_ACCMODE as u64 != 0 || flags & libc::O_TRUNC as u64 != 0;
        let exclusive = flags & O_CREAT != 0 && flags & libc::O_EXCL as u64 != 0;
        match kind {
            libc::S_IFDIR if flags & O_TMPFILE == O_TMPFILE => Err(Errno::ROFS),
            _ if flags & O_TMPFILE == O_TMPFILE => Ok(()),
            libc::S_IFREG if changes && !exclusive => {
                as_c_str(&mut self.place.host, |path| ptrace::access(path, libc::W_OK, libc::AT_EACCESS))?;
                Err(Errno::ROFS)
            }
            _ => Ok(()),
        }
    }
}

/// What `struct open_how` asks for.
fn rules(resolve: u64) -> Rules {
    let has = |flag: u64| resolve & flag != 0;
    Rules {
        no_links: has(libc::RESOLVE_NO_SYMLINKS),
        no_magic: has(libc::RESOLVE_NO_MAGICLINKS),
        no_crossing: has(libc::RESOLVE_NO_XDEV),
        confined: match () {
            () if has(libc::RESOLVE_IN_ROOT) => Confined::InRoot,
            () if has(libc::RESOLVE_BENEATH) => Confined::Beneath,
            () => Confined::Nowhere,
        },
    }
}
