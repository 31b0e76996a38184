//! What a registry lists: the tags of a repository, and its repositories (OCI distribution spec, "Listing Tags"; Docker's
//! `_catalog`). Pages follow each other by `Link` headers, on the same host and nowhere else.

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::error::{RegistryError, printable};
use super::repeat::Repeating;
use super::session::Get;

/// Entries that are asked for at a time.
const PAGE_SIZE: usize = 1000;
/// Largest page that is read, in bytes.
const MAX_PAGE_BYTES: u64 = 8 << 20;

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct Catalogue {
    pub(super) repositories: Option<Vec<String>>,
}

impl Client {
    /// The tags of a repository, as the registry orders them.
    ///
    /// # Errors
    /// Of the network; [`RegistryError::Status`] with 404 if there is no such repository.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>, RegistryError> {
        let mut tags = Vec::new();
        let mut next = Some(format!("/v2/{repository}/tags/list?n={PAGE_SIZE}"));
        while let Some(path) = next {
            let (page, link) = self.inner().page::<Tags>(path, repository, &format!("the tags of {repository}"))?;
            let page = page.tags.unwrap_or_default();
            // A page of nothing that promises another could do so for ever.
            next = link.filter(|_| !page.is_empty());
            tags.extend(page);
        }
        Ok(tags)
    }
}

/// The path of the catalogue's first page.
pub(super) fn catalogue_path() -> String {
    format!("/v2/_catalog?n={PAGE_SIZE}")
}

impl Repeating {
    /// One page of JSON, and the path of the next.
    pub(super) fn page<T: DeserializeOwned>(
        &self,
        path: String,
        repository: &str,
        what: &str,
    ) -> Result<(T, Option<String>), RegistryError> {
        let get = Get { path, repository, what: what.to_owned(), headers: HeaderMap::new(), head_only: false };
        let host = || self.session.host.clone();
        self.get(&get, |response| {
            let next = match response.headers().get(LINK).map(|value| next_of(value.as_bytes())) {
                None | Some(None) => None,
                Some(Some(link)) => {
                    let path = follow(response.url(), &link).filter(|path| *path != get.path);
                    let elsewhere =
                        || RegistryError::Link { host: host(), what: what.to_owned(), link: printable(&link) };
                    Some(path.ok_or_else(elsewhere)?)
                }
            };
            let bytes = self.read_all(response, what, MAX_PAGE_BYTES)?;
            let unreadable = |source| RegistryError::Unreadable { host: host(), what: what.to_owned(), source };
            Ok((serde_json::from_slice(&bytes).map_err(unreadable)?, next))
        })
    }
}

/// The target of the link to the next page (RFC 8288): `<URL>; rel="next"`.
fn next_of(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let mut rest = text;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, parameters) = after.split_once('>')?;
        let end = parameters.find('<').unwrap_or(parameters.len());
        let is_next = parameters[..end].split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        if is_next {
            return Some(target.to_owned());
        }
        rest = &parameters[end..];
    }
}

/// The path and the query of `link`, if it lies where `from` does.
fn follow(from: &Url, link: &str) -> Option<String> {
    let to = from.join(link).ok()?;
    let query = to.query().map(|query| format!("?{query}")).unwrap_or_default();
    // A registry behind a proxy may write another scheme; it is not followed there, only its path is taken.
    (to.host_str() == from.host_str()).then(|| format!("{}{query}", to.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page_are_read() {
        for (text, expected) in [
            (r#"</v2/_catalog?last=b&n=2>; rel="next""#, Some("/v2/_catalog?last=b&n=2")),
            (r#"<https://h/a>;rel=next"#, Some("https://h/a")),
            (r#"</first>; rel="prev", </second>; title="x"; rel="next""#, Some("/second")),
            (r#"</first>; rel="prev""#, None),
            ("next", None),
            ("<", None),
        ] {
            assert_eq!(next_of(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn pages_of_other_hosts_are_not_followed() {
        let from = Url::parse("https://h:1/v2/a/tags/list?n=1").unwrap();
        for (link, expected) in [
            ("/v2/a/tags/list?last=x", Some("/v2/a/tags/list?last=x")),
            ("?last=x", Some("/v2/a/tags/list?last=x")),
            ("http://h/v2/b", Some("/v2/b")),
            ("https://other/v2/b", None),
            ("//other/v2/b", None),
        ] {
            assert_eq!(follow(&from, link).as_deref(), expected, "{link}");
        }
    }
}
