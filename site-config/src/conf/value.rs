//! One value of udocker.conf: a bare or quoted text, or Python's (and JSON's) writing of lists and tables.

use std::ffi::OsString;

/// See the module's head. Numbers, `True` and `None` are texts that the key's type reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A text, without its quotes. Bytes, as a variable's value need not be UTF-8.
    Text(OsString),
    /// `("a", "b",)` or `["a", "b"]`.
    List(Vec<Value>),
    /// `{"a": "b"}`.
    Table(Vec<(String, Value)>),
}

impl Value {
    /// Reads what stands behind the `=`. A comment may follow a closing quote or bracket. A bracket that begins no list
    /// (as in `[::1]:5000`) begins a text.
    ///
    /// # Errors
    /// What is wrong: a quote without its end.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const OPEN: &str = "a quote that ends on the same line, before a comment";
        let text = text.trim();
        match text.chars().next() {
            Some('"' | '\'') => whole(text).ok_or(OPEN),
            Some('(' | '[' | '{') => Ok(whole(text).unwrap_or_else(|| Self::Text(text.into()))),
            _ => Ok(Self::Text(text.into())),
        }
    }
    /// The text; `None` for a list and for bytes that are not UTF-8.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.to_str(),
            _ => None,
        }
    }
    /// The texts of a list; a bare text is split at commas if it has some, else at blanks.
    pub(crate) fn texts(&self) -> Option<Vec<String>> {
        match self {
            Self::List(list) => list.iter().map(|item| item.text().map(str::to_owned)).collect(),
            Self::Table(_) => None,
            Self::Text(_) => {
                let text = self.text()?;
                let words: Vec<&str> = match text.contains(',') {
                    true => text.split(',').map(str::trim).collect(),
                    false => text.split_whitespace().collect(),
                };
                let plain = !text.starts_with(['(', '[', '{']);
                plain.then(|| words.into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect())
            }
        }
    }
}

/// A literal that is all of `text`, but for a comment.
fn whole(text: &str) -> Option<Value> {
    let (value, rest) = literal(text, 0)?;
    let rest = rest.trim_start();
    (rest.is_empty() || rest.starts_with(['#', ';'])).then_some(value)
}

/// Lists within lists go no deeper than this.
const MAX_DEPTH: usize = 8;

/// The literal at the beginning of `text`, and what is behind it.
fn literal(text: &str, depth: usize) -> Option<(Value, &str)> {
    let text = text.trim_start();
    let first = text.chars().next().filter(|_| depth < MAX_DEPTH)?;
    match first {
        '"' | '\'' => quoted(&text[1..], first).map(|(text, rest)| (Value::Text(text.into()), rest)),
        '(' | '[' => {
            let close = if first == '(' { ')' } else { ']' };
            let (items, rest) = items(&text[1..], close, |text| literal(text, depth + 1))?;
            Some((Value::List(items), rest))
        }
        '{' => {
            let (items, rest) = items(&text[1..], '}', |text| {
                let (key, rest) = literal(text, depth + 1)?;
                let (value, rest) = literal(rest.trim_start().strip_prefix(':')?, depth + 1)?;
                Some(((key.text()?.to_owned(), value), rest))
            })?;
            Some((Value::Table(items), rest))
        }
        // True, None, 12
        _ => {
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(text.len());
            (end > 0).then(|| (Value::Text(text[..end].into()), &text[end..]))
        }
    }
}

/// Items with commas between them and perhaps one behind the last, up to `close`.
fn items<T>(text: &str, close: char, mut item: impl FnMut(&str) -> Option<(T, &str)>) -> Option<(Vec<T>, &str)> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix(close) {
            return Some((out, rest));
        }
        let (value, after) = item(rest)?;
        out.push(value);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.starts_with(close) => after,
            None => return None,
        };
    }
}

/// A text up to the quote `end`, with the escapes that Python and JSON share, and what is behind it.
fn quoted(text: &str, end: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == end => return Some((out, &text[at + 1..])),
            '\n' => return None,
            '\\' => match characters.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other if "\\'\"/".contains(other) => out.push(other),
                other => out.extend(['\\', other]),
            },
            _ => out.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }
    fn list(items: &[&str]) -> Value {
        Value::List(items.iter().map(|item| text(item)).collect())
    }

    #[test]
    fn values_as_users_write_them() {
        for (written, expected) in [
            ("", text("")),
            ("plain text # all of it", text("plain text # all of it")),
            (r#""quoted""#, text("quoted")),
            (r#""a \"b\" \\ \d"  # comment"#, text(r#"a "b" \ \d"#)),
            (r#"("/dev", "/proc",)"#, list(&["/dev", "/proc"])),
            ("[ 'bash',\n'-i' ] ; comment", list(&["bash", "-i"])),
            ("[1, True, None]", list(&["1", "True", "None"])),
            ("()", list(&[])),
            ("[::1]:5000", text("[::1]:5000")),
            ("(open", text("(open")),
            (
                r#"{"docker.io": ["https://r", "https://i"], 'x': "y",}"#,
                Value::Table(vec![("docker.io".into(), list(&["https://r", "https://i"])), ("x".into(), text("y"))]),
            ),
        ] {
            assert_eq!(Value::parse(written), Ok(expected), "{written}");
        }
        for written in ["\"open", "'it''", "\"a\" b", "\"a\nb\""] {
            assert!(Value::parse(written).is_err(), "{written}");
        }
        assert_eq!(Value::parse(&"[".repeat(100_000)), Ok(text(&"[".repeat(100_000))));
    }

    #[test]
    fn lists_need_no_brackets() {
        for (written, expected) in [
            ("/dev /proc", Some(&["/dev", "/proc"][..])),
            ("/a b, /c,", Some(&["/a b", "/c"])),
            ("['x y']", Some(&["x y"])),
            ("'x y'", Some(&["x", "y"])),
            ("", Some(&[])),
            ("('a' 'b')", None),
            ("{'a': 'b'}", None),
            ("[['a']]", None),
        ] {
            let expected = expected.map(|words| words.iter().map(|word| word.to_string()).collect::<Vec<_>>());
            assert_eq!(Value::parse(written).unwrap().texts(), expected, "{written}");
        }
    }
}
