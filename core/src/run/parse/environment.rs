//! Environment entries, and files of them.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use super::{WishError, quote};
use crate::run::EnvSpec;

/// What is wrong with an environment entry.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvProblem {
    /// Nothing before the `=`.
    #[error("the name is empty")]
    NoName,
    /// Blanks or control characters in the name.
    #[error("a name holds no blanks and no control characters")]
    Name,
    /// A zero byte in the value.
    #[error("a value must not hold a zero byte")]
    Nul,
    /// A name of the host that is not UTF-8.
    #[error("a name without a value must be UTF-8")]
    NotText,
}

impl EnvSpec {
    /// Reads `NAME=VALUE` (split at the first `=`), `NAME` or `GLOB*`; values are any bytes.
    ///
    /// # Errors
    /// [`WishError::Env`] with the text.
    pub fn parse(text: &OsStr) -> Result<Self, WishError> {
        let bytes = text.as_bytes();
        read(bytes).map_err(|problem| WishError::Env { text: quote(shown(bytes)), problem })
    }
}

fn read(bytes: &[u8]) -> Result<EnvSpec, EnvProblem> {
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    };
    if name.is_empty() {
        return Err(EnvProblem::NoName);
    }
    if name.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
        return Err(EnvProblem::Name);
    }
    match value {
        Some(value) if value.contains(&0) => Err(EnvProblem::Nul),
        Some(value) => {
            Ok(EnvSpec::Set { name: OsStr::from_bytes(name).into(), value: OsStr::from_bytes(value).into() })
        }
        None => std::str::from_utf8(name).map(|name| EnvSpec::Host(name.into())).map_err(|_| EnvProblem::NotText),
    }
}

/// The name alone: a value may be a secret and stays out of messages.
fn shown(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == b'=').map_or(bytes.len(), |at| at + 1);
    &bytes[..end]
}

/// Reads a file of entries, one a line.
///
/// Empty lines and lines whose first character after blanks is `#` are passed over; blanks before the name and a
/// carriage return at the end go; values are taken as they are, quotes included, as Docker and udocker do.
///
/// # Errors
/// [`WishError::EnvLine`] for the first line that is none.
pub fn parse_env_file(bytes: &[u8]) -> Result<Vec<EnvSpec>, WishError> {
    let mut out = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let problem = |problem| WishError::EnvLine { line: number + 1, text: quote(shown(line)), problem };
        out.push(read(line).map_err(problem)?);
    }
    Ok(out)
}

impl FromStr for EnvSpec {
    type Err = WishError;
    fn from_str(text: &str) -> Result<Self, WishError> {
        Self::parse(OsStr::new(text))
    }
}

/// For messages; read again by [`EnvSpec::parse`] if it is UTF-8.
impl fmt::Display for EnvSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { name, value } => write!(f, "{}={}", name.display(), value.display()),
            Self::Host(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(name: &str, value: &[u8]) -> EnvSpec {
        EnvSpec::Set { name: name.into(), value: OsStr::from_bytes(value).into() }
    }

    #[test]
    fn entries() {
        for (bytes, expected) in [
            (&b"A=b"[..], set("A", b"b")),
            (b"A=b=c", set("A", b"b=c")),
            (b"A=", set("A", b"")),
            (b"A= \xff\n", set("A", b" \xff\n")),
            (b"A", EnvSpec::Host("A".into())),
            (b"SLURM_*", EnvSpec::Host("SLURM_*".into())),
            (b"BASH_FUNC_x%%=() {", set("BASH_FUNC_x%%", b"() {")),
        ] {
            assert_eq!(EnvSpec::parse(OsStr::from_bytes(bytes)), Ok(expected));
        }
    }

    #[test]
    fn refusals_never_show_a_value() {
        for (bytes, expected) in [
            (&b""[..], "cannot read the environment entry ``: the name is empty"),
            (b"=secret", "cannot read the environment entry `=`: the name is empty"),
            (
                b"A B=secret",
                "cannot read the environment entry `A B=`: a name holds no blanks and no control characters",
            ),
            (
                b"A\t=secret",
                "cannot read the environment entry `A\\t=`: a name holds no blanks and no control characters",
            ),
            (b"A=sec\0ret", "cannot read the environment entry `A=`: a value must not hold a zero byte"),
            (b"A\xff", "cannot read the environment entry `A\u{fffd}`: a name without a value must be UTF-8"),
        ] {
            assert_eq!(EnvSpec::parse(OsStr::from_bytes(bytes)).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn files_of_entries() {
        let file = b"# comment\n\n  A=1 # kept\r\n\tB\n   \n  #x\nC=\"q\"";
        let expected = vec![set("A", b"1 # kept"), EnvSpec::Host("B".into()), set("C", b"\"q\"")];
        assert_eq!(parse_env_file(file), Ok(expected));
        assert_eq!(parse_env_file(b""), Ok(Vec::new()));
        assert_eq!(
            parse_env_file(b"A=1\nexport B=2").unwrap_err().to_string(),
            "cannot read line 2 of the environment file, `export B=`: a name holds no blanks and no control characters"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in "[^= \0-\u{1f}\u{7f}]{1,9}(=[^\0]{0,20})?") {
            let spec = text.parse::<EnvSpec>().unwrap();
            prop_assert_eq!(spec.to_string(), text);
        }
        #[test]
        fn no_file_is_a_panic(bytes: Vec<u8>) {
            let _ = parse_env_file(&bytes);
        }
    }
}
