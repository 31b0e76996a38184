//! Finding and executing the program, and saying why not: 127 not found, 126 not executable.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::EnterError;
use crate::error::ErrorKind;
use crate::sys::exec::{Strings, execve};

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its words, ready before anything irrevocable is done.
pub(super) struct Program {
    name: OsString,
    argv: Strings,
    env: Strings,
    search: Option<Vec<PathBuf>>,
}

impl Program {
    pub fn prepare(argv: &[OsString], env: &[OsString]) -> Result<Self, EnterError> {
        let nul = || EnterError::text("run the command", ErrorKind::Usage, "an argument or variable holds a NUL byte");
        let empty = || EnterError::text("run the command", ErrorKind::Usage, "its name is empty").with_status(127);
        let name = argv.first().filter(|name| !name.is_empty()).ok_or_else(empty)?.clone();
        let search = (!name.as_bytes().contains(&b'/')).then(|| {
            let path = env.iter().find_map(|v| v.as_bytes().strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
            let directory = |part: &[u8]| if part.is_empty() { PathBuf::from(".") } else { OsStr::from_bytes(part).into() };
            path.split(|b| *b == b':').map(directory).collect()
        });
        Ok(Self { name, argv: Strings::new(argv).ok_or_else(nul)?, env: Strings::new(env).ok_or_else(nul)?, search })
    }

    /// Executes; returns only an error. As execvp(3): EACCES in one directory of PATH does not end the search.
    pub fn execute(&self) -> EnterError {
        let Some(directories) = &self.search else {
            let path = Path::new(&self.name);
            return explain(path, self.attempt(path));
        };
        let mut denied = None;
        for directory in directories {
            let path = directory.join(&self.name);
            match self.attempt(&path) {
                Errno::NOENT | Errno::NOTDIR if fs::symlink_metadata(&path).is_err() => {}
                Errno::ACCESS => denied = denied.or(Some(path)),
                errno => return explain(&path, errno),
            }
        }
        match denied {
            Some(path) => explain(&path, Errno::ACCESS),
            None => {
                let listed: Vec<_> = directories.iter().map(|d| d.display().to_string()).collect();
                EnterError::text(
                    format!("run `{}` in the container", self.name.display()),
                    ErrorKind::NotFound,
                    format!("it is in no directory of PATH ({})", listed.join(":")),
                )
                .with_status(127)
            }
        }
    }

    fn attempt(&self, path: &Path) -> Errno {
        let Ok(c_path) = CString::new(path.as_os_str().to_owned().into_vec()) else { return Errno::NOENT };
        let errno = execve(&c_path, &self.argv, &self.env);
        // A script without `#!` is the shell's, as in execvp(3).
        if errno == Errno::NOEXEC && fs::read(path).is_ok_and(|bytes| !bytes.starts_with(b"\x7fELF")) {
            return execve(c"/bin/sh", &self.argv.with_interpreter(c"/bin/sh", &c_path), &self.env);
        }
        errno
    }
}

fn explain(path: &Path, errno: Errno) -> EnterError {
    let step = format!("run `{}` in the container", path.display());
    let error = EnterError::errno(step.clone(), errno);
    match errno {
        Errno::NOENT | Errno::NOTDIR => match missing_interpreter(path) {
            Some(interpreter) => EnterError::text(
                step,
                ErrorKind::NotFound,
                format!("its interpreter `{}` is not in the container", interpreter.display()),
            )
            .with_status(127)
            .hint("the program was made for another system: run it in an image of that system"),
            None => error.with_status(127),
        },
        Errno::ACCESS | Errno::PERM | Errno::ISDIR => error.with_status(126),
        Errno::NOEXEC => error
            .with_status(126)
            .hint("the program is for another processor, or damaged; `udocker images -p` shows the image's platform"),
        _ => error,
    }
}

/// What the file at `path` needs to start and is not there: the name behind `#!`, or the ELF loader (PT_INTERP).
fn missing_interpreter(path: &Path) -> Option<PathBuf> {
    let bytes = fs::read(path).ok()?;
    let name = match bytes.strip_prefix(b"#!") {
        Some(rest) => {
            let line = rest.split(|b| *b == b'\n').next()?;
            line.split(|b| b.is_ascii_whitespace()).find(|word| !word.is_empty())?.to_vec()
        }
        None => elf_interpreter(&bytes)?,
    };
    let interpreter = PathBuf::from(OsString::from_vec(name));
    (!interpreter.exists()).then_some(interpreter)
}

/// PT_INTERP of a 64-bit little-endian ELF file (elf(5)).
fn elf_interpreter(bytes: &[u8]) -> Option<Vec<u8>> {
    const PT_INTERP: u32 = 3;
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let header = (0..count).map(|i| table.checked_add(i * size)).find(|at| {
        at.is_some_and(|at| number(at, 4) == Some(PT_INTERP as usize))
    })??;
    let (offset, length) = (number(header + 8, 8)?, number(header + 32, 8)?);
    let name = bytes.get(offset..offset.checked_add(length)?)?;
    Some(name.split(|b| *b == 0).next()?.to_vec())
}
