//! One exchange with one URL: TLS, certificates, proxies and the limits in time.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, NoProxy, Proxy, Url};
use udocker_core::reference::RegistryHost;
use udocker_core::settings::RegistrySettings;

use super::auth::Secret;
use super::error::{NO_CERTIFICATES, RegistryError, Unreached};
use super::limits::Limits;

/// Largest headers of an answer, in bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Transport {
    insecure: Vec<RegistryHost>,
    insecure_all: bool,
    /// A URL, which may hold a password.
    proxy: Option<Secret>,
    certificates: Vec<Certificate>,
    clients: Mutex<HashMap<Route, Http>>,
    pub(super) limits: Limits,
}

/// What of a connection depends on its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Route {
    /// Without a proxy.
    direct: bool,
    /// Whatever the certificate says.
    lenient: bool,
}

impl Transport {
    /// `registry` chooses among the certificates of `ca_dir`; they then also vouch for where it redirects to, and for its
    /// token server.
    pub(super) fn new(
        settings: &RegistrySettings,
        registry: &RegistryHost,
        limits: Limits,
    ) -> Result<Self, RegistryError> {
        // Fails only if another part of this process chose a provider before; then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = match &settings.ca_dir {
            Some(directory) => certificates(directory, registry)
                .map_err(|what| RegistryError::Setup { host: registry.to_string(), what })?,
            None => Vec::new(),
        };
        Ok(Self {
            insecure: settings.insecure.clone(),
            insecure_all: settings.insecure_all,
            proxy: settings.proxy.clone().map(Secret),
            certificates,
            clients: Mutex::default(),
            limits,
        })
    }

    /// Whether `url` may be asked by plain http, or with a certificate that does not verify.
    fn is_listed(&self, url: &Url) -> bool {
        let host: Option<RegistryHost> = host_of(url).parse().ok();
        self.insecure_all || host.is_some_and(|host| self.insecure.contains(&host))
    }

    /// Whether `url` may be asked at all.
    pub(super) fn may_ask(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => is_loopback(url) || self.is_listed(url),
            _ => false,
        }
    }

    /// Asks `url` once; the answer has any status.
    pub(super) fn send(&self, url: &Url, headers: HeaderMap, what: &str) -> Result<Response, RegistryError> {
        self.exchange(url, what, |http| http.get(url.clone()).headers(headers))
    }

    /// The same without the body of the answer.
    pub(super) fn send_head(&self, url: &Url, headers: HeaderMap, what: &str) -> Result<Response, RegistryError> {
        self.exchange(url, what, |http| http.head(url.clone()).headers(headers))
    }

    /// Posts a form to `url` once; the answer has any status.
    pub(super) fn send_form<'a>(
        &self,
        url: &Url,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
        what: &str,
    ) -> Result<Response, RegistryError> {
        // A form is written as a query is.
        let mut form = url.clone();
        form.query_pairs_mut().clear().extend_pairs(fields);
        let body = form.query().unwrap_or_default().to_owned();
        let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.exchange(url, what, |http| http.post(url.clone()).header(CONTENT_TYPE, content_type).body(body))
    }

    fn exchange(
        &self,
        url: &Url,
        what: &str,
        request: impl FnOnce(&Http) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let host = host_of(url);
        let route = Route { direct: is_loopback(url), lenient: self.is_listed(url) };
        let http = self.client(route).map_err(|what| RegistryError::Setup { host: host.clone(), what })?;
        let response = request(&http).send().map_err(|source| {
            if source.is_timeout() && !source.is_connect() {
                return RegistryError::Silent { host: host.clone(), what: what.to_owned(), limit: self.limits.silence };
            }
            RegistryError::Unreachable { host: host.clone(), why: Unreached::of(&source), source: innermost(&source) }
        })?;
        let bytes: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes > MAX_HEADER_BYTES {
            let what = format!("the head of the answer for {what}");
            return Err(RegistryError::TooLarge { host, what, limit: MAX_HEADER_BYTES as u64 });
        }
        Ok(response)
    }

    fn client(&self, route: Route) -> Result<Http, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&route) {
            return Ok(client.clone());
        }
        let mut builder = Http::builder()
            .connect_timeout(self.limits.connect)
            // Of this client, it limits the wait for the headers and each wait for a piece of the body.
            .timeout(self.limits.silence)
            .redirect(reqwest::redirect::Policy::none())
            .danger_accept_invalid_certs(route.lenient)
            .user_agent(concat!("udocker/", env!("CARGO_PKG_VERSION")));
        builder = match &self.proxy {
            _ if route.direct => builder.no_proxy(),
            Some(Secret(url)) => {
                let proxy = Proxy::all(url).map_err(|error| format!("the proxy's URL: {error}"))?;
                builder.proxy(proxy.no_proxy(NoProxy::from_env()))
            }
            None => builder,
        };
        for certificate in &self.certificates {
            builder = builder.add_root_certificate(certificate.clone());
        }
        let client = builder.build().map_err(|error| match innermost(&error).to_string() {
            // rustls-platform-verifier has no kind for it.
            text if text.contains("No CA certificates") => NO_CERTIFICATES.to_owned(),
            text => text,
        })?;
        clients.insert(route, client.clone());
        Ok(client)
    }
}

/// `host[:port]` of a URL, the port only where it is not the scheme's.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_loopback(url: &Url) -> bool {
    host_of(url).parse::<RegistryHost>().is_ok_and(|host| host.is_loopback())
}

/// The certificates (PEM) of the files in `directory`, for all registries, and in `directory/HOST[:PORT]`, whose `*.crt`
/// are as in `certs.d` of other engines.
fn certificates(directory: &Path, registry: &RegistryHost) -> Result<Vec<Certificate>, String> {
    let own = directory.join(registry.as_str());
    let mut files = files_of(directory)?;
    if own.is_dir() {
        files.extend(files_of(&own)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "crt")));
    }
    let mut found = Vec::new();
    for path in files {
        let cannot =
            |error: &dyn std::fmt::Display| format!("cannot use the certificates of {}: {error}", path.display());
        let pem = fs::read(&path).map_err(|error| cannot(&error))?;
        found.extend(Certificate::from_pem_bundle(&pem).map_err(|error| cannot(&error))?);
    }
    Ok(found)
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn innermost(error: &dyn std::error::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string().into(),
    }
}
