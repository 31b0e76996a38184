//! A blob as a stream that takes up where it broke off (RFC 9110, section 14).

use std::io::{self, Read};
use std::sync::Arc;

use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE};
use reqwest::{StatusCode, header::HeaderMap};
use udocker_core::digest::Digest;
use udocker_core::manifest::Descriptor;

use super::body::{Body, Broken};
use super::error::RegistryError;
use super::repeat::Repeating;
use super::session::Get;

/// Progress after which earlier failures are forgotten, in bytes: a long transfer may break off more often than a short one.
const FORGIVEN_AFTER: u64 = 1 << 20;

pub(super) struct BlobStream {
    client: Arc<Repeating>,
    repository: String,
    descriptor: Descriptor,
    /// Bytes given to the reader.
    position: u64,
    /// Bytes to drop before the next that is given: a server without ranges sends all again.
    skip: u64,
    failures: u32,
    /// `position` when `failures` was last zero or grew.
    failed_at: u64,
    /// A strong validator of the first answer.
    etag: Option<HeaderValue>,
    /// Whether to ask for ranges.
    ranges: bool,
    body: Option<Body>,
}

/// The first byte and, if told, the size of the whole.
type Span = (u64, Option<u64>);

impl BlobStream {
    pub(super) fn open(
        client: Arc<Repeating>,
        repository: &str,
        descriptor: &Descriptor,
    ) -> Result<Self, RegistryError> {
        let mut stream = Self {
            client,
            repository: repository.to_owned(),
            descriptor: descriptor.clone(),
            position: 0,
            skip: 0,
            failures: 0,
            failed_at: 0,
            etag: None,
            ranges: true,
            body: None,
        };
        match stream.connect() {
            Err(RegistryError::Status { status: 404, host, .. }) if !descriptor.urls.is_empty() => {
                Err(RegistryError::Foreign { host, digest: descriptor.digest.clone() })
            }
            result => result.map(|()| stream),
        }
    }

    /// Opens the stream at `position`.
    fn connect(&mut self) -> Result<(), RegistryError> {
        loop {
            let ranged = self.ranges && self.position > 0;
            let (response, span) = match self.ask(ranged) {
                // The range is refused, or another one came: from zero, then.
                Err(RegistryError::Status { status: 416 | 206, .. }) if ranged => {
                    self.ranges = false;
                    continue;
                }
                result => result?,
            };
            let (start, total) = span;
            if let Some(actual) = total.filter(|total| *total != self.descriptor.size) {
                return Err(RegistryError::Size {
                    host: self.client.session.host.clone(),
                    what: self.what(),
                    expected: self.descriptor.size,
                    actual,
                });
            }
            self.skip = self.position - start;
            if self.etag.is_none() {
                self.etag = strong_etag(response.headers());
            }
            self.body = Some(Body::new(response, &self.client.session.transport.limits));
            return Ok(());
        }
    }

    /// Asks for the blob, from `position` if `ranged`; the span of the answer begins there or at zero.
    fn ask(&self, ranged: bool) -> Result<(Response, Span), RegistryError> {
        let mut get = blob_request(&self.repository, &self.descriptor.digest);
        if ranged {
            let range = format!("bytes={}-", self.position).try_into().expect("digits are header text");
            get.headers.insert(RANGE, range);
            get.headers.extend(self.etag.clone().map(|etag| (IF_RANGE, etag)));
        }
        self.client.get(&get, |response| {
            if response.status() != StatusCode::PARTIAL_CONTENT {
                let total = response.content_length();
                return Ok((response, (0, total)));
            }
            match span_of(&response) {
                Some((start, total)) if ranged && start == self.position => Ok((response, (start, total))),
                _ => Err(RegistryError::Status {
                    host: self.client.session.host.clone(),
                    status: StatusCode::PARTIAL_CONTENT.as_u16(),
                    detail: String::new(),
                    what: get.what.clone(),
                    repository: self.repository.clone(),
                }),
            }
        })
    }

    fn what(&self) -> String {
        format!("blob {}", self.descriptor.digest)
    }

    /// Waits before the next attempt; the error if there is none.
    fn failed(&mut self, body: &Body, broken: Broken) -> Result<(), RegistryError> {
        if self.position - self.failed_at >= FORGIVEN_AFTER {
            self.failures = 0;
        }
        self.failed_at = self.position;
        self.failures += 1;
        if self.failures > self.client.retries {
            let host = &self.client.session.host;
            return Err(body.explain(broken, host, &self.what(), self.position, Some(self.descriptor.size)));
        }
        std::thread::sleep(self.client.pause(self.failures));
        Ok(())
    }
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.descriptor.size - self.position;
            if left == 0 || buffer.is_empty() {
                return Ok(0);
            }
            if self.body.is_none() {
                self.connect().map_err(io::Error::other)?;
            }
            let wanted = if self.skip > 0 { self.skip } else { left };
            let limit = buffer.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
            let mut body = self.body.take().expect("connected above");
            match body.read(&mut buffer[..limit]) {
                Ok(0) => self.failed(&body, Broken::Off).map_err(io::Error::other)?,
                Err(broken) => self.failed(&body, broken).map_err(io::Error::other)?,
                Ok(count) => {
                    self.body = Some(body);
                    if self.skip > 0 {
                        self.skip -= count as u64;
                        continue;
                    }
                    self.position += count as u64;
                    return Ok(count);
                }
            }
        }
    }
}

/// Asks for all of a blob.
pub(super) fn blob_request<'a>(repository: &'a str, digest: &Digest) -> Get<'a> {
    Get {
        path: format!("/v2/{repository}/blobs/{digest}"),
        repository,
        what: format!("blob {digest}"),
        headers: HeaderMap::new(),
        head_only: false,
    }
}

/// Bytes of the whole of which `response` is all or a part, if it tells.
pub(super) fn size_of_whole(response: &Response) -> Option<u64> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT => span_of(response)?.1,
        _ => response.content_length(),
    }
}

fn span_of(response: &Response) -> Option<Span> {
    parse_content_range(response.headers().get(CONTENT_RANGE)?.to_str().ok()?)
}

/// `bytes FIRST-LAST/SIZE`, where the size may be `*`.
fn parse_content_range(text: &str) -> Option<Span> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    Some((first, if size == "*" { None } else { Some(size.parse().ok()?) }))
}

fn strong_etag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).filter(|value| value.as_bytes().starts_with(b"\"")).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes 5-9/x", None),
        ] {
            assert_eq!(parse_content_range(text), expected, "{text}");
        }
    }

    #[test]
    fn weak_validators_do_not_guard_ranges() {
        let with = |etag| HeaderMap::from_iter([(ETAG, HeaderValue::from_static(etag))]);
        assert_eq!(strong_etag(&with("\"a\"")), Some(HeaderValue::from_static("\"a\"")));
        assert_eq!(strong_etag(&with("W/\"a\"")), None);
        assert_eq!(strong_etag(&HeaderMap::new()), None);
    }
}
