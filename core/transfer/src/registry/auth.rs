//! What a registry wants of who asks: the challenge of RFC 9110, section 11; and the type of what must not be shown.

use std::collections::HashMap;
use std::fmt;

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

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
