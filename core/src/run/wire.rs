//! A request on its way from one process to another: JSON in an environment variable. Who reads it trusts nothing in it.

use std::ffi::{OsStr, OsString};

use serde::Deserialize;

use super::options::check_image;
use super::{EnvSpec, MountSpec, RunRequest};
use crate::env_vars;
use crate::error::{ErrorKind, Explain};

/// The longest request, bytes: a variable of 128 KiB would keep a job from being started.
pub const MAX_REQUEST_BYTES: usize = 32 << 10;

/// A request cannot be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Beyond [`MAX_REQUEST_BYTES`].
    #[error("the request has {0} bytes, and {MAX_REQUEST_BYTES} is the most")]
    TooLong(usize),
    /// Paths that are not UTF-8.
    #[error("the request cannot be written")]
    NotWritten(#[source] serde_json::Error),
    /// Not what [`RunRequest::to_json`] writes.
    #[error("the request cannot be read")]
    NotRead(#[source] serde_json::Error),
    /// Of another version of ours.
    #[error("the request is of version {0}, and this program reads version {own}", own = RunRequest::VERSION)]
    Version(u32),
    /// A value that no option gives.
    #[error("the request holds what no option gives: `{0}`")]
    Impossible(String),
}

impl Explain for RequestError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hints(&self) -> Vec<String> {
        vec![
            match self {
                Self::TooLong(_) => "put variables into a file in the image or in the home directory",
                Self::NotWritten(_) => "use paths that are UTF-8",
                Self::Version(_) => "the plugin and `udocker-launch` must come from one release of udocker",
                Self::NotRead(_) | Self::Impossible(_) => {
                    "do not set SLURM_UDOCKER_REQUEST or UDOCKER_REQUEST; the job's options make it"
                }
            }
            .into(),
        ]
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl RunRequest {
    /// The bytes that another process reads by [`Self::from_json`].
    ///
    /// # Errors
    /// [`RequestError::TooLong`], [`RequestError::NotWritten`].
    pub fn to_json(&self) -> Result<String, RequestError> {
        let text = serde_json::to_string(self).map_err(RequestError::NotWritten)?;
        if text.len() > MAX_REQUEST_BYTES { Err(RequestError::TooLong(text.len())) } else { Ok(text) }
    }

    /// Reads what [`Self::to_json`] wrote, and what somebody may have made of it since.
    ///
    /// # Errors
    /// [`RequestError`], also for values that no option gives.
    pub fn from_json(text: &[u8]) -> Result<Self, RequestError> {
        if text.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong(text.len()));
        }
        let versioned: Versioned = serde_json::from_slice(text).map_err(RequestError::NotRead)?;
        if versioned.version != Self::VERSION {
            return Err(RequestError::Version(versioned.version));
        }
        let request: Self = serde_json::from_slice(text).map_err(RequestError::NotRead)?;
        match request.impossible() {
            Some(what) => Err(RequestError::Impossible(what)),
            None => Ok(request),
        }
    }

    /// The first value that no option gives: each is what its own text reads as.
    fn impossible(&self) -> Option<String> {
        let read_again = |mount: &&MountSpec| mount.to_string().parse().ok().as_ref() == Some(*mount);
        let is_entry = |entry: &&EnvSpec| EnvSpec::parse(&text_of(entry)).ok().as_ref() == Some(*entry);
        let image = (!self.image.is_empty() && check_image(&self.image).is_err()).then(|| self.image.clone());
        let mount = || self.mounts.iter().find(|mount| !read_again(mount)).map(ToString::to_string);
        let entry = || self.env.iter().find(|entry| !is_entry(entry)).map(ToString::to_string);
        let user = || self.user.as_ref().map(ToString::to_string).filter(|text| text.parse().ok() != self.user);
        let write = || self.write.as_ref().map(ToString::to_string).filter(|text| text.parse().ok() != self.write);
        let verbose = || (self.verbose > 3).then(|| self.verbose.to_string());
        image.or_else(mount).or_else(entry).or_else(user).or_else(write).or_else(verbose)
    }

    /// Whether a process with the environment `env` is of the job that the request names, or the request names none.
    pub fn is_for(&self, env: &[(OsString, OsString)]) -> bool {
        let Some(job) = &self.job else { return true };
        env.iter().any(|(name, value)| name == env_vars::SLURM_JOB_ID && value == OsStr::new(job))
    }
}

fn text_of(entry: &EnvSpec) -> OsString {
    match entry {
        EnvSpec::Host(name) => name.into(),
        EnvSpec::Set { name, value } => {
            let mut text = name.clone();
            text.push("=");
            text.push(value);
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::pairs;
    use crate::run::{UserSpec, WriteSpec};

    fn request() -> RunRequest {
        RunRequest {
            mounts: vec!["/a:/b:ro".parse().unwrap(), "tmpfs:/t:size=1M".parse().unwrap()],
            env: vec!["A=b=%".parse().unwrap(), "SLURM_*".parse().unwrap()],
            write: Some(WriteSpec::Directory("/w".into())),
            job: Some("5".into()),
            verbose: 1,
            ..RunRequest::of_job("docker.io/library/alpine:3.19")
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = request().to_json().unwrap();
        assert_eq!(RunRequest::from_json(text.as_bytes()).unwrap(), request());
        assert!(
            RunRequest::of_job("i").to_json().unwrap().ends_with(",\"job\":null}"),
            "task-prolog.sh knows it by this"
        );
    }

    #[test]
    fn what_no_option_gives_is_refused() {
        let json = |change: fn(&mut RunRequest)| {
            let mut request = request();
            change(&mut request);
            RunRequest::from_json(request.to_json().unwrap().as_bytes()).unwrap_err().to_string()
        };
        let impossible = |what: &str| format!("the request holds what no option gives: `{what}`");
        assert_eq!(json(|request| request.image = "a b".into()), impossible("a b"));
        assert_eq!(json(|request| request.mounts[0].target = "/".into()), impossible("/a:/:ro"));
        assert_eq!(json(|request| request.mounts[0].source = Some("a".into())), impossible("a:/b:ro"));
        assert_eq!(json(|request| request.env[1] = EnvSpec::Host("A=1".into())), impossible("A=1"));
        assert_eq!(json(|request| request.user = Some(UserSpec::Named("a b".into()))), impossible("a b"));
        assert_eq!(json(|request| request.write = Some(WriteSpec::Directory("w".into()))), impossible("dir:w"));
        assert_eq!(json(|request| request.verbose = 4), impossible("4"));
        assert_eq!(
            json(|request| request.version = 2),
            "the request is of version 2, and this program reads version 1"
        );
        for text in ["", "{}", "[]", "{\"version\":1}", "null"] {
            let error = RunRequest::from_json(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "the request cannot be read", "{text}");
        }
        let unknown = request().to_json().unwrap().replacen('{', "{\"x\":1,", 1);
        assert!(matches!(RunRequest::from_json(unknown.as_bytes()), Err(RequestError::NotRead(_))));
    }

    #[test]
    fn long_ones_are_neither_sent_nor_read() {
        let long = RunRequest { unset_env: vec!["x".repeat(MAX_REQUEST_BYTES)], ..request() };
        assert!(matches!(long.to_json(), Err(RequestError::TooLong(_))));
        let text = vec![b' '; MAX_REQUEST_BYTES + 1];
        assert!(matches!(RunRequest::from_json(&text), Err(RequestError::TooLong(_))));
    }

    #[test]
    fn a_request_is_for_its_job() {
        assert!(request().is_for(&pairs(&[("SLURM_JOB_ID", "5")])));
        assert!(!request().is_for(&pairs(&[("SLURM_JOB_ID", "6")])));
        assert!(!request().is_for(&[]));
        assert!(RunRequest { job: None, ..request() }.is_for(&[]));
    }
}
