//! What a registry, or the way to it, answers instead of an image.

use serde::Deserialize;
use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::manifest::ManifestError;

/// See the module's head.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error("cannot reach the registry {host}")]
    Unreachable {
        /// `host[:port]`
        host: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
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
    /// The stream broke off, and repetitions did not help.
    #[error("the registry {host} broke off {what} after {got} of {size} bytes")]
    Truncated {
        /// `host[:port]`
        host: String,
        /// Which blob.
        what: String,
        /// Bytes that came.
        got: u64,
        /// Bytes of its descriptor.
        size: u64,
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
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
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

impl Explain for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Status { status: 404, .. } => ErrorKind::NotFound,
            Self::Status { status: 401 | 403, .. } | Self::Login { .. } => ErrorKind::Denied,
            Self::Unreachable { .. } | Self::Status { .. } | Self::Truncated { .. } => ErrorKind::Network,
            Self::TooLarge { .. } | Self::Digest { .. } | Self::Manifest(_) => ErrorKind::Corrupt,
            Self::Redirect { .. } | Self::Setup { .. } => ErrorKind::Unsupported,
        }
    }
    fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Unreachable { .. } | Self::Truncated { .. } => true,
            _ => false,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Status { status: 404, repository, .. } => {
                vec![format!("check the name and the tag; `udocker search --list-tags {repository}` lists the tags")]
            }
            Self::Status { status: 401 | 403, host, repository, .. } => vec![
                format!("check the name `{repository}`: registries answer so for what does not exist as well"),
                format!("`udocker login --registry=https://{host}` stores credentials"),
            ],
            Self::Status { status: 429, host, .. } => {
                vec![format!("{host} limits requests: try later, or log in by `udocker login`")]
            }
            Self::Unreachable { source, host } if is_tls(source) => vec![
                format!(
                    "if {host} speaks plain http or has a certificate of its own, `udocker --insecure` allows that"
                ),
                "`ca_dir` in site.toml names a directory of certificates".into(),
            ],
            Self::Unreachable { .. } => vec!["check the host's name and port, and the proxy if there is one".into()],
            Self::Truncated { .. } => vec!["try again; what is whole is kept".into()],
            _ => Vec::new(),
        }
    }
}

fn is_tls(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("certificate") || text.contains("corrupt message") || text.contains("HandshakeFailure") {
            return true;
        }
        cause = error.source();
    }
    false
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
    format!(" {}", text.chars().filter(|c| !c.is_control()).take(200).collect::<String>())
}
