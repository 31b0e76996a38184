//! Writing bytes that came from outside: hexadecimal, and one reversible escape for texts that need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Lower-case hexadecimal digits of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
    out
}

/// 16 hexadecimal digits that differ where texts do, but for one pair in 2^64: for names of files of one user, who harms
/// himself alone by finding that pair. Programs of two releases may disagree, and then do not find each other's files.
pub fn short_hash(text: &[u8]) -> String {
    // Its keys are fixed, and it needs no look at what the processor can do, as SHA-256 does.
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    to_hex(&hasher.finish().to_be_bytes())
}

/// `bytes` on one printable line: `%`, blanks, control characters and what is not UTF-8 become `%XX`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() || character.is_whitespace() {
                let mut buffer = [0; 4];
                character.encode_utf8(&mut buffer).bytes().for_each(|b| push_escaped(&mut out, b));
            } else {
                out.push(character);
            }
        }
        chunk.invalid().iter().for_each(|b| push_escaped(&mut out, *b));
    }
    out
}

/// `text` for a terminal: control characters but ends of lines and tabs are written as escapes.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => out.push(character),
            _ if character.is_control() => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

/// The inverse of [`escape`]; `None` if a `%` is not followed by two hexadecimal digits.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = (bytes.next()? as char).to_digit(16)?;
            let low = (bytes.next()? as char).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

fn push_escaped(out: &mut String, byte: u8) {
    out.push('%');
    out.push_str(&to_hex(&[byte]));
}

/// Serde for `OsString`s as escaped text (`#[serde(with = "text::os")]`).
pub mod os {
    use super::*;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the escaped text.
    pub fn serialize<S: Serializer, T: AsRef<OsStr>>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::percent(value.as_ref().as_bytes()))
    }
    /// Reads the escaped text.
    pub fn deserialize<'de, D: Deserializer<'de>, T: From<OsString>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = unescape(&text).ok_or_else(|| D::Error::custom("a `%` without two hexadecimal digits"))?;
        Ok(T::from(OsString::from_vec(bytes)))
    }
}

/// Serde for lists of `OsString`s as escaped texts (`#[serde(with = "text::os_list")]`).
pub mod os_list {
    use super::*;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the escaped texts.
    pub fn serialize<S: Serializer>(value: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(|v| super::percent(v.as_bytes())))
    }
    /// Reads the escaped texts.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OsString>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let bytes: Option<Vec<_>> = texts.iter().map(|t| unescape(t).map(OsString::from_vec)).collect();
        bytes.ok_or_else(|| D::Error::custom("a `%` without two hexadecimal digits"))
    }
}

/// Like [`escape`], but blanks stay: for JSON, where only `%` and what is not UTF-8 need it.
fn percent(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' { push_escaped(&mut out, b'%') } else { out.push(character) }
        }
        chunk.invalid().iter().for_each(|b| push_escaped(&mut out, *b));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escape_round_trips_and_is_one_word(bytes: Vec<u8>) {
            let text = escape(&bytes);
            prop_assert!(!text.contains(char::is_whitespace));
            prop_assert_eq!(unescape(&text), Some(bytes.clone()));
            prop_assert_eq!(unescape(&percent(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        assert_eq!(printable("a\u{1b}[31m\u{9b}b\r\n\té"), "a\\u{1b}[31m\\u{9b}b\\r\n\té");
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert_eq!(unescape("a%2"), None);
        assert_eq!(unescape("%zz"), None);
    }
}
