//! What can be wrong with a configuration.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use udocker_core::error::{ErrorKind, Explain};
use udocker_core::text::escape;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1; udocker.conf is read by lines.
    pub column: Option<usize>,
}

impl Position {
    /// The place of the byte range `span` in `text`.
    pub(crate) fn of(path: &Path, text: &str, span: &Range<usize>) -> Self {
        let before = &text.as_bytes()[..span.start.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        Self { path: path.into(), line, column: Some(column) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)?;
        self.column.map_or(Ok(()), |column| write!(f, ":{column}"))
    }
}

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A file.
    File(Position),
    /// A variable of the environment.
    Variable(&'static str),
    /// An option of the command line.
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(position) => position.fmt(f),
            Self::Variable(name) | Self::Option(name) => f.write_str(name),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory could not be opened or read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no regular file or directory, or a symbolic link.
    #[error("cannot trust the configuration {}: it is not a plain {expected}", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
        /// `file` or `directory`.
        expected: &'static str,
    },
    /// Its owner is another.
    #[error("cannot trust the configuration {}: it belongs to uid {owner}, not to uid {expected}", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        expected: u32,
    },
    /// Others may write it.
    #[error("cannot trust the configuration {}: mode {mode:04o} lets group or others write it", path.display())]
    Writable {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is longer than any configuration.
    #[error("cannot read the configuration {}: it is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Bytes.
        limit: u64,
    },
    /// It is not UTF-8.
    #[error("cannot read the configuration {}: it is not UTF-8", path.display())]
    NotText {
        /// Which.
        path: PathBuf,
    },
    /// It is no TOML, or a value has the wrong type.
    #[error("{at}: {message}")]
    Syntax {
        /// Where.
        at: Position,
        /// What the TOML reader says, one line.
        message: String,
    },
    /// A key that does not exist.
    #[error("{at}: unknown key `{key}`")]
    UnknownKey {
        /// Where.
        at: Position,
        /// With its table, `table.key`.
        key: String,
        /// The nearest known key, if one is near.
        nearest: Option<String>,
    },
    /// A documented key whose part is not built.
    #[error("{at}: the key `{key}` is not supported by this version")]
    Unsupported {
        /// Where.
        at: Position,
        /// With its table.
        key: String,
    },
    /// A key in a user's file that is the site's alone.
    #[error("{at}: `{key}` is for the site's files alone")]
    OfSite {
        /// Where.
        at: Position,
        /// The table.
        key: String,
    },
    /// A key that no profile has.
    #[error("{at}: a profile cannot ask for `{key}`")]
    NotInProfile {
        /// Where.
        at: Position,
        /// The key.
        key: &'static str,
    },
    /// A profile that is nowhere.
    #[error("cannot read the profile `{name}`: {}", nowhere(looked))]
    NoProfile {
        /// As typed.
        name: String,
        /// Where it could lie; nowhere: it is no name.
        looked: Vec<PathBuf>,
    },
    /// A value outside its range.
    #[error("{at}: cannot use the value of `{key}`: expected {expected}")]
    Value {
        /// Where.
        at: Position,
        /// With its table.
        key: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// A value that another one leaves without effect.
    #[error("{at}: `{key}` has no effect: {why}")]
    Contradiction {
        /// Where, as `FILE:LINE:COLUMN`.
        at: String,
        /// With its table.
        key: &'static str,
        /// What stands against it, and where.
        why: String,
    },
    /// A variable without a usable value.
    #[error("cannot use the variable {name}, `{value}`: expected {expected}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value, printable.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// The file of `--config` is not there.
    #[error("cannot read the configuration {}: it does not exist", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
}

fn nowhere(looked: &[PathBuf]) -> String {
    match looked {
        [] => "it is neither a name nor a path".into(),
        all => {
            let all: Vec<_> = all.iter().map(|path| path.display().to_string()).collect();
            format!("there is no {}", all.join(" and no "))
        }
    }
}

impl ConfigError {
    pub(crate) fn variable(name: &'static str, value: impl AsRef<OsStr>, expected: &'static str) -> Self {
        let value = crate::report::redact(&escape(value.as_ref().as_encoded_bytes()));
        Self::Variable { name, value, expected }
    }
}

impl Explain for ConfigError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } => ErrorKind::from_io(source),
            Self::Missing { .. } | Self::NoProfile { .. } => ErrorKind::NotFound,
            Self::Kind { .. } | Self::Owner { .. } | Self::Writable { .. } => ErrorKind::Denied,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::OfSite { .. } => ErrorKind::Forbidden,
            Self::TooLarge { .. }
            | Self::NotText { .. }
            | Self::Syntax { .. }
            | Self::UnknownKey { .. }
            | Self::Value { .. }
            | Self::NotInProfile { .. }
            | Self::Contradiction { .. }
            | Self::Variable { .. } => ErrorKind::Usage,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::UnknownKey { nearest: Some(nearest), .. } => vec![format!("did you mean `{nearest}`?")],
            Self::Owner { path, expected, .. } => {
                vec![format!("`chown {expected} {}`", path.display())]
            }
            Self::NoProfile { looked, .. } if looked.is_empty() => {
                vec!["a name has letters, digits, `-`, `_` and `.`; a path begins with `/` or `./`".into()]
            }
            Self::Writable { path, .. } => vec![format!("`chmod go-w {}`", path.display())],
            _ => Vec::new(),
        }
    }
}
