//! Trying a user's credentials before they are stored.

use reqwest::Url;
use reqwest::header::HeaderMap;
use udocker_core::reference::{RegistryHost, is_docker_hub};
use udocker_core::settings::RegistrySettings;

use super::auth::{Challenge, Secret};
use super::client::Client;
use super::credentials::{Credentials, Login};
use super::error::RegistryError;
use super::limits::Limits;
use super::session::{Failed, Get, Session};
use super::transport::host_of;

/// What stands between a user and a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It asks nobody for credentials.
    Open,
    /// It takes a user and a password itself.
    Password,
    /// Another server takes them and gives tokens.
    TokenServer {
        /// `host[:port]` of that server.
        host: String,
        /// Whether it is the registry's own host, or one of the same domain.
        related: bool,
    },
}

/// Asks the registry who takes its users' credentials; sends none.
///
/// # Errors
/// Of the network; [`RegistryError::Status`] if there is no registry.
pub fn gate(settings: &RegistrySettings, host: &RegistryHost) -> Result<Gate, RegistryError> {
    let session = Session::new(settings, host, Credentials::none(host), Limits::default())?;
    let challenge = session.challenge(&request()).map_err(|Failed { error, .. }| error)?;
    Ok(match challenge {
        None => Gate::Open,
        Some(Challenge::Basic) => Gate::Password,
        Some(Challenge::Bearer { realm, .. }) => {
            // What is no URL is refused by the login itself.
            let server = Url::parse(&realm).map_or(realm, |url| host_of(&url));
            let related = is_related(&server, host.as_str()) || is_docker_hub(host) && server == "auth.docker.io";
            Gate::TokenServer { host: server, related }
        }
    })
}

/// Logs in with these credentials and no others.
///
/// # Errors
/// [`RegistryError::Password`] if they are wrong.
pub fn try_login(
    settings: &RegistrySettings,
    host: &RegistryHost,
    user: &str,
    Secret(password): &Secret,
) -> Result<(), RegistryError> {
    let login = Login::Password(Secret(format!("{user}:{password}")));
    let session = Session::new(settings, host, Credentials::given(host, login), Limits::default())?;
    Client::of_session(settings, session).inner().get(&request(), |_| Ok(()))
}

/// The registry's front door.
fn request() -> Get<'static> {
    Get { path: "/v2/".into(), repository: "", what: "its API".into(), headers: HeaderMap::new(), head_only: false }
}

/// Whether one of the hosts is the other or lies in its domain.
fn is_related(a: &str, b: &str) -> bool {
    let name = |host: &str| host.split(':').next().unwrap_or_default().to_owned();
    let (a, b) = (name(a), name(b));
    let within = |inner: &str, outer: &str| inner.strip_suffix(outer).is_some_and(|rest| rest.ends_with('.'));
    a == b || within(&a, &b) && b.contains('.') || within(&b, &a) && a.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn related_hosts_are_of_one_domain() {
        for (a, b, expected) in [
            ("quay.io", "quay.io", true),
            ("127.0.0.1:1", "127.0.0.1:2", true),
            ("gitlab.com", "registry.gitlab.com", true),
            ("auth.example.org", "example.org", true),
            ("notexample.org", "example.org", false),
            ("org", "example.org", false),
            ("auth.evil.org", "registry.good.org", false),
        ] {
            assert_eq!(is_related(a, b), expected, "{a} {b}");
        }
    }
}
