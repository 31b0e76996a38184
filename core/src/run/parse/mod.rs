//! From what the user typed to typed wishes; what cannot be read is refused with the text and the expected form.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Batch, PullPolicy, Share, UserSpec, WriteSpec};
use crate::engine::Unshare;
use crate::error::{ErrorKind, Explain};

mod environment;
mod mount;

pub use environment::*;
pub use mount::*;

/// Longest text that a message repeats, in characters.
const MAX_QUOTED: usize = 80;

/// A wish that cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WishError {
    /// A mount or volume.
    #[error("cannot read the mount `{text}`: {problem}")]
    Mount {
        /// What was typed, printable.
        text: String,
        /// What is wrong.
        problem: MountProblem,
    },
    /// An environment entry.
    #[error("cannot read the environment entry `{text}`: {problem}")]
    Env {
        /// What was typed, printable.
        text: String,
        /// What is wrong.
        problem: EnvProblem,
    },
    /// An entry in a file.
    #[error("cannot read line {line} of the environment file, `{text}`: {problem}")]
    EnvLine {
        /// 1 is the first.
        line: usize,
        /// The line, printable.
        text: String,
        /// What is wrong.
        problem: EnvProblem,
    },
    /// A size.
    #[error("cannot read the size `{0}`: expected a number of bytes above 0, with K, M, G or T for powers of 1024")]
    Size(String),
    /// A user.
    #[error("cannot read the user `{0}`: expected self, root, image, or a name or number, with or without :GROUP")]
    User(String),
    /// A write mode.
    #[error("cannot read the write mode `{0}`: expected none, tmpfs, tmpfs:SIZE, or dir:PATH with an absolute path")]
    Write(String),
    /// A pull policy.
    #[error("cannot read the pull policy `{0}`: expected missing, always or never")]
    Pull(String),
    /// Who shares a container.
    #[error("cannot read who shares a container from `{0}`: expected node or task")]
    Share(String),
    /// A place.
    #[error("cannot read where the batch script runs from `{0}`: expected container or host")]
    Batch(String),
    /// GPUs.
    #[error(
        "cannot read the GPUs `{0}`: expected auto, none, all, or numbers and CDI names with commas, and caps=NAME+NAME"
    )]
    Gpu(String),
    /// A device.
    #[error("cannot read the device `{0}`: expected an absolute path, or a CDI name as vendor.com/class=name")]
    Device(String),
    /// Namespaces.
    #[error("cannot read the namespaces `{0}`: expected some of pid,net,ipc,uts")]
    Unshare(String),
}

impl Explain for WishError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Mount { problem: MountProblem::RelativeSource, .. } => {
                vec!["write the whole path, for example with `$PWD/` before it".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// `text` for a message: printable and not too long.
pub(crate) fn quote(text: impl AsRef<[u8]>) -> String {
    let lossy = String::from_utf8_lossy(text.as_ref());
    let mut out: String = lossy.chars().take(MAX_QUOTED).flat_map(printable).collect();
    if lossy.chars().nth(MAX_QUOTED).is_some() {
        out.push('…');
    }
    out
}

fn printable(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = escaped.is_none().then_some(character);
    plain.into_iter().chain(escaped.into_iter().flatten())
}

const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// Bytes from `N`, `NK`, `NM`, `NG` or `NT` (powers of 1024; lower case is as good; above 0).
pub fn parse_size(text: &str) -> Result<u64, WishError> {
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with([*unit, unit.to_ascii_lowercase()]));
    let (digits, shift) = unit.map_or((text, 0), |(_, shift)| (&text[..text.len() - 1], *shift));
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| WishError::Size(quote(text)))
}

/// The shortest text that [`parse_size`] reads as `bytes`.
pub fn format_size(bytes: u64) -> String {
    let whole = |shift: &u32| bytes > 0 && bytes.trailing_zeros() >= *shift;
    match UNITS.iter().rev().find(|(_, shift)| whole(shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

impl FromStr for UserSpec {
    type Err = WishError;
    /// `self`, `root`, `image`, else a name or number with or without `:GROUP`; whether it exists is seen later.
    fn from_str(text: &str) -> Result<Self, WishError> {
        let word = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control());
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        match text {
            "self" => Ok(Self::Caller),
            "root" => Ok(Self::Root),
            "image" => Ok(Self::Image),
            _ if word(user) && group.is_none_or(|group| word(group) && !group.contains(':')) => {
                Ok(Self::Named(text.into()))
            }
            _ => Err(WishError::User(quote(text))),
        }
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "self",
            Self::Root => "root",
            Self::Image => "image",
            Self::Named(text) => text,
        })
    }
}

impl FromStr for WriteSpec {
    type Err = WishError;
    fn from_str(text: &str) -> Result<Self, WishError> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "tmpfs" => Ok(Self::Tmpfs { size: None }),
            Some(("tmpfs", size)) => Ok(Self::Tmpfs { size: Some(parse_size(size)?) }),
            Some(("dir", path)) if Path::new(path).is_absolute() => Ok(Self::Directory(PathBuf::from(path))),
            _ => Err(WishError::Write(quote(text))),
        }
    }
}

impl FromStr for Share {
    type Err = WishError;
    fn from_str(text: &str) -> Result<Self, WishError> {
        match text {
            "node" => Ok(Self::Node),
            "task" => Ok(Self::Task),
            _ => Err(WishError::Share(quote(text))),
        }
    }
}

impl FromStr for Batch {
    type Err = WishError;
    fn from_str(text: &str) -> Result<Self, WishError> {
        match text {
            "container" => Ok(Self::Container),
            "host" => Ok(Self::Host),
            _ => Err(WishError::Batch(quote(text))),
        }
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Host => "host",
        })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Task => "task",
        })
    }
}

/// Reads names of namespaces, separated by commas.
///
/// # Errors
/// [`WishError::Unshare`].
pub fn parse_unshare(text: &str) -> Result<Vec<Unshare>, WishError> {
    let mut list: Vec<Unshare> = Vec::new();
    for name in text.split(',') {
        let known = Unshare::ALL.into_iter().find(|kind| kind.name() == name);
        list.push(known.ok_or_else(|| WishError::Unshare(quote(text)))?);
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

impl fmt::Display for WriteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Tmpfs { size: None } => f.write_str("tmpfs"),
            Self::Tmpfs { size: Some(size) } => write!(f, "tmpfs:{}", format_size(*size)),
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

impl FromStr for PullPolicy {
    type Err = WishError;
    fn from_str(text: &str) -> Result<Self, WishError> {
        match text {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(WishError::Pull(quote(text))),
        }
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal<T: FromStr<Err = WishError>>(text: &str) -> Option<String> {
        text.parse::<T>().err().map(|error| error.to_string())
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1", Some(1)),
            ("4K", Some(4096)),
            ("4k", Some(4096)),
            ("2M", Some(2 << 20)),
            ("3G", Some(3 << 30)),
            ("1T", Some(1 << 40)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("17179869184G", None),
            ("0", None),
            ("0K", None),
            ("", None),
            ("K", None),
            ("+1", None),
            ("1.5G", None),
            ("1GB", None),
            ("1é", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
        assert_eq!(
            parse_size("12\u{1b}x").unwrap_err().to_string(),
            "cannot read the size `12\\u{1b}x`: expected a number of bytes above 0, with K, M, G or T for powers of 1024"
        );
    }

    #[test]
    fn users() {
        for (text, expected) in [
            ("self", UserSpec::Caller),
            ("root", UserSpec::Root),
            ("image", UserSpec::Image),
            ("1000", UserSpec::Named("1000".into())),
            ("web:www", UserSpec::Named("web:www".into())),
            ("root:root", UserSpec::Named("root:root".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", ":", "a:", ":b", "a:b:c", "a b", "a\n"] {
            let shown = text.escape_default();
            let expected = format!(
                "cannot read the user `{shown}`: expected self, root, image, or a name or number, with or without :GROUP"
            );
            assert_eq!(refusal::<UserSpec>(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn write_modes_and_pull_policies() {
        assert_eq!("tmpfs:2G".parse(), Ok(WriteSpec::Tmpfs { size: Some(2 << 30) }));
        assert_eq!("dir:/a:b".parse(), Ok(WriteSpec::Directory("/a:b".into())));
        for text in ["", "None", "dir:", "dir:a", "tmpfs=1", "overlay"] {
            let expected = format!(
                "cannot read the write mode `{text}`: expected none, tmpfs, tmpfs:SIZE, or dir:PATH with an absolute path"
            );
            assert_eq!(refusal::<WriteSpec>(text), Some(expected));
        }
        assert_eq!(
            refusal::<WriteSpec>("tmpfs:").unwrap(),
            "cannot read the size ``: expected a number of bytes above 0, with K, M, G or T for powers of 1024"
        );
        assert_eq!("always".parse(), Ok(PullPolicy::Always));
        assert_eq!(
            refusal::<PullPolicy>("reuse").unwrap(),
            "cannot read the pull policy `reuse`: expected missing, always or never"
        );
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(quote("x".repeat(81)), format!("{}…", "x".repeat(80)));
        assert_eq!(quote("x".repeat(80)), "x".repeat(80));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(size in 1u64.., name in "[a-z0-9]{1,8}(:[a-z0-9]{1,8})?", path in "/[^\0]{0,20}") {
            prop_assert_eq!(parse_size(&format_size(size)), Ok(size));
            for user in [UserSpec::Caller, UserSpec::Root, UserSpec::Image, name.parse().unwrap()] {
                prop_assert_eq!(user.to_string().parse::<UserSpec>(), Ok(user));
            }
            for write in [WriteSpec::None, WriteSpec::Tmpfs { size: None }, WriteSpec::Tmpfs { size: Some(size) }, WriteSpec::Directory(path.into())] {
                prop_assert_eq!(write.to_string().parse::<WriteSpec>(), Ok(write));
            }
            for pull in [PullPolicy::Missing, PullPolicy::Always, PullPolicy::Never] {
                prop_assert_eq!(pull.to_string().parse::<PullPolicy>(), Ok(pull));
            }
        }
        #[test]
        fn no_text_is_a_panic(text in ".*") {
            let _ = (parse_size(&text), text.parse::<UserSpec>(), text.parse::<WriteSpec>(), text.parse::<PullPolicy>());
        }
    }
}
