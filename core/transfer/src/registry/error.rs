//! What a registry, or the way to it, answers instead of an image.

use std::error::Error;
use std::time::Duration;

use serde::Deserialize;
use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::manifest::ManifestError;
use udocker_core::policy::Denied;
use udocker_core::reference::{DEFAULT_REGISTRY, is_docker_hub};

/// Where the way to a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// Nobody knows the name.
    Name,
    /// Nobody listens at the port.
    Refused,
    /// Nothing answers there in time.
    Timeout,
    /// The certificate is not trusted, or not the host's.
    Certificate,
    /// Elsewhere; the source tells.
    Other,
}

impl Unreached {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
                return Self::Refused;
            }
            if error.downcast_ref::<rustls::Error>().is_some_and(is_certificate) {
                return Self::Certificate;
            }
            // The source of an io::Error is its inner error's source, not the inner error itself.
            cause = match io.and_then(std::io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        match () {
            () if error.is_dns() => Self::Name,
            () if error.is_timeout() => Self::Timeout,
            () => Self::Other,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Name => ": its name is not known",
            Self::Refused => ": nobody listens there",
            Self::Timeout => ": it does not answer",
            Self::Certificate => ": its certificate is not trusted",
            Self::Other => "",
        }
    }
}

fn is_certificate(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
}

/// See the module's head.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection.
    #[error("cannot reach the registry {host}{}", .why.text())]
    Unreachable {
        /// `host[:port]`
        host: String,
        /// Where the way ended.
        why: Unreached,
        /// Why not: the innermost cause, since the libraries between say nothing that a user could use.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A connection, and no answer.
    #[error("the registry {host} sent no answer for {what} within {} s", .limit.as_secs_f32())]
    Silent {
        /// `host[:port]`
        host: String,
        /// What was asked for.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// An answer that comes too slowly.
    #[error(
        "the transfer of {what} from {host} stalled after {got} bytes: below {slowest} bytes/s for {} s",
        .window.as_secs_f32()
    )]
    Stalled {
        /// `host[:port]`
        host: String,
        /// What was being read.
        what: String,
        /// Bytes that came.
        got: u64,
        /// The least rate, bytes per second.
        slowest: u64,
        /// Over which time.
        window: Duration,
    },
    /// An answer that is none of the expected ones.
    #[error("the registry {host} answered {status}{detail} for {what}")]
    Status {
        /// `host[:port]`
        host: String,
        /// HTTP status.
        status: u16,
        /// Code and message of the distribution specification, with a blank before, or nothing.
        detail: String,
        /// What was asked for.
        what: String,
        /// The name of the repository.
        repository: String,
    },
    /// The registry wants to be left alone for longer than is waited.
    #[error(
        "the registry {host} answered {status} for {what} and asks to wait {} s, longer than {} s",
        .wait.as_secs(), .limit.as_secs_f32()
    )]
    Busy {
        /// `host[:port]`
        host: String,
        /// HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
        /// Its Retry-After.
        wait: Duration,
        /// The longest that is waited for.
        limit: Duration,
    },
    /// The stream broke off, and repetitions did not help.
    #[error("the registry {host} broke off {what} after {got}{} bytes", of_size(*.size))]
    Truncated {
        /// `host[:port]`
        host: String,
        /// Which document or blob.
        what: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced, if they were.
        size: Option<u64>,
    },
    /// Larger than allowed.
    #[error("{what} from {host} has more than {limit} bytes")]
    TooLarge {
        /// `host[:port]`
        host: String,
        /// What it was.
        what: String,
        /// Bytes.
        limit: u64,
    },
    /// Another size than the descriptor's.
    #[error("{what} from {host} has {actual} bytes where its descriptor says {expected}")]
    Size {
        /// `host[:port]`
        host: String,
        /// Which blob.
        what: String,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes that the registry has.
        actual: u64,
    },
    /// No size where one is needed.
    #[error("the registry {host} does not tell the size of {what}")]
    Unsized {
        /// `host[:port]`
        host: String,
        /// Which blob.
        what: String,
    },
    /// Other bytes than the digest names.
    #[error("{host} sent other bytes for {expected}: their digest is {actual}")]
    Digest {
        /// `host[:port]`
        host: String,
        /// Asked for.
        expected: Digest,
        /// Came.
        actual: Digest,
    },
    /// A foreign layer (CVE-2020-15157) that the registry itself has not.
    #[error("the registry {host} has not layer {digest}, and its other addresses are never asked")]
    Foreign {
        /// `host[:port]`
        host: String,
        /// The layer.
        digest: Digest,
    },
    /// The site's policy rules it out.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The user or the password is wrong.
    #[error("the registry {host} refuses the password of user `{user}`")]
    Password {
        /// `host[:port]`
        host: String,
        /// Whose.
        user: String,
    },
    /// An answer of success that is none.
    #[error("the answer of {host} for {what} cannot be read")]
    Unreadable {
        /// `host[:port]`
        host: String,
        /// What was asked for.
        what: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A list whose next page lies elsewhere, or nowhere.
    #[error("{what} of {host} goes on at `{link}`, which is not followed")]
    Link {
        /// `host[:port]`
        host: String,
        /// Which list.
        what: String,
        /// As it was given.
        link: String,
    },
    /// The registry wants a way of logging in that is not known, or its token server is not to be trusted.
    #[error("cannot log in to the registry {host}: {what}")]
    Login {
        /// `host[:port]`
        host: String,
        /// Why not.
        what: String,
    },
    /// A redirect that is not followed.
    #[error("the registry {host} redirects {what}")]
    Redirect {
        /// `host[:port]`
        host: String,
        /// To where, and why that is refused.
        what: String,
    },
    /// The client could not be made.
    #[error("cannot set up the connection to {host}: {what}")]
    Setup {
        /// `host[:port]`
        host: String,
        /// Why not.
        what: String,
    },
}

/// Of [`RegistryError::Setup`]: no registry can be trusted then.
pub(super) const NO_CERTIFICATES: &str = "no CA certificates were found on this host";

fn of_size(size: Option<u64>) -> String {
    size.map(|size| format!(" of {size}")).unwrap_or_default()
}

/// Whether a status means that the same request may succeed later.
pub(super) fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

impl RegistryError {
    /// Whether to repeat the request at once: retryable, and no answer that a second attempt only repeats.
    pub(super) fn is_worth_repeating(&self) -> bool {
        match self {
            Self::Busy { .. } => false,
            Self::Unreachable { why, .. } => matches!(why, Unreached::Timeout | Unreached::Other),
            _ => self.is_retryable(),
        }
    }
}

impl Explain for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied(denied) => denied.kind(),
            Self::Status { status: 404, .. } => ErrorKind::NotFound,
            Self::Status { status: 401 | 403, .. } | Self::Login { .. } | Self::Password { .. } => ErrorKind::Denied,
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Stalled { .. }
            | Self::Status { .. }
            | Self::Busy { .. }
            | Self::Truncated { .. } => ErrorKind::Network,
            Self::TooLarge { .. }
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::Manifest(_)
            | Self::Unreadable { .. }
            | Self::Link { .. } => ErrorKind::Corrupt,
            Self::Foreign { .. } | Self::Redirect { .. } | Self::Setup { .. } | Self::Unsized { .. } => {
                ErrorKind::Unsupported
            }
        }
    }
    fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status, .. } => is_busy(*status),
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Stalled { .. }
            | Self::Busy { .. }
            | Self::Truncated { .. } => true,
            _ => false,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Denied(denied) => denied.hints(),
            Self::Status { status: 404, host, repository, what, .. } if !repository.is_empty() => {
                let hub = host.parse().is_ok_and(|host| is_docker_hub(&host));
                let host = if hub { DEFAULT_REGISTRY } else { host };
                vec![match what.starts_with("tag ") {
                    true => format!(
                        "check the tag; `udocker search --list-tags {host}/{repository}` lists those that exist"
                    ),
                    false => {
                        format!("check the name; `udocker search {host}/NAME` searches where the registry allows that")
                    }
                }]
            }
            Self::Status { status: 401 | 403, host, repository, .. } => {
                let login = format!("`udocker login --registry=https://{host}` stores credentials");
                let name =
                    format!("check the name `{repository}`: registries answer so for what does not exist as well");
                if repository.is_empty() { vec![login] } else { vec![name, login] }
            }
            Self::Password { host, .. } => vec![format!("`udocker login --registry=https://{host}` stores another")],
            Self::Status { status: 429, host, .. } | Self::Busy { host, .. } => {
                vec![format!("{host} limits requests: try later, or log in by `udocker login`")]
            }
            Self::Unreachable { why: Unreached::Certificate, host, .. } => vec![
                "`ca_dir` in site.toml names a directory of certificates".into(),
                format!("`udocker --insecure` trusts {host} without one"),
            ],
            Self::Unreachable { why: Unreached::Other, host, .. } => {
                vec![format!("if {host} speaks plain http, `udocker --insecure` allows that")]
            }
            Self::Unreachable { .. } => vec!["check the host's name and port, and the proxy if there is one".into()],
            Self::Silent { .. } | Self::Stalled { .. } | Self::Truncated { .. } => {
                vec!["try again; what is whole is kept".into()]
            }
            Self::Status { status: 404, host, .. } => vec![format!("{host} has no such service")],
            Self::Manifest(_)
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable { .. } => vec![
                "something on the way answered for the registry (a proxy, a login page), or the image is damaged"
                    .into(),
            ],
            Self::Status { host, .. } => vec![format!("{host} itself fails: try later, or ask who runs it")],
            Self::Login { host, .. } => vec![format!("`udocker login --registry=https://{host}` stores credentials")],
            Self::Setup { what, .. } if what == NO_CERTIFICATES => vec![
                "install the package ca-certificates, or name a file of certificates by the variable SSL_CERT_FILE"
                    .into(),
            ],
            Self::Foreign { .. }
            | Self::Redirect { .. }
            | Self::Setup { .. }
            | Self::Link { .. }
            | Self::Unsized { .. } => Vec::new(),
        }
    }
}

/// `text` of a registry as a message may show it: no control characters, not too long.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[derive(Deserialize)]
struct Answer {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The first error of a registry's JSON answer, with a blank before; nothing if it is not such an answer.
pub(super) fn detail(body: &[u8]) -> String {
    let entry = serde_json::from_slice::<Answer>(body).ok().and_then(|answer| answer.errors.into_iter().next());
    let Some(Entry { code, message }) = entry else { return String::new() };
    let text = if message.is_empty() { code } else { format!("{code} ({message})") };
    format!(" {}", printable(&text))
}
