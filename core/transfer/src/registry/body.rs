//! The bodies of answers: a rate below which they have stalled, and the documents that are read whole.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use reqwest::blocking::Response;

use super::error::RegistryError;
use super::limits::Limits;

/// A body that notices when it comes too slowly.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    limits: Limits,
    waited: Duration,
    got: u64,
}

/// Why a body ended early.
#[derive(Debug)]
pub(super) enum Broken {
    Stalled,
    Off,
}

impl Body {
    pub(super) fn new(response: Response, limits: &Limits) -> Self {
        Self { response, limits: limits.clone(), waited: Duration::ZERO, got: 0 }
    }

    /// As [`Read::read`]; silence ends after [`Limits::silence`], too slow a body within two windows.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        let count = loop {
            let before = Instant::now();
            let result = self.response.read(buffer);
            self.waited += before.elapsed();
            match result {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(Broken::Stalled),
                Err(_) => return Err(Broken::Off),
            }
        };
        self.got += count as u64;
        if self.waited >= self.limits.window {
            let enough = u128::from(self.limits.slowest) * self.waited.as_millis();
            if count > 0 && u128::from(self.got) * 1000 < enough {
                return Err(Broken::Stalled);
            }
            (self.waited, self.got) = (Duration::ZERO, 0);
        }
        Ok(count)
    }

    /// All of it, at most `limit` bytes.
    ///
    /// # Errors
    /// [`RegistryError::TooLarge`] without reading more than one byte beyond; [`RegistryError::Stalled`] and
    /// [`RegistryError::Truncated`].
    pub(super) fn read_all(mut self, host: &str, what: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let too_large = || RegistryError::TooLarge { host: host.to_owned(), what: what.to_owned(), limit };
        let size = self.response.content_length();
        if size.is_some_and(|size| size > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(broken) => return Err(self.explain(broken, host, what, bytes.len() as u64, size)),
            }
            if bytes.len() as u64 > limit {
                return Err(too_large());
            }
        }
        Ok(bytes)
    }

    /// What `broken` means after `got` bytes of `size`.
    pub(super) fn explain(&self, broken: Broken, host: &str, what: &str, got: u64, size: Option<u64>) -> RegistryError {
        let (host, what) = (host.to_owned(), what.to_owned());
        match broken {
            Broken::Stalled => {
                RegistryError::Stalled { host, what, got, slowest: self.limits.slowest, window: self.limits.window }
            }
            Broken::Off => RegistryError::Truncated { host, what, got, size },
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
        || error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<reqwest::Error>())
            .is_some_and(reqwest::Error::is_timeout)
}
