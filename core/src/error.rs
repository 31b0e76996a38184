//! What every error of ours can tell beside its text: what kind it is, whether to try again, what to do next.

use std::error::Error;
use std::fmt;

use crate::text::printable;

/// What a front end decides by: exit statuses and retries, never texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// It exists and we may not.
    Denied,
    /// The site's policy forbids it.
    Forbidden,
    /// The other side could not be reached or broke off.
    Network,
    /// Bytes are not what they should be.
    Corrupt,
    /// This machine, kernel, mode or version cannot do it.
    Unsupported,
    /// The user's input is wrong.
    Usage,
    /// It is in use, or exists already.
    Conflict,
    /// No space or quota left.
    NoSpace,
    /// A limit in time was reached.
    Timeout,
    /// The operating system refused for another reason.
    System,
}

impl ErrorKind {
    /// Classifies an `errno` of the operating system.
    pub fn from_io(error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Self::NotFound,
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => Self::Denied,
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace,
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => Self::Unsupported,
            Some(libc::EEXIST | libc::EBUSY | libc::ETXTBSY) => Self::Conflict,
            Some(libc::ETIMEDOUT) => Self::Timeout,
            _ => Self::System,
        }
    }
}

/// What helps against EMFILE.
pub(crate) const TOO_MANY_FILES: &str = "`ulimit -n` raises the number of files that a process may open";

/// An error that knows its kind and its remedy.
pub trait Explain: Error + Send + Sync + 'static {
    /// What to decide by.
    fn kind(&self) -> ErrorKind;
    /// Whether the same call may succeed later without a change by the user.
    fn is_retryable(&self) -> bool {
        false
    }
    /// What to do next, one sentence each, most likely first.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Any [`Explain`] error on its way to the front end.
pub struct Failure(Box<dyn Explain>);

impl Failure {
    /// See [`Explain::kind`].
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
    /// See [`Explain::is_retryable`].
    pub fn is_retryable(&self) -> bool {
        self.0.is_retryable()
    }
    /// See [`Explain::hints`].
    pub fn hints(&self) -> Vec<String> {
        self.0.hints()
    }
    /// `words` as the text, this failure as its cause; kind and hints stay.
    pub fn under(self, words: impl Into<String>) -> Self {
        Self(Box::new(Under { words: words.into(), cause: self }))
    }
    /// The text, its causes and its hints, one a line, as both front ends print them after their own prefix.
    pub fn report(&self) -> String {
        let mut out = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            out.push_str(&format!("\n  caused by: {error}"));
            cause = error.source();
        }
        for hint in self.hints() {
            out.push_str(&format!("\n  hint: {hint}"));
        }
        // A cause may quote what a file or a server sent.
        printable(&out)
    }
}

/// A failure in the words of a task that it ended, see [`Failure::under`].
#[derive(Debug)]
struct Under {
    words: String,
    cause: Failure,
}

impl fmt::Display for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Error for Under {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause.0)
    }
}

impl Explain for Under {
    fn kind(&self) -> ErrorKind {
        self.cause.kind()
    }
    fn is_retryable(&self) -> bool {
        self.cause.0.is_retryable()
    }
    fn hints(&self) -> Vec<String> {
        self.cause.hints()
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report())
    }
}
