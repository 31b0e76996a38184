//! Executing: what the kernel is given, and how the program comes to where its loader finds it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::guest::{NAME_OFFSET, SPACE_BYTES, Slot, Space};
use super::image::{self, Elf, Image};
use super::paths::look;
use super::pending::{AtEnd, Next, Pending, restore};
use super::state::Tracer;
use crate::engine::path::LastLink;
use crate::sys::ptrace::{self, Registers, Resume, Stop};

/// As many scripts as the kernel lets be each other's interpreters.
const MAX_SCRIPTS: usize = 5;
/// What is read of a program: its headers.
const HEAD_BYTES: usize = 4096;
const PAGE: u64 = 4096;
/// `syscall`.
const SYSCALL_CODE: u64 = 0x050f;
/// TASK_COMM_LEN, with its NUL.
const COMM_BYTES: usize = 16;

const AT_NULL: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_PHNUM: u64 = 5;
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
const AT_EXECFN: u64 = 31;

/// The argument list of a script: what comes before the caller's second argument.
type Prefix = Vec<Vec<u8>>;

impl Tracer {
    /// execve and execveat.
    pub fn exec(&mut self, tid: i32, registers: &mut Registers) -> Result<Next, Errno> {
        let before = *registers;
        let at = before.orig_rax as i64 == libc::SYS_execveat;
        let (directory, path, argv, envp, flags) = match at {
            true => (before.rdi as i32, before.rsi, before.rdx, before.r10, before.r8 as i32),
            false => (libc::AT_FDCWD, before.rdi, before.rsi, before.rdx, 0),
        };
        self.read_path(tid, path)?;
        let name = match (at, self.text.first()) {
            (false, _) | (true, Some(b'/')) => self.text.clone(),
            _ if directory == libc::AT_FDCWD => self.text.clone(),
            (true, None) => format!("/dev/fd/{directory}").into_bytes(),
            (true, Some(_)) => [format!("/dev/fd/{directory}/").as_bytes(), &self.text].concat(),
        };
        if at && self.text.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            let link = format!("/proc/{tid}/fd/{directory}");
            self.text = link.clone().into_bytes();
            // By its place in the guest if it has one; else by the descriptor.
            let found = self.base(tid, directory);
            match found {
                Ok(guest) => self.text = guest,
                Err(Errno::BADF) => return Err(Errno::BADF),
                Err(_) => {
                    self.place.guest = link.clone().into_bytes();
                    self.place.host = link.into_bytes();
                    return self.exec_place(tid, registers, (before, name), (argv, envp));
                }
            }
        }
        let last = if flags & libc::AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
        if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 && !self.text.is_empty() {
            // AT_EXECVE_CHECK among them: the program would be executed.
            return Err(Errno::INVAL);
        }
        self.resolve(tid, directory, last)?;
        if last == LastLink::Keep && look(&mut self.place.host) == Ok(libc::S_IFLNK) {
            return Err(Errno::LOOP);
        }
        self.exec_place(tid, registers, (before, name), (argv, envp))
    }

    /// Executes what is at `self.place`.
    fn exec_place(
        &mut self,
        tid: i32,
        registers: &mut Registers,
        (before, name): (Registers, Vec<u8>),
        (argv, envp): (u64, u64),
    ) -> Result<Next, Errno> {
        let mut prefix: Prefix = Vec::new();
        let mut script = name.clone();
        let mut depth = 0;
        let (file, elf) = loop {
            let (file, image) = read_program(&self.place.host)?;
            match image {
                Image::Elf(elf) => break (file, elf),
                Image::Script { interpreter, argument } => {
                    depth += 1;
                    if depth > MAX_SCRIPTS {
                        return Err(Errno::LOOP);
                    }
                    // The caller's argv[0], or what the last script put in its place, gives way.
                    let rest = prefix.split_off(prefix.len().min(1));
                    prefix = [interpreter.clone()].into_iter().chain(argument).chain([script]).chain(rest).collect();
                    self.text = interpreter.clone();
                    script = interpreter;
                    self.resolve(tid, libc::AT_FDCWD, LastLink::Follow)?;
                }
            }
        };
        let guest = self.place.guest.clone();
        let (program, executed) = match elf.interpreter {
            None => (None, elf),
            Some((offset, length)) => {
                let host = self.place.host.clone();
                self.text = read_interpreter(&file, offset, length)?;
                self.resolve(tid, libc::AT_FDCWD, LastLink::Follow)?;
                match read_program(&self.place.host)?.1 {
                    Image::Elf(loader) if loader.is_movable && loader.interpreter.is_none() => {
                        (Some((host, elf)), loader)
                    }
                    _ => return Err(Errno::LIBBAD),
                }
            }
        };
        let address = self.slot_address(tid, registers)?;
        let path = [&self.place.host[..], b"\0"].concat();
        ptrace::write_memory(tid, address, &path)?;
        let list = if prefix.is_empty() { argv } else { self.write_list(tid, registers, &prefix, argv)? };
        registers.orig_rax = libc::SYS_execve as u64;
        registers.rax = registers.orig_rax;
        (registers.rdi, registers.rsi, registers.rdx) = (address, list, envp);
        Ok(Next::Change(AtEnd::Exec(Box::new(Pending { before, guest, name, program, executed }))))
    }

    /// Writes the argument list of a script and returns its address.
    fn write_list(&mut self, tid: i32, registers: &Registers, prefix: &[Vec<u8>], argv: u64) -> Result<u64, Errno> {
        let mut rest = Vec::new();
        if argv != 0 {
            read_words(tid, argv, |word| {
                rest.push(word);
                word != 0
            })?;
        }
        // The caller's argv[0] is replaced; the list may be empty even of it.
        let rest = rest.get(1..).unwrap_or(&[0]);
        let text: usize = prefix.iter().map(|argument| argument.len() + 1).sum();
        let bytes = (prefix.len() + rest.len().max(1)) * 8 + text;
        let at = self.tracee(tid)?.slot.list_address(registers.rsp, bytes as u64).ok_or(Errno::TOOBIG)?;
        let mut list = Vec::with_capacity(bytes);
        let mut string = at + (bytes - text) as u64;
        for argument in prefix {
            list.extend(string.to_le_bytes());
            string += argument.len() as u64 + 1;
        }
        let rest = if rest.is_empty() { &[0][..] } else { rest };
        rest.iter().for_each(|word| list.extend(word.to_le_bytes()));
        for argument in prefix {
            list.extend(argument);
            list.push(0);
        }
        ptrace::write_memory(tid, at, &list)?;
        Ok(at)
    }

    /// The exec is done: gives the new program its memory of ours, its own mappings and its name.
    pub fn end_exec(&mut self, tid: i32, pending: Pending) -> Result<(), Errno> {
        let registers = ptrace::registers(tid)?;
        if registers.rax != 0 {
            return restore(tid, &pending.before);
        }
        let pid = self.tracee(tid)?.pid;
        self.guests.programs.insert(pid, pending.guest.clone());
        if let Some(credentials) = self.guests.credentials.get_mut(&pid) {
            credentials.keeps_capabilities = false;
        }
        let mask = ptrace::swap_signal_mask(tid, u64::MAX)?;
        let code = ptrace::peek(tid, registers.rip)?;
        ptrace::poke(tid, registers.rip, code & !0xffff | SYSCALL_CODE)?;
        let loaded = self.load(tid, &registers, &pending);
        if loaded == Err(Errno::SRCH) {
            return loaded;
        }
        ptrace::poke(tid, registers.rip, code)?;
        ptrace::set_registers(tid, &registers)?;
        // A SIGCONT that waits came after the SIGSTOP, and took it back.
        if std::mem::take(&mut self.tracee(tid)?.was_stopped) && !ptrace::is_pending(tid, libc::SIGCONT) {
            ptrace::signal_process(pid, libc::SIGSTOP)?;
        }
        ptrace::swap_signal_mask(tid, mask)?;
        // The old program is gone: as in the kernel, there is nobody to tell of a failure.
        loaded.or_else(|_| ptrace::signal_process(pid, libc::SIGKILL))
    }

    fn load(&mut self, tid: i32, registers: &Registers, pending: &Pending) -> Result<(), Errno> {
        let anywhere = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
        let space = self.inject(tid, registers, libc::SYS_mmap, [0, SPACE_BYTES, 3, anywhere, u64::MAX, 0]);
        // Where memory is limited, stacks serve.
        let space = Space::new(space.unwrap_or(0));
        let (base, slot) = (space.base(), Slot::take(&space));
        let address = slot.address(registers.rsp);
        self.tracee(tid)?.slot = slot;
        if base != 0 {
            let comm_start = pending.name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            let mut comm = pending.name[comm_start..].to_vec();
            comm.truncate(COMM_BYTES - 1);
            comm.push(0);
            ptrace::write_memory(tid, base, &comm)?;
            self.inject(tid, registers, libc::SYS_prctl, [libc::PR_SET_NAME as u64, base, 0, 0, 0, 0])?;
        }
        let mut changes: Vec<(u64, u64)> = Vec::new();
        if let Some((host, elf)) = &pending.program {
            ptrace::write_memory(tid, address, &[host, &b"\0"[..]].concat())?;
            let fd = self.inject(tid, registers, libc::SYS_open, [address, libc::O_RDONLY as u64, 0, 0, 0, 0])?;
            let bias = self.map(tid, registers, elf, fd)?;
            self.inject(tid, registers, libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
            changes = vec![
                (AT_PHDR, bias.wrapping_add(elf.headers_address)),
                (AT_PHNUM, elf.headers_count),
                (AT_ENTRY, bias.wrapping_add(elf.entry)),
                (AT_BASE, registers.rip.wrapping_sub(pending.executed.entry)),
            ];
        }
        if base != 0 {
            let name = base + NAME_OFFSET;
            ptrace::write_memory(tid, name, &[&pending.name[..], b"\0"].concat())?;
            changes.push((AT_EXECFN, name));
        }
        correct_vector(tid, registers.rsp, &changes)
    }

    /// Maps the program as the kernel would; returns how far it is from its own addresses.
    fn map(&mut self, tid: i32, registers: &Registers, elf: &Elf, fd: u64) -> Result<u64, Errno> {
        let start = elf.segments.iter().map(image::Segment::start).min().ok_or(Errno::NOEXEC)?;
        let end = elf.segments.iter().map(image::Segment::end).max().ok_or(Errno::NOEXEC)?;
        let nothing = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
        let bias = match elf.is_movable {
            true => self
                .inject(tid, registers, libc::SYS_mmap, [0, end - start, 0, nothing, u64::MAX, 0])?
                .wrapping_sub(start),
            false => 0,
        };
        let fixed = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
        for segment in &elf.segments {
            let (start, end) = (bias.wrapping_add(segment.start()), bias.wrapping_add(segment.end()));
            let within = segment.address % PAGE;
            let file_end = bias.wrapping_add(segment.address + segment.file_bytes);
            let mut mapped = start;
            if segment.file_bytes > 0 {
                let length = segment.file_bytes + within;
                let arguments = [start, length, segment.protection, fixed, fd, segment.offset - within];
                self.inject(tid, registers, libc::SYS_mmap, arguments)?;
                mapped = (file_end + PAGE - 1) & !(PAGE - 1);
                let is_writable = segment.protection & libc::PROT_WRITE as u64 != 0;
                if segment.memory_bytes > segment.file_bytes && is_writable && mapped > file_end {
                    ptrace::write_memory(tid, file_end, &[0; PAGE as usize][..(mapped - file_end) as usize])?;
                }
            }
            if end > mapped {
                let flags = fixed | libc::MAP_ANONYMOUS as u64;
                let arguments = [mapped, end - mapped, segment.protection, flags, u64::MAX, 0];
                self.inject(tid, registers, libc::SYS_mmap, arguments)?;
            }
        }
        Ok(bias)
    }

    /// Makes the thread do a system call where it is to begin, which holds a `syscall` meanwhile.
    ///
    /// # Errors
    /// Those of the call; ESRCH if it was killed.
    fn inject(&mut self, tid: i32, at: &Registers, number: i64, arguments: [u64; 6]) -> Result<u64, Errno> {
        let mut registers = *at;
        registers.rax = number as u64;
        registers.orig_rax = u64::MAX;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        ptrace::set_registers(tid, &registers)?;
        loop {
            ptrace::resume(tid, Resume::Step, 0)?;
            match ptrace::wait(Some(tid))? {
                Some((_, Stop::Signal(libc::SIGTRAP))) => break,
                Some((_, stop @ (Stop::Exited(_) | Stop::Killed(_)))) => {
                    self.queued.push_back((tid, stop));
                    return Err(Errno::SRCH);
                }
                Some((_, Stop::Signal(libc::SIGSTOP))) => self.tracee(tid)?.was_stopped = true,
                // The filter asks about calls of ours as well.
                Some(_) => {}
                None => return Err(Errno::SRCH),
            }
        }
        let result = ptrace::registers(tid)?.rax;
        match result as i64 {
            error @ -4095..=-1 => Err(Errno::from_raw_os_error(-error as i32)),
            _ => Ok(result),
        }
    }
}

/// Opens a program that may be executed, and reads what it is.
fn read_program(host: &[u8]) -> Result<(File, Image), Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let path = OsStr::from_bytes(host);
    if !std::fs::metadata(path).map_err(errno)?.is_file() {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::empty())?;
    let file = File::open(path).map_err(errno)?;
    let mut head = [0u8; HEAD_BYTES];
    let mut length = 0;
    while length < HEAD_BYTES {
        match file.read_at(&mut head[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) => return Err(errno(error)),
        }
    }
    let image = image::parse(&head[..length])?;
    Ok((file, image))
}

fn read_interpreter(file: &File, offset: u64, length: u64) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(length).ok().filter(|length| (2..=4096).contains(length)).ok_or(Errno::NOEXEC)?;
    let mut name = vec![0; length];
    file.read_exact_at(&mut name, offset).map_err(|_| Errno::NOEXEC)?;
    match name.pop() {
        Some(0) => Ok(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
        _ => Err(Errno::NOEXEC),
    }
}

/// Calls `each` with the words of the guest from `address` on, as long as it wants more; returns where it ended.
fn read_words(tid: i32, address: u64, mut each: impl FnMut(u64) -> bool) -> Result<u64, Errno> {
    let mut at = address;
    let mut buffer = [0u8; 4096];
    loop {
        let count = ptrace::read_memory(tid, at, &mut buffer)?;
        let words = buffer[..count].chunks_exact(8);
        if words.len() == 0 {
            return Err(Errno::FAULT);
        }
        for word in words {
            at += 8;
            if !each(u64::from_le_bytes(word.try_into().expect("eight bytes"))) {
                return Ok(at);
            }
        }
    }
}

/// Changes values of the auxiliary vector, which lies behind argv and the environment on a fresh stack.
fn correct_vector(tid: i32, stack: u64, changes: &[(u64, u64)]) -> Result<(), Errno> {
    let mut lists = 0;
    let mut is_count = true;
    let vector = read_words(tid, stack, |word| {
        lists += usize::from(word == 0 && !is_count);
        is_count = false;
        lists < 2
    })?;
    let mut words = Vec::new();
    read_words(tid, vector, |word| {
        words.push(word);
        // The key is at an even place.
        !(words.len() % 2 == 1 && word == AT_NULL)
    })?;
    for pair in words.chunks_exact_mut(2) {
        if let Some((_, value)) = changes.iter().find(|(key, _)| *key == pair[0]) {
            pair[1] = *value;
        }
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    ptrace::write_memory(tid, vector, &bytes)
}
