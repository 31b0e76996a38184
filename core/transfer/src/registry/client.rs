//! Requests, with login, repetition, redirects and resumption.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use udocker_core::digest::Digest;
use udocker_core::error::Explain;
use udocker_core::manifest::{DOCUMENT_MEDIA_TYPES, Descriptor, Document, MAX_MANIFEST_BYTES};
use udocker_core::reference::{RegistryHost, is_docker_hub};
use udocker_core::settings::RegistrySettings;

use super::auth::{Challenge, Secret, credentials, parse_challenge};
use super::error::{RegistryError, detail};

const HUB_ENDPOINT: &str = "registry-1.docker.io";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
const MAX_HOPS: usize = 5;
const MAX_TOKEN_BYTES: u64 = 64 << 10;
const MAX_ERROR_BYTES: u64 = 16 << 10;

/// A manifest as it came.
#[derive(Debug)]
pub struct FetchedManifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The SHA-256 of its bytes, or the digest that was asked for.
    pub digest: Digest,
    /// What it says.
    pub document: Document,
}

/// A client of one registry; shared by threads.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Http,
    /// `https://host[:port]`, and after it what plain http is tried at, if that is allowed.
    bases: Vec<String>,
    host: String,
    login: Option<Secret>,
    authorization: Mutex<Option<Secret>>,
    retries: u32,
    backoff: Duration,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Client {
    /// A client of `host`; asks nothing yet.
    pub fn new(settings: &RegistrySettings, host: &RegistryHost) -> Result<Self, RegistryError> {
        let shown = host.to_string();
        let failed = |what: String| RegistryError::Setup { host: shown.clone(), what };
        // Fails only if another part of this process chose a provider before; then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let insecure = settings.insecure_all || settings.insecure.contains(host);
        let mut builder = Http::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(None)
            .redirect(reqwest::redirect::Policy::none())
            .danger_accept_invalid_certs(insecure)
            .user_agent(concat!("udocker/", env!("CARGO_PKG_VERSION")));
        builder = match &settings.proxy {
            _ if host.is_loopback() => builder.no_proxy(),
            Some(url) => builder.proxy(reqwest::Proxy::all(url).map_err(|error| failed(error.to_string()))?),
            None => builder,
        };
        for certificate in
            settings.ca_dir.iter().flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten())
        {
            let pem = std::fs::read(certificate.path()).unwrap_or_default();
            for certificate in reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default() {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http = builder.build().map_err(|error| failed(error.to_string()))?;
        let endpoint = if is_docker_hub(host) { HUB_ENDPOINT } else { host.as_str() };
        let (plain, tls) = (format!("http://{endpoint}"), format!("https://{endpoint}"));
        let bases = match (host.is_loopback(), insecure) {
            (true, _) => vec![plain, tls],
            (false, true) => vec![tls, plain],
            (false, false) => vec![tls],
        };
        let login = match &settings.keystore {
            Some(keystore) => {
                credentials(keystore, host).map_err(|what| RegistryError::Login { host: shown.clone(), what })?
            }
            None => None,
        };
        Ok(Self(Arc::new(Inner {
            http,
            bases,
            host: shown,
            login,
            authorization: Mutex::default(),
            retries: settings.retries,
            backoff: settings.backoff,
        })))
    }

    /// The manifest or index that `selector` (a tag or a digest) names.
    ///
    /// # Errors
    /// [`RegistryError::Digest`] if a digest was asked for and other bytes came.
    pub fn manifest(&self, repository: &str, selector: &str) -> Result<FetchedManifest, RegistryError> {
        let what = match selector.contains(':') {
            true => format!("manifest {selector}"),
            false => format!("tag `{selector}`"),
        };
        let accept = DOCUMENT_MEDIA_TYPES.join(", ");
        let path = format!("/v2/{repository}/manifests/{selector}");
        let response = self.0.get(&path, repository, &what, &|request| request.header(ACCEPT, &accept))?;
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(ToOwned::to_owned);
        let bytes = self.0.read_all(response, &what, MAX_MANIFEST_BYTES)?;
        let digest = Digest::sha256_of(&bytes);
        if let Ok(expected) = selector.parse::<Digest>()
            && expected != digest
        {
            return Err(RegistryError::Digest { host: self.0.host.clone(), expected, actual: digest });
        }
        let document = Document::parse(content_type.as_deref(), &bytes)?;
        Ok(FetchedManifest { bytes, digest, document })
    }

    /// A blob of at most `limit` bytes, verified.
    pub fn small_blob(&self, repository: &str, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let what = format!("blob {}", descriptor.digest);
        if descriptor.size > limit {
            return Err(RegistryError::TooLarge { host: self.0.host.clone(), what, limit });
        }
        let path = format!("/v2/{repository}/blobs/{}", descriptor.digest);
        let response = self.0.get(&path, repository, &what, &|request| request)?;
        let bytes = self.0.read_all(response, &what, descriptor.size)?;
        let actual = Digest::sha256_of(&bytes);
        if actual != descriptor.digest {
            let expected = descriptor.digest.clone();
            return Err(RegistryError::Digest { host: self.0.host.clone(), expected, actual });
        }
        Ok(bytes)
    }

    /// A reader of a blob; it takes up a stream that broke off. Not verified: never more than the descriptor's bytes,
    /// and fewer are an error (a [`RegistryError`] inside [`io::Error::other`]).
    pub fn blob(&self, repository: &str, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, RegistryError> {
        let mut stream = BlobStream {
            client: self.clone(),
            repository: repository.to_owned(),
            descriptor: descriptor.clone(),
            position: 0,
            failures: 0,
            body: None,
        };
        stream.connect()?;
        Ok(Box::new(stream))
    }
}

impl Inner {
    /// A GET that is repeated, with login and redirects; the answer has a status of success.
    fn get(
        &self,
        path: &str,
        repository: &str,
        what: &str,
        prepare: &dyn Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let mut attempt = 0;
        loop {
            let (error, wait) = match self.get_once(path, repository, what, prepare) {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            attempt += 1;
            let wait = wait.unwrap_or_else(|| self.pause(attempt));
            if !error.is_retryable() || attempt > self.retries || wait > LONGEST_RETRY_AFTER || refused(&error) {
                return Err(error);
            }
            std::thread::sleep(wait);
        }
    }

    /// Doubling pauses with full jitter.
    fn pause(&self, attempt: u32) -> Duration {
        let mut random = [0; 2];
        // Without random bytes the pause is only less jittered.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let longest = self.backoff.saturating_mul(1 << attempt.min(6));
        longest.mul_f64(f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX))
    }

    fn get_once(
        &self,
        path: &str,
        repository: &str,
        what: &str,
        prepare: &dyn Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, (RegistryError, Option<Duration>)> {
        let mut last = None;
        for base in &self.bases {
            let url = Url::parse(&format!("{base}{path}"))
                .map_err(|error| (RegistryError::Setup { host: self.host.clone(), what: error.to_string() }, None))?;
            match self.follow(url, repository, what, prepare) {
                Err((error @ RegistryError::Unreachable { .. }, _)) => last = Some(last.unwrap_or(error)),
                other => return other,
            }
        }
        Err((last.expect("there is at least one base"), None))
    }

    fn follow(
        &self,
        first: Url,
        repository: &str,
        what: &str,
        prepare: &dyn Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, (RegistryError, Option<Duration>)> {
        let mut url = first.clone();
        let mut logged_in = false;
        let mut hops = 0;
        loop {
            let mut request = prepare(self.http.get(url.clone()));
            let own = url.origin() == first.origin();
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let (true, Some(Secret(value))) = (own, authorization) {
                request = request.header(AUTHORIZATION, value);
            }
            let response = request.send().map_err(|error| (self.unreachable(error), None))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status.is_redirection() {
                hops += 1;
                url = self.redirect(&url, &response, hops).map_err(|error| (error, None))?;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && own && !logged_in {
                logged_in = true;
                self.log_in(&response, &first, repository).map_err(|error| (error, None))?;
                continue;
            }
            let wait = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|v| v.to_str().ok()?.parse().ok())
                .map(Duration::from_secs);
            let mut body = Vec::new();
            // The detail is a courtesy; the status says enough.
            let _ = response.take(MAX_ERROR_BYTES).read_to_end(&mut body);
            let mut detail = detail(&body);
            if let Some(wait) = wait.filter(|wait| *wait > LONGEST_RETRY_AFTER) {
                detail.push_str(&format!(" (and asks to wait {} s)", wait.as_secs()));
            }
            let error = RegistryError::Status {
                host: self.host.clone(),
                status: status.as_u16(),
                detail,
                what: what.to_owned(),
                repository: repository.to_owned(),
            };
            return Err((error, wait));
        }
    }

    fn redirect(&self, from: &Url, response: &Response, hops: usize) -> Result<Url, RegistryError> {
        let refused = |what: String| RegistryError::Redirect { host: self.host.clone(), what };
        let location = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let to = location.and_then(|text| from.join(text).ok()).ok_or_else(|| refused("to no place".into()))?;
        if hops > MAX_HOPS {
            return Err(refused(format!("more than {MAX_HOPS} times")));
        }
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(refused(format!("from https to {}, which is not followed", to.scheme())));
        }
        Ok(to)
    }

    fn log_in(&self, response: &Response, registry: &Url, repository: &str) -> Result<(), RegistryError> {
        let failed = |what: String| RegistryError::Login { host: self.host.clone(), what };
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let challenge = challenges.filter_map(parse_challenge).next();
        let basic = self.login.as_ref().map(|Secret(text)| {
            use base64::Engine as _;
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
        });
        let value = match challenge {
            None => return Err(failed("it asks for no way of logging in that is known (Basic, Bearer)".into())),
            Some(Challenge::Basic) => basic.ok_or_else(|| {
                failed(format!(
                    "it wants a user and a password; `udocker login --registry=https://{}` stores them",
                    self.host
                ))
            })?,
            Some(Challenge::Bearer { realm, service, scope }) => {
                let mut url =
                    Url::parse(&realm).map_err(|_| failed(format!("its token server `{realm}` is no URL")))?;
                // A password never goes in clear to a host that the answer chose.
                if url.scheme() != "https" && url.origin() != registry.origin() {
                    return Err(failed(format!("its token server {realm} is neither https nor the registry itself")));
                }
                let scope = scope.unwrap_or_else(|| format!("repository:{repository}:pull"));
                url.query_pairs_mut().extend_pairs(service.iter().map(|s| ("service", s))).append_pair("scope", &scope);
                let mut request = self.http.get(url);
                if let Some(basic) = basic {
                    request = request.header(AUTHORIZATION, basic);
                }
                let answer = request.send().map_err(|error| self.unreachable(error))?;
                if !answer.status().is_success() {
                    return Err(failed(format!("its token server answered {}", answer.status().as_u16())));
                }
                let bytes = self.read_all(answer, "the token", MAX_TOKEN_BYTES)?;
                let token: Token =
                    serde_json::from_slice(&bytes).map_err(|_| failed("its token is unreadable".into()))?;
                let token =
                    token.token.or(token.access_token).ok_or_else(|| failed("its token server sent none".into()))?;
                format!("Bearer {token}")
            }
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(Secret(value));
        Ok(())
    }

    fn read_all(&self, response: Response, what: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let size = response.content_length();
        let mut bytes = Vec::new();
        let read = response.take(limit + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > limit {
            return Err(RegistryError::TooLarge { host: self.host.clone(), what: what.to_owned(), limit });
        }
        if read.is_err() || size.is_some_and(|size| size != bytes.len() as u64) {
            let (got, size) = (bytes.len() as u64, size.unwrap_or(limit));
            return Err(RegistryError::Truncated { host: self.host.clone(), what: what.to_owned(), got, size });
        }
        Ok(bytes)
    }

    fn unreachable(&self, source: reqwest::Error) -> RegistryError {
        RegistryError::Unreachable { host: self.host.clone(), source: source.without_url() }
    }
}

/// Nobody listens, or nobody has that name: repeating helps nobody.
fn refused(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Unreachable { source, .. } if source.is_connect())
}

struct BlobStream {
    client: Client,
    repository: String,
    descriptor: Descriptor,
    position: u64,
    failures: u32,
    body: Option<Response>,
}

impl BlobStream {
    /// Opens the stream at `position`.
    fn connect(&mut self) -> Result<(), RegistryError> {
        let what = format!("blob {}", self.descriptor.digest);
        let path = format!("/v2/{}/blobs/{}", self.repository, self.descriptor.digest);
        let position = self.position;
        let mut response = self.client.0.get(&path, &self.repository, &what, &|request| match position {
            0 => request,
            _ => request.header(RANGE, format!("bytes={position}-")),
        })?;
        // A server without ranges sends all again: what we have is skipped.
        if position > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            let skipped = io::copy(&mut (&mut response).take(position), &mut io::sink()).unwrap_or(0);
            if skipped != position {
                return Err(self.truncated());
            }
        }
        self.body = Some(response);
        Ok(())
    }

    fn truncated(&self) -> RegistryError {
        RegistryError::Truncated {
            host: self.client.0.host.clone(),
            what: format!("blob {}", self.descriptor.digest),
            got: self.position,
            size: self.descriptor.size,
        }
    }
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.descriptor.size - self.position;
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let limit = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        loop {
            if self.body.is_none() {
                self.connect().map_err(io::Error::other)?;
            }
            let body = self.body.as_mut().expect("connected above");
            match body.read(&mut buffer[..limit]) {
                Ok(count) if count > 0 => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    self.body = None;
                    self.failures += 1;
                    if self.failures > self.client.0.retries {
                        return Err(io::Error::other(self.truncated()));
                    }
                    std::thread::sleep(self.client.0.pause(self.failures));
                }
            }
        }
    }
}
