//! What is asked of a registry: manifests, small blobs and blob streams.

use std::io::Read;
use std::sync::Arc;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE};
use udocker_core::digest::Digest;
use udocker_core::manifest::{DOCUMENT_MEDIA_TYPES, Descriptor, Document, MAX_MANIFEST_BYTES};
use udocker_core::reference::RegistryHost;
use udocker_core::settings::RegistrySettings;

use super::blob::{BlobStream, blob_request, size_of_whole};
use super::credentials::Credentials;
use super::error::RegistryError;
use super::jws::payload;
use super::limits::Limits;
use super::repeat::Repeating;
use super::session::{Get, Session};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest as it came.
#[derive(Debug)]
pub struct FetchedManifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The digest that was asked for, or that the registry tells, else the SHA-256 of the bytes; verified.
    pub digest: Digest,
    /// What it says.
    pub document: Document,
}

/// A client of one registry; shared by threads.
#[derive(Clone, Debug)]
pub struct Client(Arc<Repeating>);

impl Client {
    /// A client of `host` with the default [`Limits`]; asks nothing yet.
    ///
    /// # Errors
    /// See [`Client::with_limits`].
    pub fn new(settings: &RegistrySettings, host: &RegistryHost) -> Result<Self, RegistryError> {
        Self::with_limits(settings, host, Limits::default())
    }

    /// A client of `host`; asks nothing yet.
    ///
    /// # Errors
    /// [`RegistryError::Denied`] by the site's policy, [`RegistryError::Setup`] if a certificate cannot be used.
    pub fn with_limits(
        settings: &RegistrySettings,
        host: &RegistryHost,
        limits: Limits,
    ) -> Result<Self, RegistryError> {
        let credentials = Credentials::stored(settings, host);
        Ok(Self::of_session(settings, Session::new(settings, host, credentials, limits)?))
    }

    pub(super) fn of_session(settings: &RegistrySettings, session: Session) -> Self {
        Self(Arc::new(Repeating::new(settings, session)))
    }

    pub(super) fn inner(&self) -> &Repeating {
        &self.0
    }

    /// The manifest or index that `selector` (a tag or a digest) names.
    ///
    /// # Errors
    /// [`RegistryError::Digest`] if other bytes came than the digest names that was asked for, or that the answer tells.
    pub fn manifest(&self, repository: &str, selector: &str) -> Result<FetchedManifest, RegistryError> {
        let get = manifest_request(repository, selector);
        self.0.get(&get, |response| {
            let text = |name| response.headers().get(name)?.to_str().ok().map(ToOwned::to_owned);
            let content_type = text(CONTENT_TYPE);
            let told = text(CONTENT_DIGEST);
            let bytes = self.0.read_all(response, &get.what, MAX_MANIFEST_BYTES)?;
            let expected = selector.parse().ok().or_else(|| told?.parse().ok());
            let document = Document::parse(content_type.as_deref(), &bytes)?;
            let digest = match (&document, self.0.verify(&bytes, expected.clone())) {
                // Its digest is the payload's; what is not of the payload must not change what the document says.
                (Document::Schema1(_), Err(error)) => match payload(&bytes) {
                    Some(payload) if Document::parse(None, &payload)? == document => {
                        self.0.verify(&payload, expected)?
                    }
                    _ => return Err(error),
                },
                (_, result) => result?,
            };
            Ok(FetchedManifest { bytes, digest, document })
        })
    }

    /// The digest of the manifest or index that `selector` names, as the registry tells it; of one that does not tell (OCI
    /// distribution-spec: it should), as computed from what it has.
    ///
    /// # Errors
    /// Those of [`Client::manifest`].
    pub fn digest(&self, repository: &str, selector: &str) -> Result<Digest, RegistryError> {
        let get = Get { head_only: true, ..manifest_request(repository, selector) };
        let told = self.0.get(&get, |response| {
            let told = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()?.parse().ok());
            Ok(told)
        });
        match told {
            Ok(Some(digest)) => Ok(digest),
            Ok(None) | Err(RegistryError::Status { status: 405, .. }) => {
                Ok(self.manifest(repository, selector)?.digest)
            }
            Err(error) => Err(error),
        }
    }

    /// Bytes of a blob, for manifests that do not tell.
    ///
    /// # Errors
    /// [`RegistryError::Unsized`] if the registry does not tell either.
    pub fn blob_size(&self, repository: &str, digest: &Digest) -> Result<u64, RegistryError> {
        let mut get = blob_request(repository, digest);
        // HEAD would do, but stores behind registries sign their addresses for GET alone.
        get.headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        let size = self.0.get(&get, |response| Ok(size_of_whole(&response)))?;
        size.ok_or_else(|| RegistryError::Unsized { host: self.0.session.host.clone(), what: get.what })
    }

    /// A blob of at most `limit` bytes, verified.
    ///
    /// # Errors
    /// [`RegistryError::TooLarge`], [`RegistryError::Size`] and [`RegistryError::Digest`], beside those of the network.
    pub fn small_blob(&self, repository: &str, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let get = blob_request(repository, &descriptor.digest);
        let host = &self.0.session.host;
        if descriptor.size > limit {
            return Err(RegistryError::TooLarge { host: host.clone(), what: get.what, limit });
        }
        self.0.get(&get, |response| {
            let bytes = self.0.read_all(response, &get.what, descriptor.size)?;
            let actual = bytes.len() as u64;
            if actual != descriptor.size {
                let (host, what, expected) = (host.clone(), get.what.clone(), descriptor.size);
                return Err(RegistryError::Size { host, what, expected, actual });
            }
            self.0.verify(&bytes, Some(descriptor.digest.clone()))?;
            Ok(bytes)
        })
    }

    /// A reader of a blob; it takes up a stream that broke off. Not verified: never more than the descriptor's bytes,
    /// and fewer are an error (a [`RegistryError`] inside [`std::io::Error::other`]).
    ///
    /// # Errors
    /// [`RegistryError::Size`] if the registry announces another size, [`RegistryError::Foreign`] if it has not the blob
    /// and the descriptor names other places.
    pub fn blob(&self, repository: &str, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, RegistryError> {
        Ok(Box::new(BlobStream::open(Arc::clone(&self.0), repository, descriptor)?))
    }
}

fn manifest_request<'a>(repository: &'a str, selector: &str) -> Get<'a> {
    let what = match selector.contains(':') {
        true => format!("manifest {selector}"),
        false => format!("tag `{selector}`"),
    };
    let accept = HeaderValue::from_str(&DOCUMENT_MEDIA_TYPES.join(", ")).expect("media types are header text");
    Get {
        path: format!("/v2/{repository}/manifests/{selector}"),
        repository,
        what,
        headers: HeaderMap::from_iter([(ACCEPT, accept)]),
        head_only: false,
    }
}
