//! Searching: Docker Hub's API, the older one of version 1, and, where there is neither, the catalogue of a registry.
//!
//! ```text
//! /v2/search/repositories?query=E&page_size=N&page=P   results, next         hub.docker.com
//! /v1/search?q=E&page=P                                results, num_pages    index.docker.io/v1 and others
//! /v2/_catalog?n=N                                     names only; those that contain E are taken
//! ```

use reqwest::Url;
use serde::Deserialize;
use udocker_core::reference::RegistryHost;
use udocker_core::settings::RegistrySettings;

use super::client::Client;
use super::error::RegistryError;
use super::limits::Limits;
use super::lists::{Catalogue, catalogue_path};
use super::session::Session;

/// One repository.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// Its name within the registry.
    pub name: String,
    /// Whether the index calls it official.
    pub official: bool,
    /// What its owner says of it.
    pub description: String,
    /// How many users like it, if the API tells.
    pub stars: Option<u64>,
}

/// Where to search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Searched {
    /// An index, by its URL; with `/v1` at its end, by the older API.
    Index(String),
    /// A registry.
    Registry(RegistryHost),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    V2,
    V1,
    Catalogue,
}

/// A search under way.
#[derive(Debug)]
pub struct Search {
    client: Client,
    api: Api,
    /// Before the API's own path.
    prefix: String,
    expression: String,
    page_size: usize,
    /// The pages that came.
    page: usize,
    /// Where the catalogue goes on.
    link: Option<String>,
    /// The first page, which told that the API is there.
    first: Option<Vec<Found>>,
    ended: bool,
}

#[derive(Deserialize)]
struct Page {
    results: Vec<Repository>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    num_pages: Option<usize>,
}

#[derive(Deserialize)]
struct Repository {
    name: Option<String>,
    repo_name: Option<String>,
    description: Option<String>,
    short_description: Option<String>,
    is_official: Option<bool>,
    star_count: Option<u64>,
}

impl From<Repository> for Found {
    fn from(repository: Repository) -> Self {
        Self {
            name: repository.name.or(repository.repo_name).unwrap_or_default(),
            official: repository.is_official.unwrap_or_default(),
            description: repository.description.or(repository.short_description).unwrap_or_default(),
            stars: repository.star_count,
        }
    }
}

impl Search {
    /// Starts a search in the first of `places` that has an API for it; `page_size` is a wish.
    ///
    /// # Errors
    /// Of a place that was not reached, if none has an API; else of the API that was tried last.
    pub fn start(
        settings: &RegistrySettings,
        places: &[Searched],
        expression: &str,
        page_size: usize,
    ) -> Result<Self, RegistryError> {
        let (mut unreached, mut last) = (None, None);
        'places: for place in places {
            let (client, prefix, apis) = open(settings, place)?;
            for api in apis {
                let mut search = Self {
                    client: client.clone(),
                    api: *api,
                    prefix: prefix.clone(),
                    expression: expression.to_owned(),
                    page_size,
                    page: 0,
                    link: Some(catalogue_path()),
                    first: None,
                    ended: false,
                };
                match search.ask() {
                    Ok(page) => return Ok(Self { first: Some(page), ..search }),
                    Err(error) if is_no_such_api(&error) => last = Some(error),
                    // The index of the world may lie beyond a firewall, and the registry within.
                    Err(error @ (RegistryError::Unreachable { .. } | RegistryError::Silent { .. })) => {
                        unreached.get_or_insert(error);
                        continue 'places;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(unreached.or(last).expect("there is at least one place, and an API to try there"))
    }

    /// The next page; `None` after the last. A page may be empty.
    ///
    /// # Errors
    /// Of the network.
    pub fn next_page(&mut self) -> Result<Option<Vec<Found>>, RegistryError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None if self.ended => Ok(None),
            None => self.ask().map(Some),
        }
    }

    fn ask(&mut self) -> Result<Vec<Found>, RegistryError> {
        self.page += 1;
        if self.api == Api::Catalogue {
            return self.ask_catalogue();
        }
        let path = self.path();
        let (page, _) = self.client.inner().page::<Page>(path, "", "a search")?;
        self.ended = match self.api {
            Api::V1 => page.num_pages.is_none_or(|pages| self.page >= pages),
            _ => page.next.is_none_or(|next| next.is_empty()),
        } || page.results.is_empty();
        Ok(page.results.into_iter().map(Found::from).collect())
    }

    fn ask_catalogue(&mut self) -> Result<Vec<Found>, RegistryError> {
        let Some(path) = self.link.take() else { return Ok(Vec::new()) };
        let (page, link) = self.client.inner().page::<Catalogue>(path, "", "the catalogue")?;
        let names = page.repositories.unwrap_or_default();
        self.link = link.filter(|_| !names.is_empty());
        self.ended = self.link.is_none();
        let fits = |name: &String| name.contains(&self.expression);
        let found = |name| Found { name, official: false, description: String::new(), stars: None };
        Ok(names.into_iter().filter(fits).map(found).collect())
    }

    fn path(&self) -> String {
        let all = if self.expression.is_empty() { "*" } else { &self.expression };
        let page = self.page.to_string();
        let size = self.page_size.to_string();
        let (path, pairs) = match self.api {
            Api::V1 if self.expression.is_empty() => ("/v1/search", vec![("page", &*page)]),
            Api::V1 => ("/v1/search", vec![("q", &*self.expression), ("page", &*page)]),
            _ if self.page == 1 => ("/v2/search/repositories", vec![("query", all), ("page_size", &*size)]),
            _ => ("/v2/search/repositories", vec![("query", all), ("page_size", &*size), ("page", &*page)]),
        };
        let mut url = Url::parse("http://host/").expect("a constant URL parses");
        url.query_pairs_mut().extend_pairs(pairs);
        format!("{}{path}?{}", self.prefix, url.query().unwrap_or_default())
    }
}

/// A client of `place`, the path before its APIs, and which of them to try.
fn open(settings: &RegistrySettings, place: &Searched) -> Result<(Client, String, &'static [Api]), RegistryError> {
    let index = match place {
        Searched::Registry(host) => {
            return Ok((Client::new(settings, host)?, String::new(), &[Api::V2, Api::V1, Api::Catalogue]));
        }
        Searched::Index(index) => index,
    };
    // What stands before an `@` may be a password.
    let shown = index.rsplit('@').next().unwrap_or_default();
    let wrong = |what: &str| RegistryError::Setup { host: shown.escape_debug().collect(), what: what.to_owned() };
    let text = if index.contains("://") { index.clone() } else { format!("https://{index}") };
    let url = Url::parse(&text).map_err(|error| wrong(&error.to_string()))?;
    let host = host_of_index(&url).ok_or_else(|| wrong("an index is an http or https URL of a host"))?;
    let session = Session::of_scheme(settings, url.scheme(), &host, Limits::default())?;
    let path = url.path().trim_end_matches('/');
    let (prefix, apis): (_, &[Api]) = match path.strip_suffix("/v1") {
        Some(prefix) => (prefix, &[Api::V1]),
        None => (path, &[Api::V2, Api::V1]),
    };
    Ok((Client::of_session(settings, session), prefix.to_owned(), apis))
}

fn host_of_index(url: &Url) -> Option<RegistryHost> {
    let known = matches!(url.scheme(), "http" | "https");
    known.then(|| super::transport::host_of(url).parse().ok()).flatten()
}

/// Whether the answer is that of a server which has another API, or none.
fn is_no_such_api(error: &RegistryError) -> bool {
    match error {
        RegistryError::Status { status, .. } => matches!(status, 400..=499) && *status != 429,
        RegistryError::Unreadable { .. } => true,
        _ => false,
    }
}
