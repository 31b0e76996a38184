//! `srun --multi-prog` on releases of Slurm that cannot put words before such a task's argv: what a plugin changes of argv
//! there has no effect, and the task would run on the host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use udocker_core::error::{ErrorKind, Explain};

/// The programs of a step cannot be put into containers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot put the programs of `{0}` into containers: Slurm can do that with --multi-prog from release 23.11 on")]
pub struct MultiProgError(String);

impl Explain for MultiProgError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
    fn hints(&self) -> Vec<String> {
        vec!["`--udocker-image=none`, and `udocker-launch IMAGE` before each program in the file".into()]
    }
}

impl MultiProgError {
    /// Of the words of srun's command, which begin with the file.
    pub fn of(words: &[OsString]) -> Self {
        Self(words.first().map(|file| file.display().to_string()).unwrap_or_default())
    }
}

/// Refuses the argv that srun makes of `--multi-prog FILE`: the file, and what it holds.
pub fn check(argv: &[OsString]) -> Result<(), MultiProgError> {
    let [file, contents, ..] = argv else { return Ok(()) };
    match names_ranks(contents) && std::fs::read(file).is_ok_and(|bytes| bytes == contents.as_bytes()) {
        true => Err(MultiProgError(file.display().to_string())),
        false => Ok(()),
    }
}

/// Whether a line begins with ranks (`0`, `1-3,5`, `*`) and goes on.
fn names_ranks(text: &OsStr) -> bool {
    text.as_bytes().split(|byte| *byte == b'\n').any(|line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let is_ranks = |word: &[u8]| word.iter().all(|byte| byte.is_ascii_digit() || b",-*".contains(byte));
        words.next().is_some_and(is_ranks) && words.next().is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_what_it_holds_are_refused() {
        let path = std::env::temp_dir().join(format!("udocker-multi-prog-{}", std::process::id()));
        let contents = "# two programs\n0 sh -c 'exit 1'\n1-3,5 true %t\n";
        std::fs::write(&path, contents).unwrap();
        let file = path.clone().into_os_string();
        let error = check(&[file.clone(), contents.into(), "more".into()]).unwrap_err();
        assert_eq!(error, MultiProgError(path.display().to_string()));
        for argv in [vec![file.clone()], vec![file.clone(), "0 true\n".into()], vec!["echo".into(), contents.into()]] {
            assert_eq!(check(&argv), Ok(()), "{argv:?}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn lines_with_ranks() {
        for (text, expected) in [("0 true", true), ("\n * a\n", true), ("# 0 a", false), ("0", false), ("a 0", false)] {
            assert_eq!(names_ranks(text.as_ref()), expected, "{text}");
        }
    }
}
