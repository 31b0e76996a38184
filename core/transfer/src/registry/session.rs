//! One request to a registry: which scheme it speaks, login, redirects, and what its statuses mean.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use reqwest::blocking::Response;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use udocker_core::reference::{RegistryHost, is_docker_hub};
use udocker_core::settings::RegistrySettings;

use super::auth::{Challenge, Secret, parse_challenge};
use super::body::Body;
use super::credentials::{Credentials, Login};
use super::error::{RegistryError, Unreached, detail, printable};
use super::limits::{Limits, retry_after};
use super::transport::{Transport, host_of};

const HUB_ENDPOINT: &str = "registry-1.docker.io";
const MAX_HOPS: usize = 5;
const MAX_TOKEN_BYTES: u64 = 64 << 10;
const MAX_ERROR_BYTES: u64 = 16 << 10;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) host: String,
    pub(super) transport: Transport,
    /// `https://host[:port]` and `http://host[:port]`, as far as they are allowed, in the order to try.
    bases: Vec<String>,
    /// The one that answered.
    base: OnceLock<String>,
    credentials: Credentials,
    authorization: Mutex<Option<Secret>>,
}

/// What to ask for.
#[derive(Debug)]
pub(super) struct Get<'a> {
    pub(super) path: String,
    /// Whose part it is, for scopes and messages; empty if no repository's.
    pub(super) repository: &'a str,
    /// As messages call it.
    pub(super) what: String,
    pub(super) headers: HeaderMap,
    /// Only the head of the answer is wanted.
    pub(super) head_only: bool,
}

/// A request that failed, and how long its answer asks to wait before the next.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: RegistryError,
    pub(super) wait: Option<Duration>,
}

impl From<RegistryError> for Failed {
    fn from(error: RegistryError) -> Self {
        Self { error, wait: None }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Session {
    /// With `host`'s API, by the schemes that are allowed.
    pub(super) fn new(
        settings: &RegistrySettings,
        host: &RegistryHost,
        credentials: Credentials,
        limits: Limits,
    ) -> Result<Self, RegistryError> {
        settings.access.check(host.as_str(), host)?;
        let endpoint = if is_docker_hub(host) { HUB_ENDPOINT } else { host.as_str() };
        let (plain, tls) = (format!("http://{endpoint}"), format!("https://{endpoint}"));
        let insecure = settings.insecure_all || settings.insecure.contains(host);
        let bases = match (host.is_loopback(), insecure) {
            (true, _) => vec![plain, tls],
            (false, true) => vec![tls, plain],
            (false, false) => vec![tls],
        };
        Self::with_bases(settings, host, credentials, limits, bases)
    }

    /// With exactly `scheme://host`.
    pub(super) fn of_scheme(
        settings: &RegistrySettings,
        scheme: &str,
        host: &RegistryHost,
        limits: Limits,
    ) -> Result<Self, RegistryError> {
        Self::with_bases(settings, host, Credentials::none(host), limits, vec![format!("{scheme}://{host}")])
    }

    fn with_bases(
        settings: &RegistrySettings,
        host: &RegistryHost,
        credentials: Credentials,
        limits: Limits,
        bases: Vec<String>,
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            host: host.to_string(),
            transport: Transport::new(settings, host, limits)?,
            bases,
            base: OnceLock::new(),
            credentials,
            authorization: Mutex::default(),
        })
    }

    /// Asks once; the answer has a status of success.
    pub(super) fn get(&self, get: &Get<'_>) -> Result<Response, Failed> {
        self.at_base(|base| self.follow(base, get))
    }

    /// What the registry wants of who asks for `get`; `None` if it answers. Sends no credentials.
    pub(super) fn challenge(&self, get: &Get<'_>) -> Result<Option<Challenge>, Failed> {
        self.at_base(|base| {
            let mut url = self.url(base, get)?;
            for hops in 1.. {
                let response = self.transport.send(&url, get.headers.clone(), &get.what)?;
                let status = response.status();
                if status.is_redirection() {
                    url = self.redirect(&url, &response, hops)?;
                    continue;
                }
                return match status {
                    StatusCode::UNAUTHORIZED => Ok(Some(challenge(&response).ok_or_else(|| self.unknown_way())?)),
                    status if status.is_success() => Ok(None),
                    _ => Err(self.status(response, &url, &get.what, get.repository)),
                };
            }
            unreachable!("redirects end with an error")
        })
    }

    /// Does `act` at the base that answered before, or at one after the other.
    fn at_base<T>(&self, act: impl Fn(&str) -> Result<T, Failed>) -> Result<T, Failed> {
        if let Some(base) = self.base.get() {
            return act(base);
        }
        let mut first: Option<Failed> = None;
        for (number, base) in self.bases.iter().enumerate() {
            let result = act(base);
            let failed = match result {
                Err(failed) if other_scheme_may_help(base, &failed.error) => failed,
                result => {
                    // Another thread may have found the same meanwhile.
                    let _ = self.base.set(base.clone());
                    return result;
                }
            };
            let certificate = matches!(failed.error, RegistryError::Unreachable { why: Unreached::Certificate, .. });
            if number == 0 || certificate {
                first = Some(failed);
            }
        }
        Err(first.expect("there is at least one base"))
    }

    fn url(&self, base: &str, get: &Get<'_>) -> Result<Url, RegistryError> {
        Url::parse(&format!("{base}{}", get.path))
            .map_err(|error| RegistryError::Setup { host: self.host.clone(), what: error.to_string() })
    }

    fn follow(&self, base: &str, get: &Get<'_>) -> Result<Response, Failed> {
        let registry = self.url(base, get)?;
        let mut url = registry.clone();
        let (mut own, mut logged_in, mut hops) = (true, false, 0);
        loop {
            let mut headers = get.headers.clone();
            if own && let Some(Secret(value)) = self.authorization() {
                headers.insert(
                    AUTHORIZATION,
                    secret_header(&value).ok_or_else(|| self.login_failed("its token is no text"))?,
                );
            }
            let response = match get.head_only {
                true => self.transport.send_head(&url, headers, &get.what)?,
                false => self.transport.send(&url, headers, &get.what)?,
            };
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status.is_redirection() {
                hops += 1;
                let to = self.redirect(&url, &response, hops)?;
                // Once away, credentials stay away, even if the way leads back.
                own &= to.origin() == url.origin();
                url = to;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && own {
                let challenge = challenge(&response);
                if !logged_in {
                    logged_in = true;
                    self.log_in(challenge, &registry, get.repository)?;
                    continue;
                }
                if let (Some(Challenge::Basic), Ok(Some(login))) = (challenge, self.credentials.get()) {
                    return Err(self.wrong_password(login).into());
                }
            }
            if let (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(what)) = (status, self.credentials.trouble())
            {
                return Err(self.login_failed(what).into());
            }
            return Err(self.status(response, &url, &get.what, get.repository));
        }
    }

    fn redirect(&self, from: &Url, response: &Response, hops: usize) -> Result<Url, RegistryError> {
        let refused = |what: String| RegistryError::Redirect { host: self.host.clone(), what };
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let mut to = location.and_then(|text| from.join(text).ok()).ok_or_else(|| refused("to no place".into()))?;
        if hops > MAX_HOPS {
            return Err(refused(format!("more than {MAX_HOPS} times")));
        }
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(refused(format!("from https to {}, which is not followed", to.scheme())));
        }
        if !self.transport.may_ask(&to) {
            return Err(refused(format!("to {}://{}, which is not allowed", to.scheme(), host_of(&to))));
        }
        // A name and a password in a URL would become an Authorization header.
        let cleared = to.set_username("").and_then(|()| to.set_password(None));
        cleared.map_err(|()| refused("to no place".into()))?;
        Ok(to)
    }

    /// The error of an answer whose status is none of success.
    fn status(&self, response: Response, url: &Url, what: &str, repository: &str) -> Failed {
        let status = response.status().as_u16();
        let host = host_of(url);
        let wait = retry_after(response.headers(), SystemTime::now());
        let limit = self.transport.limits.retry_after;
        if let Some(wait) = wait.filter(|wait| *wait > limit && super::error::is_busy(status)) {
            let what = what.to_owned();
            return RegistryError::Busy { host, status, what, wait, limit }.into();
        }
        // The detail is a courtesy; the status says enough.
        let body = Body::new(response, &self.transport.limits).read_all(&host, what, MAX_ERROR_BYTES);
        let detail = detail(&body.unwrap_or_default());
        let (what, repository) = (what.to_owned(), repository.to_owned());
        Failed { error: RegistryError::Status { host, status, detail, what, repository }, wait }
    }

    fn log_in(&self, challenge: Option<Challenge>, registry: &Url, repository: &str) -> Result<(), Failed> {
        let value = match challenge.ok_or_else(|| self.unknown_way())? {
            Challenge::Basic => match self.credentials.get().map_err(|what| self.login_failed(what))? {
                Some(Login::Password(password)) => basic(password),
                found => {
                    let wants = "it wants a user and a password";
                    let has = if found.is_some() { ", and there is only an identity token" } else { "" };
                    let command = format!("`udocker login --registry=https://{}` stores them", self.host);
                    return Err(self.login_failed(&format!("{wants}{has}; {command}")).into());
                }
            },
            Challenge::Bearer { realm, service, scope } => {
                let mut url = self.realm(&realm, registry)?;
                let fallback = (!repository.is_empty()).then(|| format!("repository:{repository}:pull"));
                let fields: Vec<_> = [("service", service), ("scope", scope.or(fallback))]
                    .into_iter()
                    .filter_map(|(n, v)| Some((n, v?)))
                    .collect();
                // Without credentials a token for everybody may do; what stopped them is told if it does not.
                let login = self.credentials.get().ok().flatten();
                if login.is_some() {
                    self.check_token_server(&url)?;
                }
                let response = match login {
                    Some(Login::Identity(Secret(token))) => {
                        let own = [("grant_type", "refresh_token"), ("client_id", "udocker"), ("refresh_token", token)];
                        let fields = fields.iter().map(|(name, value)| (*name, value.as_str())).chain(own);
                        self.transport.send_form(&url, fields, "a token")?
                    }
                    _ => {
                        let mut headers = HeaderMap::new();
                        url.query_pairs_mut().extend_pairs(&fields);
                        if let Some(login @ Login::Password(password)) = login {
                            url.query_pairs_mut().append_pair("account", login.user());
                            let value = secret_header(&basic(password)).expect("base64 is a header's text");
                            headers.insert(AUTHORIZATION, value);
                        }
                        self.transport.send(&url, headers, "a token")?
                    }
                };
                self.token(response, &url, login, repository)?
            }
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(Secret(value));
        Ok(())
    }

    /// The URL of a token server. A password never goes in clear to a host that an answer chose.
    fn realm(&self, realm: &str, registry: &Url) -> Result<Url, RegistryError> {
        let shown = printable(realm);
        let url = Url::parse(realm).map_err(|_| self.login_failed(&format!("its token server `{shown}` is no URL")))?;
        if url.scheme() != "https" && url.origin() != registry.origin() {
            let what = format!("its token server {shown} is neither https nor the registry itself");
            return Err(self.login_failed(&what));
        }
        Ok(url)
    }

    /// Refuses another token server than the one that the login saw.
    fn check_token_server(&self, url: &Url) -> Result<(), RegistryError> {
        match &self.credentials.token_server {
            Some(pinned) if *pinned != host_of(url) => {
                let command = format!("`udocker login --registry=https://{}` allows that", self.host);
                let what = format!("its token server was {pinned} and is now {}; {command}", host_of(url));
                Err(self.login_failed(&what))
            }
            _ => Ok(()),
        }
    }

    /// The Authorization that the token server gave.
    fn token(&self, response: Response, url: &Url, login: Option<&Login>, repository: &str) -> Result<String, Failed> {
        let status = response.status();
        if let (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(login)) = (status, login) {
            return Err(self.wrong_password(login).into());
        }
        if !status.is_success() {
            return Err(self.status(response, url, "a token", repository));
        }
        let body = Body::new(response, &self.transport.limits);
        let bytes = body.read_all(&host_of(url), "the token", MAX_TOKEN_BYTES)?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| self.login_failed("its token is unreadable"))?;
        let token = token.token.filter(|token| !token.is_empty()).or(token.access_token);
        Ok(format!("Bearer {}", token.ok_or_else(|| self.login_failed("its token server sent none"))?))
    }

    fn authorization(&self) -> Option<Secret> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn login_failed(&self, what: &str) -> RegistryError {
        RegistryError::Login { host: self.host.clone(), what: what.to_owned() }
    }

    fn unknown_way(&self) -> RegistryError {
        self.login_failed("it asks for no way of logging in that is known (Basic, Bearer)")
    }

    fn wrong_password(&self, login: &Login) -> RegistryError {
        RegistryError::Password { host: self.host.clone(), user: printable(login.user()) }
    }
}

/// An Authorization with `user:password`.
fn basic(Secret(text): &Secret) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn challenge(response: &Response) -> Option<Challenge> {
    let values = response.headers().get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()).find_map(parse_challenge)
}

/// A header that debug output hides; `None` if `value` cannot be one.
fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(value).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Whether the answer looks as if `base` had the wrong scheme. Servers with TLS answer plain http by 400.
fn other_scheme_may_help(base: &str, error: &RegistryError) -> bool {
    match error {
        RegistryError::Unreachable { why, .. } => *why != Unreached::Name,
        RegistryError::Status { status: 400, .. } => base.starts_with("http:"),
        _ => false,
    }
}
