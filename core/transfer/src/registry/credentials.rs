//! Where credentials come from: udocker's keystore, then Docker's files in their order, and the helpers that those name.
//!
//! The keystore is read at once; one that may not be used is told of when credentials are wanted. Docker's files are looked
//! at when a registry wants credentials and not before: a helper may take its time, and a broken one must not stop what
//! needs no password.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;
use udocker_core::reference::{RegistryHost, is_docker_hub};
use udocker_core::settings::RegistrySettings;

use super::auth::Secret;
use super::helper;
use super::keystore::{Keystore, decode, means};

const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Docker Hub, as Docker's files and helpers call it.
const HUB_SERVER: &str = "https://index.docker.io/v1/";
/// The user's name of an identity token.
const TOKEN_USER: &str = "<token>";

/// What a user has for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// `user:password`
    Password(Secret),
    /// What a token server exchanges for tokens (OAuth 2, a refresh token).
    Identity(Secret),
}

impl Login {
    pub(super) fn of(user: &str, secret: &str) -> Self {
        match user {
            TOKEN_USER => Self::Identity(Secret(secret.to_owned())),
            _ => Self::Password(Secret(format!("{user}:{secret}"))),
        }
    }

    /// The user's name.
    pub(super) fn user(&self) -> &str {
        match self {
            Self::Password(Secret(text)) => text.split(':').next().unwrap_or_default(),
            Self::Identity(_) => TOKEN_USER,
        }
    }
}

/// The credentials for one registry.
#[derive(Debug)]
pub(super) struct Credentials {
    host: RegistryHost,
    configs: Vec<PathBuf>,
    found: OnceLock<Result<Option<Login>, String>>,
    /// The host of the only token server that may have them.
    pub(super) token_server: Option<String>,
}

impl Credentials {
    /// Of the keystore, else of Docker's files. A keystore that may not be used stops only what needs credentials.
    pub(super) fn stored(settings: &RegistrySettings, host: &RegistryHost) -> Self {
        let mut credentials = Self::none(host);
        credentials.configs.clone_from(&settings.docker_configs);
        let Some(keystore) = settings.keystore.as_deref().map(Keystore::at) else { return credentials };
        let found = keystore.get(host).and_then(|login| Ok((login, keystore.token_server(host)?)));
        match found {
            Ok((None, _)) => {}
            Ok((Some(login), token_server)) => {
                credentials.found = OnceLock::from(Ok(Some(Login::Password(login))));
                credentials.token_server = token_server;
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                credentials.found = OnceLock::from(Err(format!("{error}{source}")));
            }
        }
        credentials
    }

    /// These and no others.
    pub(super) fn given(host: &RegistryHost, login: Login) -> Self {
        Self { found: OnceLock::from(Ok(Some(login))), ..Self::none(host) }
    }

    /// None at all.
    pub(super) fn none(host: &RegistryHost) -> Self {
        Self { host: host.clone(), configs: Vec::new(), found: OnceLock::new(), token_server: None }
    }

    /// What there is; looked for once.
    ///
    /// # Errors
    /// In words, if a file or a helper cannot be used.
    pub(super) fn get(&self) -> Result<Option<&Login>, &str> {
        let found = self.found.get_or_init(|| search(&self.configs, &self.host));
        found.as_ref().map(Option::as_ref).map_err(String::as_str)
    }

    /// Why looking for them failed, if it did.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.found.get().and_then(|found| found.as_ref().err()).map(String::as_str)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl Entry {
    fn login(&self) -> Option<Login> {
        if !self.identitytoken.is_empty() {
            return Some(Login::Identity(Secret(self.identitytoken.clone())));
        }
        match decode(&self.auth) {
            Some(text) => Some(Login::Password(text)),
            None if self.username.is_empty() => None,
            None => Some(Login::of(&self.username, &self.password)),
        }
    }
}

fn search(configs: &[PathBuf], host: &RegistryHost) -> Result<Option<Login>, String> {
    for path in configs {
        let Some(config) = read(path)? else { continue };
        let helper = config.cred_helpers.iter().find(|(key, _)| means(key, host)).map(|(_, name)| name);
        if let Some(name) = helper.or(Some(&config.creds_store)).filter(|name| !name.is_empty()) {
            let server = if is_docker_hub(host) { HUB_SERVER } else { host.as_str() };
            if let Some(answer) = helper::ask(name, server)? {
                return Ok(Some(Login::of(&answer.username, &answer.secret)));
            }
        }
        let entries = config.auths.iter().filter(|(key, _)| means(key, host));
        if let Some(login) = entries.filter_map(|(_, entry)| entry.login()).next() {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<DockerConfig>, String> {
    let file = match File::open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_CONFIG_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // The parser's words name the place, and texts only where one stands in the wrong place: those are not repeated.
    let parsed = serde_json::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|error| format!("cannot read {}: line {}, column {}", path.display(), error.line(), error.column()))
}
