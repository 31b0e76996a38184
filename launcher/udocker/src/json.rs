//! JSON as Python's `json.dumps(…, sort_keys=True, indent=4)` prints it, which is what udocker's users parse.

use serde::Serialize;
use serde_json::Value;

/// Sorted keys, four blanks, and everything outside printable ASCII as `\uXXXX`.
pub fn python_style(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).expect("a JSON value serialises into memory");
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    let mut ascii = String::with_capacity(text.len());
    let mut units = [0; 2];
    for c in text.chars() {
        if c <= '~' {
            ascii.push(c);
        } else {
            c.encode_utf16(&mut units).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}")));
        }
    }
    ascii.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_python_prints_it() {
        let value = serde_json::json!({"b": [], "a": {"é": "😀\u{7f}\n\"\u{1}", "n": null}, "c": [1, true], "d": {}});
        let expected = concat!(
            "{\n    \"a\": {\n        \"n\": null,\n        \"\\u00e9\": \"\\ud83d\\ude00\\u007f\\n\\\"\\u0001\"\n    },\n",
            "    \"b\": [],\n    \"c\": [\n        1,\n        true\n    ],\n    \"d\": {}\n}"
        );
        assert_eq!(String::from_utf8(python_style(&value)).unwrap(), expected);
    }
}
