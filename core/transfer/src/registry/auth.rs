//! Logging in: the challenge of RFC 9110, section 11, and udocker's keystore.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine as _;
use serde::Deserialize;
use udocker_core::reference::{RegistryHost, is_docker_hub};

/// A text that never shows itself.
#[derive(Clone)]
pub(super) struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a registry wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Reads a WWW-Authenticate value: a scheme, then `name=value` or `name="value"`, separated by commas.
pub(super) fn parse_challenge(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut values: HashMap<String, String> = HashMap::new();
    while !rest.trim().is_empty() {
        let (name, after) = rest.trim_start_matches([',', ' ']).split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut characters = quoted.char_indices();
                let end = loop {
                    match characters.next()? {
                        (at, '"') => break at + 1,
                        (_, '\\') => value.push(characters.next()?.1),
                        (_, other) => value.push(other),
                    }
                };
                (value, &quoted[end..])
            }
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        values.insert(name.trim().to_ascii_lowercase(), value);
        rest = after;
    }
    let realm = values.remove("realm")?;
    Some(Challenge::Bearer { realm, service: values.remove("service"), scope: values.remove("scope") })
}

#[derive(Deserialize)]
struct Stored {
    auth: String,
}

/// User and password for `host` from the keystore, as `user:password`; `None` if there are none.
///
/// # Errors
/// In words, if the file is there and may not be used.
pub(super) fn credentials(keystore: &Path, host: &RegistryHost) -> Result<Option<Secret>, String> {
    let shown = keystore.display();
    let status = match fs::metadata(keystore) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| format!("cannot read {shown}: {error}"))?,
    };
    if status.mode() & 0o077 != 0 {
        return Err(format!("{shown} holds passwords and others may read it; `chmod 600 {shown}` mends that"));
    }
    let bytes = fs::read(keystore).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let entries: HashMap<String, Stored> =
        serde_json::from_slice(&bytes).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let found = entries.into_iter().find(|(url, _)| {
        let rest = url.strip_prefix("https://").or(url.strip_prefix("http://")).unwrap_or(url);
        let key = rest.split('/').next().unwrap_or(rest);
        key == host.as_str() || key.parse::<RegistryHost>().is_ok_and(|key| is_docker_hub(&key) && is_docker_hub(host))
    });
    let Some((_, Stored { auth })) = found else { return Ok(None) };
    let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim());
    let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(|text| Some(Secret(text))).ok_or_else(|| format!("{shown} has an entry for {host} that is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#,
                bearer("https://a/t", Some("s"), Some("repository:x:pull,push")),
            ),
            (r#"bearer realm=https://a/t, service="a\"b""#, bearer("https://a/t", Some("a\"b"), None)),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("Negotiate", None),
            (r#"Bearer realm="open"#, None),
            (r#"Bearer service="s""#, None),
        ] {
            assert_eq!(parse_challenge(text), expected, "{text}");
        }
    }
}
