//! Why a container could not be entered: the step, its object, the errno, the remedy.

use rustix::io::Errno;

use crate::error::{ErrorKind, Explain};

/// See the module's head. `status` is Docker's: 127 not found, 126 not executable, 125 the rest.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct EnterError {
    pub(super) step: String,
    pub(super) status: u8,
    pub(super) kind: ErrorKind,
    pub(super) hints: Vec<String>,
    #[source]
    pub(super) source: Cause,
}

/// What stopped it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel.
    #[error("{0}")]
    Errno(String),
    /// Something about the object, in words.
    #[error("{0}")]
    Text(String),
}

impl EnterError {
    /// The kernel refused `step`.
    pub(super) fn errno(step: impl Into<String>, errno: Errno) -> Self {
        let io = std::io::Error::from(errno);
        Self {
            step: step.into(),
            status: 125,
            kind: ErrorKind::from_io(&io),
            hints: Vec::new(),
            source: Cause::Errno(io.to_string()),
        }
    }
    /// `step` is impossible, in words.
    pub(super) fn text(step: impl Into<String>, kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { step: step.into(), status: 125, kind, hints: Vec::new(), source: Cause::Text(text.into()) }
    }
    pub(super) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }
    pub(super) fn with_status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }
    pub(super) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
    /// The status that a front end ends with.
    pub fn status(&self) -> u8 {
        self.status
    }
}

impl Explain for EnterError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
    fn hints(&self) -> Vec<String> {
        self.hints.clone()
    }
}

/// unshare(2) refused a user namespace: the usual reasons and their remedies.
pub(super) fn no_user_namespace(errno: Errno) -> EnterError {
    let error = EnterError::errno("make a user namespace", errno).with_kind(ErrorKind::Unsupported);
    match errno {
        Errno::NOSPC | Errno::USERS => error.hint("an admin can raise it: `sysctl user.max_user_namespaces=15000`"),
        Errno::PERM => error.hint(
            "an admin can allow it: `sysctl kernel.unprivileged_userns_clone=1`; inside another container, its seccomp profile forbids it; and a caller in a chroot may not",
        ),
        Errno::INVAL => error.hint("this kernel was built without user namespaces (CONFIG_USER_NS)"),
        _ => error,
    }
}

/// Writing a map failed although the namespace was made: the mark of AppArmor's restriction.
pub(super) fn no_map(file: &str, errno: Errno) -> EnterError {
    EnterError::errno(format!("write /proc/self/{file} in the new user namespace"), errno)
        .with_kind(ErrorKind::Unsupported)
        .hint("an admin can allow it: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile with `userns`")
}
