//! What shim and relay say to each other on a stream socket. Pure.
//!
//! The shim: the number of bytes that follow (u32), the signals that it ignores (u64), the number of words (u32); the path of
//! the current directory, so many words, and the environment, each ended by a zero byte. With the first of these bytes come
//! four descriptors: the current directory (O_PATH), stdin, stdout and stderr. After that, one byte per signal: its number,
//! and the highest bit if a terminal sent it.
//!
//! The relay: once, [`Answer`]. Numbers are in the machine's order, as both run on one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use udocker_core::sys::signal::Arrived;

/// The largest request in bytes: more than execve(2) takes (a quarter of the stack limit, at most 6 MiB).
pub const LONGEST: usize = 8 << 20;
/// The bit that says that a terminal sent a signal.
const BY_TERMINAL: u8 = 0x80;

/// What a shim asks for, beside its descriptors.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The signals that the shim ignores: bit N - 1 for signal N.
    pub ignored: u64,
    /// The shim's current directory, empty if it has no name.
    pub directory: OsString,
    /// The command's name and arguments.
    pub argv: Vec<OsString>,
    /// Names and values.
    pub env: Vec<(OsString, OsString)>,
}

impl Call {
    /// As it is sent; `None` if it is too long.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut out = vec![0; 4];
        out.extend(self.ignored.to_ne_bytes());
        out.extend((self.argv.len() as u32).to_ne_bytes());
        for word in std::iter::once(&self.directory).chain(&self.argv) {
            out.extend(word.as_bytes());
            out.push(0);
        }
        for (name, value) in &self.env {
            out.extend([name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
        }
        let length = out.len() - 4;
        out[..4].copy_from_slice(&(length as u32).to_ne_bytes());
        (length <= LONGEST).then_some(out)
    }

    /// Reads what is there of one; with it, how many bytes it takes. `None`: more must come. `Err`: it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Option<(Self, usize)>, ()> {
        let Some((length, rest)) = number(bytes) else { return Ok(None) };
        if length > LONGEST {
            return Err(());
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let (ignored, body) = body.split_first_chunk().ok_or(())?;
        let ignored = u64::from_ne_bytes(*ignored);
        let (count, mut rest) = number(body).ok_or(())?;
        let mut next = || -> Option<OsString> {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let (word, behind) = rest.split_at(end);
            rest = &behind[1..];
            Some(OsString::from_vec(word.to_vec()))
        };
        let directory = next().ok_or(())?;
        let argv: Vec<OsString> = (0..count).map_while(|_| next()).collect();
        if argv.len() != count || argv.is_empty() {
            return Err(());
        }
        let split = |entry: OsString| {
            let bytes = entry.as_bytes();
            let at = bytes.iter().skip(1).position(|byte| *byte == b'=')? + 1;
            Some((OsStr::from_bytes(&bytes[..at]).to_owned(), OsStr::from_bytes(&bytes[at + 1..]).to_owned()))
        };
        let env = std::iter::from_fn(next).filter_map(split).collect();
        Ok(Some((Self { ignored, directory, argv, env }, 4 + length)))
    }
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// As waitpid(2) tells of the command.
    Ended(i32),
    /// It was not run, and why.
    Refused(String),
}

impl Answer {
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ended(status) => [&b"e"[..], &status.to_ne_bytes()].concat(),
            Self::Refused(text) => [b"r", text.as_bytes()].concat(),
        }
    }

    /// Reads all that came before the relay hung up.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (b'e', status) => Some(Self::Ended(i32::from_ne_bytes(status.try_into().ok()?))),
            (b'r', text) => Some(Self::Refused(String::from_utf8_lossy(text).into_owned())),
            _ => None,
        }
    }
}

/// A signal as its byte.
pub fn to_byte(arrived: Arrived) -> u8 {
    arrived.signal as u8 | if arrived.from_kernel { BY_TERMINAL } else { 0 }
}

/// The inverse of [`to_byte`].
pub fn from_byte(byte: u8) -> Arrived {
    Arrived { signal: i32::from(byte & !BY_TERMINAL), from_kernel: byte & BY_TERMINAL != 0 }
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_ne_bytes(*number) as usize, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call {
            ignored: 1 << 63 | 2,
            directory: "/data".into(),
            argv: ["srun", "", "a b"].map(Into::into).into(),
            env: [("A", "1=2"), ("=B", ""), ("C", "")].map(|(name, value)| (name.into(), value.into())).into(),
        }
    }

    #[test]
    fn a_call_arrives_as_it_was_sent_however_it_is_cut() {
        let bytes = call().to_bytes().unwrap();
        for end in 0..bytes.len() {
            assert_eq!(Call::from_bytes(&bytes[..end]), Ok(None), "{end}");
        }
        let with_signals = [&bytes[..], &[2, 0x83]].concat();
        assert_eq!(Call::from_bytes(&with_signals), Ok(Some((call(), bytes.len()))));
    }

    #[test]
    fn what_is_no_call_is_told_at_once() {
        let too_long = (LONGEST as u32 + 1).to_ne_bytes();
        let of = |count: u32, words: &[u8]| {
            let body = [&[0; 8], &count.to_ne_bytes()[..], words].concat();
            [&(body.len() as u32).to_ne_bytes()[..], &body].concat()
        };
        for bytes in [&too_long[..], &of(2, b"/\0srun\0"), &of(0, b"/\0"), &of(1, b"/"), &[1, 0, 0, 0, 9]] {
            assert_eq!(Call::from_bytes(bytes), Err(()), "{bytes:?}");
        }
        let long = Call { argv: vec!["x".repeat(LONGEST).into()], ..call() };
        assert_eq!(long.to_bytes(), None);
    }

    #[test]
    fn answers_and_signals_arrive() {
        for answer in [Answer::Ended(0x0300), Answer::Ended(9), Answer::Refused("no".into())] {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        }
        assert_eq!((Answer::from_bytes(b""), Answer::from_bytes(b"e\0")), (None, None));
        for arrived in [Arrived { signal: 2, from_kernel: true }, Arrived { signal: 28, from_kernel: false }] {
            assert_eq!(from_byte(to_byte(arrived)), arrived);
        }
    }
}
