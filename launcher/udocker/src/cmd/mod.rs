//! One file per command: its options, and one `run`.

use std::process::ExitCode;

use udocker_core::error::Failure;
use udocker_core::reference::{RegistryHost, is_docker_hub};
use udocker_core::settings::{RegistrySettings, Settings};

pub mod clone;
pub mod create;
pub mod doctor;
pub mod exec;
pub mod export;
pub mod images;
pub mod import;
pub mod inspect;
pub mod install;
pub mod load;
pub mod login;
pub mod logout;
pub mod manifest;
pub mod mkrepo;
pub mod name;
pub mod protect;
pub mod ps;
pub mod pull;
pub mod rename;
pub mod resolve;
pub mod rm;
pub mod rmi;
pub mod rmname;
pub mod run;
pub mod save;
pub mod search;
pub mod setup;
pub mod showconf;
pub mod site;
pub mod stage;
pub mod tag;
pub mod unprotect;
pub mod verify;
pub mod version;

/// What a command ends with: a status, or an error that the caller reports.
pub type Outcome = Result<ExitCode, Failure>;

/// Options of everything that asks a registry.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct RegistryArgs {
    /// Search in this index; other commands accept it and ask none.
    #[arg(long, value_name = "URL")]
    pub index: Option<String>,
    /// Ask this registry for names without a host.
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
    /// Ask through this proxy: http, https, socks4, socks4a, socks5 or socks5h://[USER:PASSWORD@]HOST[:PORT].
    #[arg(long, value_name = "PROXY")]
    pub httpproxy: Option<String>,
}

const PROXY_SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

impl RegistryArgs {
    /// `settings` with these options applied.
    pub fn apply(&self, settings: &mut Settings) -> Result<(), Failure> {
        if let Some(url) = given(self.registry.as_deref()) {
            RegistryUrl::parse(url)?.make_default(&mut settings.registries);
        }
        if let Some(url) = given(self.index.as_deref()) {
            settings.registries.index = url.to_owned();
        }
        if let Some(proxy) = given(self.httpproxy.as_deref()) {
            if let Some((scheme, _)) = proxy.split_once("://")
                && !PROXY_SCHEMES.contains(&scheme)
            {
                return Err(crate::refused(&format!("--httpproxy={scheme}://…"), &PROXY_SCHEMES.join(", ")).into());
            }
            settings.registries.proxy = Some(proxy.to_owned());
        }
        Ok(())
    }
}

/// An option's value; an empty one is as none, as for udocker.
pub fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty())
}

/// A registry as users name it: a host, or a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryUrl {
    /// As udocker writes it: what was typed, with `https://` before it if it had no scheme.
    pub url: String,
    /// Whom it names.
    pub host: RegistryHost,
}

impl RegistryUrl {
    /// Reads what a user typed.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let rest = url.strip_prefix("https://").or(url.strip_prefix("http://"));
        let rest = rest.ok_or_else(|| {
            crate::usage_text(&format!("`{text}` is no registry: expected HOST[:PORT] or http[s]://HOST[:PORT]"))
        })?;
        let host = rest.split('/').next().unwrap_or(rest);
        // The text is not shown: it holds a password.
        if host.contains('@') {
            return Err(
                crate::usage_text("a registry's URL has no user and password: `udocker login` takes them").into()
            );
        }
        let host = host.parse().map_err(crate::usage)?;
        Ok(Self { url, host })
    }

    /// The registry of names without a host.
    pub fn default_of(settings: &RegistrySettings) -> Self {
        let host = settings.default.clone();
        let url = match &settings.default_url {
            Some(url) => url.clone(),
            None if is_docker_hub(&host) => "https://registry-1.docker.io".to_owned(),
            None => format!("https://{host}"),
        };
        Self { url, host }
    }

    /// Makes it the registry of names without a host; `http://` allows plain http.
    pub fn make_default(self, settings: &mut RegistrySettings) {
        if self.url.starts_with("http://") {
            settings.insecure.push(self.host.clone());
        }
        settings.default = self.host;
        settings.default_url = Some(self.url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_or_a_url() {
        for (text, url, host) in [
            ("quay.io", "https://quay.io", "quay.io"),
            ("https://quay.io/", "https://quay.io/", "quay.io"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://index.docker.io/v1/", "https://index.docker.io/v1/", "index.docker.io"),
        ] {
            let parsed = RegistryUrl::parse(text).unwrap();
            assert_eq!((&*parsed.url, parsed.host.as_str()), (url, host), "{text}");
        }
        for text in ["", "ftp://x.example", "https://", "a b", "https://me:secret@quay.io"] {
            let error = RegistryUrl::parse(text).unwrap_err().report();
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn the_hub_has_the_key_of_udocker() {
        let settings = RegistrySettings::default();
        assert_eq!(RegistryUrl::default_of(&settings).url, "https://registry-1.docker.io");
    }
}
