//! Image references: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`, parsed once, by hand.
//!
//! Grammar: `distribution/reference` (the Go package); defaults: Docker's (`docker.io`, `library/`, `latest`).
//! What the user typed as the name is kept beside what it means, since the store's directories carry the typed name.
//! A store takes more names than a registry, as udocker does (`import root.tar MyImage:1`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The registry of names without a host.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of references without tag and digest.
pub const DEFAULT_TAG: &str = "latest";
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// A registry's `host[:port]` (or `[v6]:port`), lower case as typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryHost(String);

impl RegistryHost {
    /// The text `host[:port]`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The host without a port and without brackets.
    pub fn host(&self) -> &str {
        if let Some(rest) = self.0.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        self.0.split(':').next().unwrap_or(&self.0)
    }
    /// Whether it is this machine (`localhost`, 127.0.0.0/8, `[::1]`): the only hosts that get plain http unasked.
    pub fn is_loopback(&self) -> bool {
        self.host() == "localhost" || self.host().parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for RegistryHost {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = || ReferenceError::Host(shown(text));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (None, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(bad)?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (Some(host), Some(port)),
                None => (Some(text), None),
            },
        };
        let label = |l: &str| {
            !l.is_empty()
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let host_ok = host.is_none_or(|host| host.len() <= 253 && host.split('.').all(label));
        let port_ok = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
        if host_ok && port_ok { Ok(Self(text.to_owned())) } else { Err(bad()) }
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an image lies and which one it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    name: String,
    host: Option<RegistryHost>,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A string is no image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("the image reference is empty")]
    Empty,
    /// An address of the interface that is still to come.
    #[error("images by `{0}` are not supported by this version")]
    NotBuilt(String),
    /// An address as other programs have them.
    #[error("`{0}` begins no address of an image: expected NAME[:TAG][@DIGEST], docker://NAME, or a path")]
    Address(String),
    /// The part before the first `/` looks like a host and is none.
    #[error("`{0}` is no registry host: expected host or host:port")]
    Host(String),
    /// The name has characters or an order that no store, or no registry, takes.
    #[error(
        "`{0}` is no image name: expected lower-case letters, digits and single `.`, `_`, `__`, `-` between them, in parts joined by `/`"
    )]
    Name(String),
    /// The name is longer than registries take.
    #[error("the image name `{0}` is longer than {MAX_NAME_BYTES} bytes")]
    TooLong(String),
    /// The text after `:` is no tag.
    #[error(
        "`{0}` is no tag: expected at most {MAX_TAG_BYTES} letters, digits, `_`, `.`, `-`, the first no `.` or `-`"
    )]
    Tag(String),
    /// The text after `@` is no digest.
    #[error(transparent)]
    Digest(#[from] crate::digest::DigestError),
}

impl ImageReference {
    /// The name as typed, with its host if one was typed: the directory below `repos/`.
    pub fn typed_name(&self) -> &str {
        &self.name
    }
    /// The host that was typed.
    pub fn typed_host(&self) -> Option<&RegistryHost> {
        self.host.as_ref()
    }
    /// The registry to ask: the typed host, else `default`.
    pub fn registry<'a>(&'a self, default: &'a RegistryHost) -> &'a RegistryHost {
        self.host.as_ref().unwrap_or(default)
    }
    /// The name within `registry`: on docker.io one-part names lie below `library/`.
    pub fn repository(&self, default: &RegistryHost) -> String {
        let rest = match &self.host {
            Some(host) => &self.name[host.0.len() + 1..],
            None => &self.name,
        };
        if is_docker_hub(self.registry(default)) && !rest.contains('/') {
            format!("library/{rest}")
        } else {
            rest.to_owned()
        }
    }
    /// The tag that was typed.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    /// The tag that counts: the typed one, or `latest` where no digest was given either.
    pub fn effective_tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some(DEFAULT_TAG),
            (None, Some(_)) => None,
        }
    }
    /// The digest that was typed; it wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
    /// What names the image in a registry's URL: the digest, else the tag.
    pub fn selector(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.effective_tag().unwrap_or(DEFAULT_TAG).to_owned(),
        }
    }
    /// Whether a registry can have it.
    ///
    /// # Errors
    /// [`ReferenceError::Name`] for a name that only a store takes.
    pub fn check_for_registry(&self) -> Result<(), ReferenceError> {
        let path = self.host.as_ref().map_or(self.name.as_str(), |host| &self.name[host.0.len() + 1..]);
        match path.split('/').all(is_name_part) {
            true => Ok(()),
            false => Err(ReferenceError::Name(shown(&self.name))),
        }
    }
    /// The same name with another digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { name: self.name.clone(), host: self.host.clone(), tag: None, digest: Some(digest) }
    }
}

/// Whether `host` is Docker Hub under one of its names.
pub fn is_docker_hub(host: &RegistryHost) -> bool {
    matches!(host.as_str(), "docker.io" | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com")
}

impl FromStr for ImageReference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        Self::parse(text).map_err(|error| of_address(text).unwrap_or(error))
    }
}

/// What begins addresses elsewhere, without `//` behind it: in a name that is none it is no host and no name.
const TRANSPORTS: [&str; 6] = ["containers-storage", "dir", "docker-archive", "docker-daemon", "oci", "oci-archive"];

/// Why `text`, which is no reference, is none, if it looks like an address.
fn of_address(text: &str) -> Option<ReferenceError> {
    let (scheme, rest) = text.split_once(':')?;
    match (scheme, rest.starts_with("//")) {
        ("oci" | "site", true) => Some(ReferenceError::NotBuilt(format!("{scheme}://"))),
        (_, true) => Some(ReferenceError::Address(shown(scheme) + "://")),
        (_, false) => TRANSPORTS.contains(&scheme).then(|| ReferenceError::Address(format!("{scheme}:"))),
    }
}

impl ImageReference {
    fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A `:` belongs to the tag only behind the last `/`; before it, to the host.
        let slash = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[slash..].find(':') {
            Some(i) => (&rest[..slash + i], Some(&rest[slash + i + 1..])),
            None => (rest, None),
        };
        if name.len() > MAX_NAME_BYTES {
            return Err(ReferenceError::TooLong(shown(name)));
        }
        let (host, path) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (Some(first.parse()?), path),
            _ => (None, name),
        };
        if !path.split('/').all(is_stored_part) {
            return Err(ReferenceError::Name(shown(name)));
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag(shown(tag)));
        }
        Ok(Self { name: name.to_owned(), host, tag: tag.map(Into::into), digest })
    }
}

/// What udocker takes below `repos/`: letters, digits, `.`, `_`, `-`, the first a letter or a digit.
fn is_stored_part(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    part.bytes().next().is_some_and(plain) && part.bytes().all(|b| plain(b) || b"._-".contains(&b))
}

/// What registries take: `[a-z0-9]+` joined by `.`, `_`, `__` or dashes.
fn is_name_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    plain(first)
        && plain(last)
        && bytes.iter().all(|b| plain(b) || b"._-".contains(b))
        && bytes
            .split(plain)
            .all(|joint| matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !tag.is_empty()
        && tag.len() <= MAX_TAG_BYTES
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn shown(text: &str) -> String {
    text.chars().take(300).flat_map(char::escape_default).collect()
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = self.effective_tag() {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hub() -> RegistryHost {
        DEFAULT_REGISTRY.parse().unwrap()
    }

    #[test]
    fn what_a_reference_means() {
        let hex = "a".repeat(64);
        for (text, registry, repository, selector, shown) in [
            ("alpine", "docker.io", "library/alpine", "latest", "alpine:latest"),
            ("docker://alpine:3.20", "docker.io", "library/alpine", "3.20", "alpine:3.20"),
            ("docker.io/alpine", "docker.io", "library/alpine", "latest", "docker.io/alpine:latest"),
            ("org/tool:v1", "docker.io", "org/tool", "v1", "org/tool:v1"),
            ("localhost/x", "localhost", "x", "latest", "localhost/x:latest"),
            ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000", "a/b", "t", "127.0.0.1:5000/a/b:t"),
            ("[::1]:5000/a", "[::1]:5000", "a", "latest", "[::1]:5000/a:latest"),
            ("host:80/a__b/c.d-e", "host:80", "a__b/c.d-e", "latest", "host:80/a__b/c.d-e:latest"),
        ] {
            let reference: ImageReference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.registry(&hub()).as_str(), registry, "{text}");
            assert_eq!(reference.repository(&hub()), repository, "{text}");
            assert_eq!(reference.selector(), selector, "{text}");
            assert_eq!(reference.to_string(), shown, "{text}");
        }
        let pinned: ImageReference = format!("alpine:3@sha256:{hex}").parse().unwrap();
        assert_eq!(pinned.selector(), format!("sha256:{hex}"));
        assert_eq!((pinned.tag(), pinned.to_string()), (Some("3"), format!("alpine:3@sha256:{hex}")));
        let only_digest: ImageReference = format!("alpine@sha256:{hex}").parse().unwrap();
        assert_eq!((only_digest.effective_tag(), only_digest.to_string()), (None, format!("alpine@sha256:{hex}")));
    }

    #[test]
    fn what_is_no_reference() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a b",
            "a:",
            "a:.x",
            "a:x/y",
            "a@",
            "a@sha256:00",
            "-a",
            "host:99999/a",
            "ho_st.x/a",
            "[::1/a",
            "../../etc",
            "a/../b",
            "a:x@md5:00",
            "a\0b",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
        assert!("a".repeat(256).parse::<ImageReference>().is_err());
        assert!(format!("a:{}", "t".repeat(129)).parse::<ImageReference>().is_err());
    }

    #[test]
    fn addresses_of_other_kinds_are_refused_by_name() {
        let refused = |text: &str| text.parse::<ImageReference>().unwrap_err().to_string();
        for text in ["oci:///dir:1", "oci://x", "site://x/y"] {
            let scheme = text.split_once("://").unwrap().0;
            assert_eq!(refused(text), format!("images by `{scheme}://` are not supported by this version"));
        }
        for (text, scheme) in [
            ("https://host.example/a", "https://"),
            ("oras://a:1", "oras://"),
            ("docker://docker://a", "docker://"),
            ("docker-daemon:a/b:1", "docker-daemon:"),
            ("oci-archive:/a.tar", "oci-archive:"),
        ] {
            let expected = "begins no address of an image: expected NAME[:TAG][@DIGEST], docker://NAME, or a path";
            assert_eq!(refused(text), format!("`{scheme}` {expected}"));
        }
        // They are names as well.
        for text in ["oci:1", "docker-daemon:a", "oci:5000/a"] {
            assert!(text.parse::<ImageReference>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_store_takes_more_names_than_a_registry() {
        for name in ["Alpine", "IMPORTED", "a-", "a..b", "a___b", "org/Tool"] {
            let reference: ImageReference = name.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(reference.typed_name(), name);
            assert_eq!(reference.check_for_registry(), Err(ReferenceError::Name(name.into())));
        }
        for name in ["alpine", "host:80/a__b/c.d-e", "localhost/x--y"] {
            assert_eq!(name.parse::<ImageReference>().unwrap().check_for_registry(), Ok(()), "{name}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [
            ("localhost:1", true),
            ("127.9.9.9", true),
            ("[::1]:5", true),
            ("127.0.0.1.evil.org", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(host.parse::<RegistryHost>().unwrap().is_loopback(), expected, "{host}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "[a-z0-9._:/@-]{0,40}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse::<ImageReference>().unwrap().to_string(), reference.to_string());
                prop_assert!(!reference.typed_name().split('/').any(|p| p == ".." || p == "." || p.is_empty()));
            }
        }
    }
}
