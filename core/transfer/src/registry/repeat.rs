//! A session whose failed requests are repeated, and what answers are held to.

use std::time::Duration;

use reqwest::blocking::Response;
use udocker_core::digest::Digest;
use udocker_core::settings::RegistrySettings;

use super::body::Body;
use super::error::RegistryError;
use super::limits::pause;
use super::session::{Get, Session};
use crate::fetch::digest_of;

/// A registry as clients and their streams share it.
#[derive(Debug)]
pub(super) struct Repeating {
    pub(super) session: Session,
    pub(super) retries: u32,
    backoff: Duration,
}

impl Repeating {
    pub(super) fn new(settings: &RegistrySettings, session: Session) -> Self {
        Self { session, retries: settings.retries, backoff: settings.backoff }
    }

    /// A GET that is repeated until `finish` has made something of its answer.
    pub(super) fn get<T>(
        &self,
        get: &Get<'_>,
        finish: impl Fn(Response) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut attempt = 0;
        loop {
            let failed = match self.session.get(get).and_then(|response| Ok(finish(response)?)) {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            attempt += 1;
            if attempt > self.retries || !failed.error.is_worth_repeating() {
                return Err(failed.error);
            }
            // For as long as the registry asked for, else longer each time.
            std::thread::sleep(failed.wait.unwrap_or_else(|| self.pause(attempt)));
        }
    }

    pub(super) fn pause(&self, attempt: u32) -> Duration {
        pause(self.backoff, attempt)
    }

    pub(super) fn read_all(&self, response: Response, what: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
        Body::new(response, &self.session.transport.limits).read_all(&self.session.host, what, limit)
    }

    /// The digest of `bytes`, which is `expected` if there is one.
    pub(super) fn verify(&self, bytes: &[u8], expected: Option<Digest>) -> Result<Digest, RegistryError> {
        let Some(expected) = expected else { return Ok(Digest::sha256_of(bytes)) };
        let actual = digest_of(expected.algorithm(), bytes);
        if actual != expected {
            return Err(RegistryError::Digest { host: self.session.host.clone(), expected, actual });
        }
        Ok(expected)
    }
}
