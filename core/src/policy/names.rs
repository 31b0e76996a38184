//! Names as policy compares them: one spelling for each registry and repository, and globs over whole components.

use std::fmt;

use crate::env_vars::matches;
use crate::reference::{DEFAULT_REGISTRY, ImageReference, RegistryHost, is_docker_hub};

/// A registry in the one spelling that policy knows: lower case, without the port of https, `docker.io` for all names of
/// Docker Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName(String);

impl RegistryName {
    /// Of a host as it was typed.
    pub fn of(host: &RegistryHost) -> Self {
        let text = host.as_str().to_ascii_lowercase();
        // Behind the bracket of an IPv6 address, else behind the name.
        let end = text.find(']').map_or(text.find(':'), |bracket| Some(bracket + 1)).unwrap_or(text.len());
        let (name, port) = text.split_at(end);
        let plain = match port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
            None | Some(443) => name.to_owned(),
            Some(port) => format!("{name}:{port}"),
        };
        match plain.parse() {
            Ok(host) if is_docker_hub(&host) => Self(DEFAULT_REGISTRY.into()),
            _ => Self(plain),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `REGISTRY/REPOSITORY` in the one spelling that policy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryName {
    /// Whose.
    pub registry: RegistryName,
    /// Which.
    repository: String,
}

impl RepositoryName {
    /// What `reference` names if `default` is the registry of names without a host.
    pub fn of(reference: &ImageReference, default: &RegistryHost) -> Self {
        let registry = RegistryName::of(reference.registry(default));
        let mut repository = reference.repository(default);
        if registry.0 == DEFAULT_REGISTRY && !repository.contains('/') {
            repository.insert_str(0, "library/");
        }
        Self { registry, repository }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

/// A pattern of registries: `host[:port]`, in which `*` stands for any text within one label of the host's name and the
/// label `**` for any number of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryGlob(String);

impl RegistryGlob {
    /// `None` if `text` is no pattern of hosts.
    pub fn parse(text: &str) -> Option<Self> {
        // A star stands where a letter may: what is left must be a host.
        let host: RegistryHost = text.replace('*', "x").parse().ok()?;
        match text.contains('*') {
            true => Some(Self(text.to_ascii_lowercase())),
            false => Some(Self(RegistryName::of(&host).0)),
        }
    }
    /// Whether it stands for `registry`.
    pub fn matches(&self, registry: &RegistryName) -> bool {
        components_match(&self.0, &registry.0, '.')
    }
}

impl fmt::Display for RegistryGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern of repositories, `REGISTRY/NAME/…`: `*` stands for any text within one component, the component `**` for any
/// number of components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageGlob(String);

impl ImageGlob {
    /// `None` if `text` has a tag or a digest, an empty component, or begins with no registry.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "**" {
            return Some(Self(text.into()));
        }
        let (first, rest) = text.split_once('/')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-*".contains(&b);
        if !rest.split('/').all(|part| !part.is_empty() && part.bytes().all(plain)) {
            return None;
        }
        if first != "**" && first != "*" && first != "localhost" && !first.contains(['.', ':']) {
            return None;
        }
        let registry = match first {
            "*" | "**" => first.to_owned(),
            _ => RegistryGlob::parse(first)?.0,
        };
        // As a reference, which has two components there at least.
        let library = if registry == DEFAULT_REGISTRY && !rest.contains('/') && rest != "**" { "library/" } else { "" };
        Some(Self(format!("{registry}/{library}{rest}")))
    }
    /// Whether it stands for `name`.
    pub fn matches(&self, name: &RepositoryName) -> bool {
        components_match(&self.0, &name.to_string(), '/')
    }
}

/// Whether `pattern` stands for the whole of `text`, both cut at `separator`.
fn components_match(pattern: &str, text: &str, separator: char) -> bool {
    fn rest(pattern: &[&str], text: &[&str]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (["**", more @ ..], _) => (0..=text.len()).any(|taken| rest(more, &text[taken..])),
            ([first, more @ ..], [name, others @ ..]) => {
                matches(first.as_bytes(), name.as_bytes()) && rest(more, others)
            }
            _ => false,
        }
    }
    rest(&pattern.split(separator).collect::<Vec<_>>(), &text.split(separator).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_each_repository() {
        for (text, default, expected) in [
            ("alpine", "docker.io", "docker.io/library/alpine"),
            ("alpine:3@sha256:HEX", "docker.io", "docker.io/library/alpine"),
            ("docker://docker.io/alpine", "quay.io", "docker.io/library/alpine"),
            ("docker.io/library/alpine:3", "quay.io", "docker.io/library/alpine"),
            ("index.docker.io/alpine", "quay.io", "docker.io/library/alpine"),
            ("registry-1.docker.io/org/x", "quay.io", "docker.io/org/x"),
            ("Docker.IO/alpine", "quay.io", "docker.io/library/alpine"),
            ("docker.io:443/alpine", "quay.io", "docker.io/library/alpine"),
            ("Registry.Example:0443/team/x", "docker.io", "registry.example/team/x"),
            ("registry.example:05000/team/x", "docker.io", "registry.example:5000/team/x"),
            ("[::1]:443/x", "docker.io", "[::1]/x"),
            ("[2001:DB8::1]:5000/x", "docker.io", "[2001:db8::1]:5000/x"),
            ("team/x", "registry.example", "registry.example/team/x"),
            ("x", "registry.example", "registry.example/x"),
        ] {
            let text = text.replace("HEX", &"a".repeat(64));
            let name = RepositoryName::of(&text.parse().unwrap(), &default.parse().unwrap());
            assert_eq!(name.to_string(), expected, "{text} by {default}");
        }
    }

    #[test]
    fn globs_of_images_take_whole_components() {
        for (glob, image, expected) in [
            ("registry.example/team/*", "registry.example/team/x", true),
            ("registry.example/team/*", "registry.example/team/x/y", false),
            ("registry.example/team/*", "registry.example/team2/x", false),
            ("registry.example/team/*", "registry.example/team", false),
            ("registry.example/team/**", "registry.example/team/x/y", true),
            ("registry.example/**", "registry.example.evil.org/x", false),
            ("registry.example/**", "registry.example:5000/x", false),
            ("registry.example/tool-*", "registry.example/tool-a", true),
            ("registry.example/tool-*", "registry.example/tool", false),
            ("REGISTRY.example:443/x", "registry.example/x", true),
            ("*.example/**", "a.example/x", true),
            ("*/x", "a.example/x", true),
            ("**/x", "a.example/b/x", true),
            ("**", "a.example/b/x", true),
            ("docker.io/alpine", "alpine", true),
            ("docker.io/*", "alpine", true),
            ("docker.io/*", "org/alpine", false),
            ("docker.io/**", "org/alpine", true),
            ("index.docker.io/library/alpine", "alpine", true),
            ("localhost/x", "localhost/x", true),
        ] {
            let parsed = ImageGlob::parse(glob).unwrap_or_else(|| panic!("{glob}"));
            let name = RepositoryName::of(&image.parse().unwrap(), &DEFAULT_REGISTRY.parse().unwrap());
            assert_eq!(parsed.matches(&name), expected, "{glob} on {image}");
        }
        for glob in
            ["", "alpine", "team/*", "a.example/x:1", "a.example/x@sha256:0", "a.example//x", "a.example/", "a b/x"]
        {
            assert_eq!(ImageGlob::parse(glob), None, "{glob}");
        }
    }

    #[test]
    fn globs_of_registries_take_whole_labels() {
        for (glob, host, expected) in [
            ("docker.io", "registry-1.docker.io", true),
            ("registry-1.docker.io:443", "docker.io", true),
            ("*.example", "a.example", true),
            ("*.example", "example", false),
            ("*.example", "b.a.example", false),
            ("**.example", "b.a.example", true),
            ("*.example", "a.example.evil", false),
            ("*.example", "a.example:5000", false),
            ("*.example:5000", "a.example:5000", true),
            ("127.0.0.1:5000", "127.0.0.1:5001", false),
            ("EXAMPLE.org", "example.ORG", true),
        ] {
            let parsed = RegistryGlob::parse(glob).unwrap_or_else(|| panic!("{glob}"));
            assert_eq!(parsed.matches(&RegistryName::of(&host.parse().unwrap())), expected, "{glob} on {host}");
        }
        for glob in ["", "a/b", "https://a", "a b", "-a"] {
            assert_eq!(RegistryGlob::parse(glob), None, "{glob}");
        }
    }
}
