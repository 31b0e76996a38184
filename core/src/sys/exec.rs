//! The final exec, with the search of execvp(3) in an environment that is not ours.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::ptr;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

/// Searched when the environment has no `PATH`; what Docker sets.
pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that an exec needs, allocated before the point of no return.
pub struct Command {
    candidates: Vec<CString>,
    /// What each candidate gets as argv[0]; empty: that of `argv`.
    names: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

/// Why the program did not start.
#[derive(Debug)]
pub enum ExecFailure {
    /// There is no such program.
    NotFound,
    /// It exists, but its interpreter or loader, given here, does not.
    NoInterpreter(PathBuf),
    /// It exists and may not be executed, or is no program of this machine.
    NotExecutable(io::Error),
    /// The kernel refused for another reason.
    Other(io::Error),
}

impl Command {
    /// Prepares `argv` and `env`; `None` if one of them holds a NUL byte or `argv` is empty.
    pub fn new(argv: &[OsString], env: &[OsString]) -> Option<Self> {
        let program = argv.first()?.as_bytes();
        let candidates = if program.contains(&b'/') || program.is_empty() {
            vec![CString::new(program).ok()?]
        } else {
            let path = env.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
            let join = |directory: &[u8]| {
                let separator: &[u8] = if directory.is_empty() { b"./" } else { b"/" };
                CString::new([directory, separator, program].concat()).ok()
            };
            path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':').map(join).collect::<Option<_>>()?
        };
        Some(Self { candidates, names: Vec::new(), argv: c_strings(argv)?, env: c_strings(env)? })
    }

    /// Prepares a login shell: the first of `shells` (absolute paths) that can be executed, with `-NAME` as `argv[0]` as
    /// login(1) gives it, and the arguments behind `argv[0]`.
    pub fn login(shells: &[OsString], argv: &[OsString], env: &[OsString]) -> Option<Self> {
        let name = |shell: &OsString| {
            let name = shell.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            CString::new([b"-", name].concat()).ok()
        };
        let names = shells.iter().map(name).collect::<Option<_>>()?;
        Some(Self { candidates: c_strings(shells)?, names, argv: c_strings(argv)?, env: c_strings(env)? })
    }

    /// Whether this process may execute the program and not read it: then it becomes one that nobody may look into.
    pub fn is_unreadable(&self) -> bool {
        let is_program = |path: &CStr| rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()).is_ok();
        let Some(path) = self.candidates.iter().find(|path| is_program(path)) else { return false };
        match Program::open(path) {
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
            // A script's interpreter counts as well, and a program's loader.
            Ok(program) => program.interpreter().and_then(|name| CString::new(name).ok()).is_some_and(|name| {
                rustix::fs::accessat(CWD, &*name, Access::READ_OK, AtFlags::empty()) == Err(Errno::ACCESS)
                    && is_program(&name)
            }),
        }
    }

    /// Replaces this process by the program; returns only if that failed.
    pub fn exec(&self) -> ExecFailure {
        let env = pointers(&self.env);
        let mut argv = pointers(&self.argv);
        let mut denied = None;
        for (index, candidate) in self.candidates.iter().enumerate() {
            if let Some(name) = self.names.get(index) {
                argv[0] = name.as_ptr();
            }
            let error = execve(candidate, &argv, &env);
            match error.raw_os_error() {
                Some(libc::ENOENT) => {
                    if let Some(interpreter) = missing_interpreter(candidate).filter(|_| self.names.is_empty()) {
                        return ExecFailure::NoInterpreter(interpreter);
                    }
                }
                Some(libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT) => {}
                Some(libc::EACCES) => denied = Some(error),
                Some(libc::ENOEXEC) if is_script(candidate) => return self.exec_script(candidate, &env),
                Some(libc::ENOEXEC | libc::EISDIR) => return ExecFailure::NotExecutable(error),
                _ => return ExecFailure::Other(error),
            }
        }
        denied.map_or(ExecFailure::NotFound, ExecFailure::NotExecutable)
    }

    /// As execvp(3): a text file without `#!` is a script for /bin/sh.
    fn exec_script(&self, script: &CString, env: &[*const libc::c_char]) -> ExecFailure {
        let mut argv = vec![c"/bin/sh".as_ptr(), script.as_ptr()];
        argv.extend(self.argv.iter().skip(1).map(|argument| argument.as_ptr()));
        argv.push(ptr::null());
        match execve(c"/bin/sh", &argv, env) {
            error if error.raw_os_error() == Some(libc::ENOENT) => ExecFailure::NoInterpreter("/bin/sh".into()),
            error => ExecFailure::NotExecutable(error),
        }
    }
}

fn execve(program: &CStr, argv: &[*const libc::c_char], env: &[*const libc::c_char]) -> io::Error {
    // SAFETY: both lists end with a null pointer and point to strings that the caller holds over the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

fn c_strings(list: &[OsString]) -> Option<Vec<CString>> {
    list.iter().map(|text| CString::new(text.as_bytes()).ok()).collect()
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// What a program that exists but answers ENOENT wants to be run by.
fn missing_interpreter(program: &CStr) -> Option<PathBuf> {
    Some(PathBuf::from(OsString::from_vec(Program::open(program).ok()?.interpreter()?)))
}

/// Whether the shell may be tried: no ELF file, and no NUL byte in the first line.
fn is_script(program: &CStr) -> bool {
    Program::open(program).is_ok_and(|program| {
        let line = program.head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        !program.head.starts_with(b"\x7fELF") && !line.contains(&0)
    })
}

/// A program that can be read.
struct Program {
    file: File,
    /// Its first bytes, where all is in nearly every program.
    head: Vec<u8>,
}

impl Program {
    fn open(path: &CStr) -> io::Result<Self> {
        let file = File::open(OsStr::from_bytes(path.to_bytes()))?;
        let mut head = vec![0; 1024];
        let length = file.read_at(&mut head, 0)?;
        head.truncate(length);
        Ok(Self { file, head })
    }

    /// `length` bytes from `at` on; no more than a page.
    fn bytes(&self, at: usize, length: usize) -> Option<Cow<'_, [u8]>> {
        let end = at.checked_add(length)?;
        if let Some(part) = self.head.get(at..end) {
            return Some(part.into());
        }
        let mut part = vec![0; Some(length).filter(|length| *length <= 4096)?];
        self.file.read_exact_at(&mut part, at as u64).ok()?;
        Some(part.into())
    }

    /// The interpreter in its `#!` line, or the loader in its PT_INTERP.
    fn interpreter(&self) -> Option<Vec<u8>> {
        if let Some(line) = self.head.strip_prefix(b"#!") {
            let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
            let name = line.split(|byte| matches!(byte, b' ' | b'\t')).next();
            return name.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        }
        let is_big = *self.head.strip_prefix(b"\x7fELF\x02")?.first()? == 2;
        let number = |at: usize, size: usize| -> Option<usize> {
            let bytes = self.bytes(at, size)?;
            let fold = |value: usize, byte: &u8| value << 8 | usize::from(*byte);
            Some(if is_big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
        };
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let mut headers = (0..count).map_while(|index| table.checked_add(index * size));
        let header = headers.find(|at| number(*at, 4) == Some(3))?;
        let (offset, length) = (number(header.checked_add(8)?, 8)?, number(header.checked_add(32)?, 8)?);
        let name = self.bytes(offset, length)?;
        name.split(|byte| *byte == 0).next().map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_read_from_scripts_and_programs() {
        let null = || File::open("/dev/null").unwrap();
        for (text, expected) in [
            (&b"#! /usr/bin/env  python3\nx"[..], Some(&b"/usr/bin/env"[..])),
            (b"#!/bin/x", Some(b"/bin/x")),
            (b"#! \n", None),
            (b"echo", None),
        ] {
            let program = Program { file: null(), head: text.to_vec() };
            assert_eq!(program.interpreter().as_deref(), expected);
        }
        let own = Program::open(c"/proc/self/exe").unwrap();
        let name = own.interpreter().expect("this test is linked dynamically");
        assert!(name.starts_with(b"/"));
        let rest_is_read = Program { head: own.head[..40].to_vec(), ..own };
        assert_eq!(rest_is_read.interpreter(), Some(name));
        let cut = Program { file: null(), ..rest_is_read };
        assert_eq!(cut.interpreter(), None);
    }

    #[test]
    fn candidates_follow_the_last_path_of_the_environment() {
        let command = Command::new(&["x".into()], &["PATH=/a".into(), "PATH=/b::/c".into()]).unwrap();
        assert_eq!(command.candidates, [c"/b/x".into(), CString::from(c"./x"), c"/c/x".into()]);
        assert!(Command::new(&["a\0b".into()], &[]).is_none());
        assert!(Command::new(&[], &[]).is_none());
    }
}
